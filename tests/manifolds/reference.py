"""The training of a VAE-GAN, written out plainly: separate networks, torch's Adam, one gradient for each loss."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lightning_robust.attacks import Noise
from lightning_robust.manifolds.vaegan import VAEGAN


@dataclass
class Reference:
    """One class's three networks and their optimisers."""

    encoder: nn.Sequential
    decoder: nn.Sequential
    discriminator: nn.Sequential
    beta: float = 3.0
    gamma: float = 1.0
    eta: float = 0.0
    lr: float = 0.005
    clip: float | None = None

    def __post_init__(self):
        self.networks = [self.encoder, self.decoder, self.discriminator]
        self.adams = [
            torch.optim.Adam(net.parameters(), lr=self.lr, betas=(0.5, 0.9), weight_decay=1e-4) for net in self.networks
        ]

    def gradients(self, x: Tensor, noise: Tensor) -> list[tuple[Tensor, ...]]:
        mean, log_var = self.encoder(x).chunk(2, 1)
        log_var = 10 - torch.log(1 + torch.exp(10 - log_var))
        x_rec = torch.sigmoid(self.decoder(mean + torch.sqrt(torch.exp(log_var)) * noise))
        kl = -0.5 * (1 + log_var - mean**2 - log_var.exp()).sum()
        rec = (x - x_rec).abs().sum()
        fake = torch.sigmoid(self.discriminator(x_rec))
        gan = -torch.log(fake).sum()
        disc = -(torch.log(torch.sigmoid(self.discriminator(x))) + torch.log(1 - fake)).sum()
        losses = [
            kl + self.beta * rec + self.gamma * gan + self.eta * log_var.abs().sum(),
            self.beta * rec + self.gamma * gan,
            self.gamma * disc,
        ]
        return [
            torch.autograd.grad(loss, list(net.parameters()), retain_graph=True)
            for loss, net in zip(losses, self.networks, strict=True)
        ]

    def step(self, *shards: tuple[Tensor, Tensor]) -> None:
        """One step on (x, noise), or on several shards each of which is normalised by its own statistics."""
        per_shard = [self.gradients(*shard) for shard in shards]
        for net, adam, *own in zip(self.networks, self.adams, *per_shard, strict=True):
            for p, *parts in zip(net.parameters(), *own, strict=True):
                p.grad = torch.stack(parts).sum(0)
            if self.clip is not None:
                torch.nn.utils.clip_grad_norm_(net.parameters(), self.clip)
            adam.step()


def conditional_gradients(model: VAEGAN, x: Tensor, y: Tensor, noise: Tensor) -> dict[str, tuple[Tensor, ...]]:
    """The gradients of the networks of a conditional model on a batch: what each is given is joined by hand."""
    k, told = model.num_classes, torch.eye(model.num_classes, dtype=x.dtype)[y]
    weights = model.hparams
    planes = model.discriminator.planes[0].weight[y].view(len(x), 1, *x.shape[2:])
    mean, log_var = model.encoder.members[0](x).chunk(2, 1)
    log_var = 10 - torch.log(1 + torch.exp(10 - log_var))
    z = mean + torch.exp(log_var / 2) * noise
    x_rec = torch.sigmoid(model.decoder.members[0](torch.cat([z, told], 1)))
    real, fake = (torch.sigmoid(model.discriminator.members[0](torch.cat([each, planes], 1))) for each in (x, x_rec))
    code = torch.softmax(model.adversary.members[0](z), 1)
    kl = -0.5 * (1 + log_var - mean**2 - log_var.exp()).sum()
    shown = model.beta[0] * (x - x_rec).abs().sum() - weights["gamma"] * torch.log(fake).sum()
    losses = {
        "encoder": kl + shown - weights["confusion"] * (torch.log(k * code) / k).sum(),
        "decoder": shown,
        "discriminator": -weights["gamma"] * (torch.log(real) + torch.log(1 - fake)).sum(),
        "adversary": -weights["confusion"] * torch.log(code.gather(1, y[:, None])).sum(),
    }
    return {
        name: torch.autograd.grad(loss, list(getattr(model, name).parameters()), retain_graph=True)
        for name, loss in losses.items()
    }


def references(model: VAEGAN, **options) -> list[Reference]:
    """One for each class of a model, with its weights as they are now."""
    networks = (copy.deepcopy(part).members for part in (model.encoder, model.decoder, model.discriminator))
    return [Reference(*members, **options) for members in zip(*networks, strict=True)]


def noise_of(model: VAEGAN, x: Tensor, epoch: int) -> Tensor:
    return Noise.of(x, model.seed, epoch).normal((model.latent,)).clamp(-6, 6).to(x)


def assert_same(model: VAEGAN, expected: list[Reference], **tolerance) -> None:
    """The weights of each class are those of its plain networks."""
    for name in ("encoder", "decoder", "discriminator"):
        for member, reference in zip(getattr(model, name).members, expected, strict=True):
            for p, want in zip(member.parameters(), getattr(reference, name).parameters(), strict=True):
                torch.testing.assert_close(p, want, **tolerance)
