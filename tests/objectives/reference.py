"""Straightforward versions of the published losses, as their papers write them (float64 only)."""

import torch
from torch import nn


def trades_reference(clean, adversarial, y, beta):
    kl = nn.KLDivLoss(reduction="sum")(adversarial.log_softmax(1), clean.softmax(1)) / len(y)
    return nn.functional.cross_entropy(clean, y) + beta * kl


def mart_reference(clean, adversarial, y, beta):
    total = 0.0
    for z, z_adv, label in zip(clean, adversarial, y, strict=True):
        p, q = z.softmax(0), z_adv.softmax(0)
        wrong = max((q[k] for k in range(len(q)) if k != label), key=lambda q: q.item())
        boosted = -q[label].log() - (1 - wrong).log()
        total = total + boosted + beta * (p * (p / q).log()).sum() * (1 - p[label])
    return total / len(y)


def two_views(n=6, classes=4, dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(n, 5, generator=generator, dtype=torch.float64)
    x_adv = x + 0.3 * torch.randn(n, 5, generator=generator, dtype=torch.float64)
    y = torch.randint(classes, (n,), generator=generator)
    return x.to(dtype), x_adv.to(dtype), y


def linear(classes=4, dtype=torch.float64, seed=1, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    model = nn.Linear(5, classes, dtype=torch.float64)
    with torch.no_grad():
        model.weight.copy_(scale * torch.randn(classes, 5, generator=generator, dtype=torch.float64))
        model.bias.copy_(scale * torch.randn(classes, generator=generator, dtype=torch.float64))
    return model.to(dtype)
