"""Our attacks against those of torchattacks and foolbox, run by these packages themselves and through the bridges."""

import foolbox
import pytest
import torch
import torch.nn.functional as F
import torchattacks
from torch import nn

from lightning_robust.attacks import L2, PGD, Linf, fgsm
from lightning_robust.interop import from_foolbox, from_torchattacks


def smooth_network(dtype: torch.dtype = torch.float64, classes: int = 6) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.Softplus(), nn.Conv2d(8, 8, 3, stride=2), nn.Softplus()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(72, classes)).to(dtype).eval()


def images(low: float, high: float, n: int = 12, classes: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    x = torch.rand(n, 3, 9, 9, generator=generator, dtype=torch.float64) * (high - low) + low
    return x, torch.randint(classes, (n,), generator=generator)


def loss_of(net: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return F.cross_entropy(net(x), y, reduction="none")


def by_foolbox(attack, net, x, y, eps):
    return attack(foolbox.PyTorchModel(net, bounds=(0, 1), device="cpu"), x, y, epsilons=eps)[1]


def linf_pgd(package, net, x, y, eps, step, steps):
    if package == "torchattacks":
        return torchattacks.PGD(net, eps=eps, alpha=step, steps=steps, random_start=False)(x, y)
    attack = foolbox.attacks.LinfPGD(abs_stepsize=step, steps=steps, random_start=False)
    return by_foolbox(attack, net, x, y, eps)


packages = pytest.mark.parametrize("package", ["torchattacks", "foolbox"])


@packages
@pytest.mark.parametrize(("low", "high"), [(0.4, 0.6), (0.0, 1.0), (0.0, 0.02)])  # on its border the range cuts steps
def test_pgd_linf_is_theirs(package, low, high):
    net, (x, y) = smooth_network(), images(low, high)
    ours = PGD(Linf(8 / 255), steps=10, rel_step_size=0.25, random_start=False)(net, x, y)
    assert (ours - linf_pgd(package, net, x, y, 8 / 255, 2 / 255, 10)).abs().max() < 1e-5
    assert (ours - x).abs().max() > 7.9 / 255


def test_pgd_l2_is_theirs():
    net, (x, y) = smooth_network(), images(0.4, 0.6)
    ours = PGD(L2(0.5), steps=10, rel_step_size=0.2, random_start=False)(net, x, y)
    attack = foolbox.attacks.L2PGD(abs_stepsize=0.1, steps=10, random_start=False)
    assert (ours - by_foolbox(attack, net, x, y, 0.5)).abs().max() < 1e-5
    theirs = torchattacks.PGDL2(net, eps=0.5, alpha=0.1, steps=10, random_start=False)(x, y)
    assert (ours - theirs).abs().max() < 1e-5
    assert torch.allclose(L2(0.5).norm(ours - x), torch.tensor(0.5, dtype=torch.float64))


@pytest.mark.parametrize(("low", "high"), [(0.4, 0.6), (0.0, 1.0)])
def test_fgsm_is_theirs(low, high):
    net, (x, y) = smooth_network(), images(low, high)
    ours = fgsm(Linf(8 / 255))(net, x, y)
    assert (ours - torchattacks.FGSM(net, eps=8 / 255)(x, y)).abs().max() < 1e-5
    assert (ours - by_foolbox(foolbox.attacks.FGSM(random_start=False), net, x, y, 8 / 255)).abs().max() < 1e-5


def test_through_the_bridge_it_is_the_attack_itself():
    net, (x, y) = smooth_network(torch.float32), images(0.0, 1.0)
    x, attack = x.float(), foolbox.attacks.LinfPGD(steps=5, random_start=False)
    assert (from_foolbox(attack, 8 / 255)(net, x, y) - by_foolbox(attack, net, x, y, 8 / 255)).abs().max() < 1e-7
    arguments = {"eps": 8 / 255, "alpha": 2 / 255, "steps": 5, "random_start": False}
    theirs = torchattacks.PGD(net, **arguments)(x, y)
    assert (from_torchattacks(torchattacks.PGD, arguments)(net, x, y) - theirs).abs().max() < 1e-7


@packages
def test_our_best_iterate_is_never_lower_than_their_last(package):
    """With two classes: a misclassified iterate, which comes first, then always has the higher cross entropy."""
    net, (x, y) = smooth_network(classes=2), images(0.0, 1.0, 40, classes=2)
    theirs = linf_pgd(package, net, x, y, 0.1, 0.15, 7)
    last, best = (
        PGD(Linf(0.1), steps=7, rel_step_size=1.5, random_start=False, keep=keep)(net, x, y)
        for keep in ("last", "best")
    )
    gap = loss_of(net, best, y) - loss_of(net, theirs, y)
    assert (last - theirs).abs().max() < 1e-5
    assert gap.min() >= -1e-9
    assert gap.max() > 1e-6
