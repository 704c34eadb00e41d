"""Networks that mask their gradients or their answers around one small network, and honest networks.

A mask inflates if PGD on the margin, twice 20 steps, leaves it more than 5 points above the robust accuracy of the bare
network. Each that does must be flagged by an indicator that is meant for it, or be refused; no honest network may be.
The thresholds of `lightning_robust.evaluation.indicators` were chosen on the masks and honest networks marked `before`.
Those marked `after` were written when the thresholds were frozen.
"""

import copy
import functools
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn

from lightning_robust.attacks import Linf, Threat, cross_entropy, margin
from lightning_robust.models import Bpda

EPS = 0.1
THREAT = Threat(Linf(EPS))
Written = Literal["before", "after"]


class Mask(NamedTuple):
    """A mask, and the indicators that are meant for it; "refused": the attack stops with an error.

    `inflates`: is the robust accuracy more than 5 points too high?
    """

    make: Callable[[nn.Module, nn.Module], Any]  # (network, another network) -> model
    meant: str
    written: Written
    gain: Any = margin
    correct: Any = None
    inflates: bool = True


class Honest(NamedTuple):
    """An honest network: how it is made of the trained one, or trained."""

    make: Callable[[nn.Module], Any]
    written: Written


# ------------------------------------------------------------------------------------------------- networks


@functools.cache
def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Images (N, 1, 8, 8) in [0, 1] and labels: 1,500 for training, 96 for test."""
    data = load_digits()
    x, y = torch.tensor(data.images, dtype=torch.float32)[:, None] / 16, torch.tensor(data.target)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    x, y = x[order], y[order]
    return x[:1500], y[:1500], x[1500:1596], y[1500:1596]


def network(activation: Callable[[], nn.Module] = nn.ReLU) -> nn.Module:
    layers = nn.Linear(64, 64), activation(), nn.Linear(64, 64), activation(), nn.Linear(64, 10)
    return nn.Sequential(nn.Flatten(), *layers)


def trained(net: nn.Module, epochs: int = 8, *, eps: float = 0.0, seed: int = 0) -> nn.Module:
    """Fit with Adam; on the perturbation of one large step and one small one, if `eps` says so."""
    x, y, _, _ = digits()
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    net.train()
    for _ in range(epochs):
        for rows in torch.randperm(len(x), generator=generator).split(50):
            seen = x[rows]
            for step in (eps, eps / 2) if eps else ():
                seen = seen.detach().requires_grad_()
                (grad,) = torch.autograd.grad(F.cross_entropy(net(seen), y[rows]), seen)
                seen = (x[rows] + (seen + step * grad.sign() - x[rows]).clamp(-eps, eps)).clamp(0, 1).detach()
            loss = F.cross_entropy(net(seen), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return net.eval()


def seeded(seed: int, make: Callable[[], nn.Module], **options: Any) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return trained(make(), **options)


# ---------------------------------------------------------------------------------------- masks of gradients


class Changed(torch.autograd.Function):
    """The identity, with another gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.change = change
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.change(grad), None


def backward(change: Callable[[Tensor], Tensor]) -> Callable[[nn.Module, nn.Module], Any]:
    """A network whose gradient is changed on its way to the input."""
    return lambda net, other: lambda x: net(Changed.apply(x, change))


def _one_pixel(grad: Tensor) -> Tensor:
    kept = torch.zeros_like(grad)
    kept[..., 4, 4] = grad[..., 4, 4]
    return kept


def nan_in_half(grad: Tensor) -> Tensor:
    grad = grad.clone()
    grad[..., ::2] = torch.nan
    return grad


def foreign(net: nn.Module, other: nn.Module) -> Any:
    """The answers of one network, the gradient of another."""

    def model(x: Tensor) -> Tensor:
        substitute = other(x)
        return substitute + (net(x) - substitute).detach()

    return model


def honest_for(times: int) -> Callable[[nn.Module, nn.Module], Any]:
    """An honest gradient for some backward passes, then none."""

    def make(net: nn.Module, other: nn.Module) -> Any:
        count = [0]

        def change(grad: Tensor) -> Tensor:
            count[0] += 1
            return grad if count[0] <= times else torch.zeros_like(grad)

        return lambda x: net(Changed.apply(x, change))

    return make


# ------------------------------------------------------------------------------------------ masks of answers


def cached(net: nn.Module, other: nn.Module) -> Any:
    """The first answer for a shape is given for ever."""
    known: dict[Any, Tensor] = {}

    def model(x: Tensor) -> Tensor:
        value = net(x)
        kept = known.setdefault(tuple(x.shape), value.detach().clone())
        return value - value.detach() + kept

    return model


def under_grad_mode(net: nn.Module, other: nn.Module) -> Any:
    """Another function wherever gradients are computed."""
    return lambda x: other(1 - x) if torch.is_grad_enabled() else net(x)


def infinite(net: nn.Module, other: nn.Module) -> Any:
    """The largest logit is infinite, the others are minus infinity."""

    def model(x: Tensor) -> Tensor:
        z = net(x)
        return torch.where(z == z.amax(1, keepdim=True), torch.inf, -torch.inf) + 0 * z

    return model


def shifted(net: nn.Module, other: nn.Module) -> Any:
    """The image is moved by up to one pixel each way, at random."""
    return lambda x: net(torch.roll(x, [int(v) for v in torch.randint(-1, 2, (2,))], (2, 3)))


def noisy(net: nn.Module, other: nn.Module) -> Any:
    return lambda x: net(x + 0.2 * torch.randn_like(x))


def quantized(net: nn.Module, other: nn.Module) -> Any:
    return lambda x: net((x * 4).round() / 4)


def saturated(net: nn.Module, other: nn.Module) -> Any:
    return lambda x: 1e4 * net(x)


def softmax(net: nn.Module, other: nn.Module) -> Any:
    return lambda x: (30 * net(x)).softmax(1)


def softmax_twice(net: nn.Module, other: nn.Module) -> Any:
    return lambda x: (30 * net(x)).softmax(1).softmax(1)


class Winners(nn.Module):
    """k winners take all (Xiao, Zhong, Zheng, ICLR 2020): only the largest activations of a layer stay."""

    def forward(self, x: Tensor) -> Tensor:
        least = x.topk(8, dim=1).values[:, -1:]
        return torch.where(x >= least, x, 0.0)


def winners(net: nn.Module, other: nn.Module) -> Any:
    return seeded(2, lambda: network(Winners))


# ------------------------------------------------- masks that were written when the thresholds were frozen


def jpeg(net: nn.Module, other: nn.Module) -> Any:
    """The coefficients of the cosine transform of the 8 x 8 image are rounded."""
    k = torch.arange(8.0)
    transform = (
        torch.cos(torch.pi / 8 * (k[None] + 0.5) * k[:, None]) * torch.where(k == 0, 0.125, 0.25)[:, None].sqrt()
    )

    def model(x: Tensor) -> Tensor:
        coefficients = (transform @ x @ transform.T * 4).round() / 4
        return net(transform.T @ coefficients @ transform)

    return model


def detecting(net: nn.Module, other: nn.Module) -> Any:
    """One more class, of images that two networks see differently: rejected."""

    def model(x: Tensor) -> Tensor:
        z, seen = net(x), other(x)
        unlike = (z.softmax(1) - seen.softmax(1)).abs().sum(1, keepdim=True)
        return torch.cat([z, z.amax(1, keepdim=True) + 20 * (unlike - 0.5)], 1)

    return model


def right_or_rejected(output: Tensor, y: Tensor) -> Tensor:
    predicted = output.argmax(1)
    return (predicted == y) | (predicted == 10)


def predicted_class(net: nn.Module, other: nn.Module) -> Any:
    return lambda x: F.one_hot(net(x).argmax(1), 10).float()


def remembering(net: nn.Module, other: nn.Module) -> Any:
    """What is close to an image that was seen before is answered as that one was, with the gradient of its own."""
    seen: list[tuple[Tensor, Tensor]] = []

    def model(x: Tensor) -> Tensor:
        z = net(x)
        if not seen:
            _, _, images, _ = digits()
            seen.append((images, net(images).detach()))
        images, answers = seen[0]
        distance, nearest = torch.cdist(x.detach().flatten(1), images.flatten(1), p=torch.inf).min(1)
        return torch.where(distance[:, None] < 0.15, z - z.detach() + answers[nearest], z)

    return model


def purifying(net: nn.Module, other: nn.Module) -> Any:
    """Some steps towards the most confident image near by, made in every forward."""

    def model(x: Tensor) -> Tensor:
        moved = x.detach()
        with torch.enable_grad():
            for _ in range(5):
                moved = moved.detach().requires_grad_()
                (grad,) = torch.autograd.grad(other(moved).logsumexp(1).sum(), moved)
                moved = moved + 0.05 * grad.sign()
        return net(x + (moved - x).detach())

    return model


def _half_flipped(grad: Tensor) -> Tensor:
    grad = grad.clone()
    grad[..., ::2] *= -1
    return grad


def _drowned(grad: Tensor) -> Tensor:
    return grad + 5 * grad.abs().amax() * torch.randn_like(grad)


def _of_the_batch(grad: Tensor) -> Tensor:
    return grad.mean(0, keepdim=True).expand_as(grad)


def dropping(net: nn.Module, other: nn.Module) -> Any:
    return lambda x: net(F.dropout(x, 0.3, training=True))


def shattered(net: nn.Module, other: nn.Module) -> Any:
    """Ripples on the input, too fine for a step."""
    return lambda x: net(x + 0.1 * torch.sin(100 * x))


def top_alone(net: nn.Module, other: nn.Module) -> Any:
    """Only the highest logit is given; the others are at a floor."""

    def model(x: Tensor) -> Tensor:
        z = net(x)
        return torch.where(z == z.amax(1, keepdim=True), z, -20.0)

    return model


def boosted(net: nn.Module, other: nn.Module, factor: float = 100.0) -> Any:
    """The highest logit is raised by the size of the features of another network; the same predictions.

    The gradient is right within each class, and climbs this size.
    """

    def model(x: Tensor) -> Tensor:
        z = net(x)
        top = F.one_hot(z.argmax(1), z.shape[1]).to(z)
        return z + factor * other[:4](x).norm(dim=1, keepdim=True) * top

    return model


def rounded(net: nn.Module, other: nn.Module) -> Any:
    return lambda x: net(x).round()


# ------------------------------------------------------------------------ a mask that no indicator can know


def scaled(net: nn.Module, other: nn.Module) -> Any:
    """Logits that shrink where the features of another network grow: smooth, and the same predictions.

    No indicator is meant for it, as its gradient is right. What helps is a gain that is a ratio of logits.
    """
    return lambda x: net(x) * torch.exp(-0.9 * other[:4](x).norm(dim=1, keepdim=True))


# ------------------------------------------------------------------------------------------ honest networks


class _In(nn.Module):
    """A network in another type; its output stays in it."""

    def __init__(self, net: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.net, self.dtype = copy.deepcopy(net).to(dtype), dtype

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.to(self.dtype))


def _normalized() -> nn.Module:
    hidden = nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU()
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(64, 10))


def _pooled() -> nn.Module:
    first = nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
    return nn.Sequential(
        *first, nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 10)
    )


def _dropped() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), nn.Dropout(0.3), nn.Linear(128, 10))


class Attention(nn.Module):
    """A small vision transformer: patches of 4 x 4, one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, 32, 4, stride=4)
        self.place = nn.Parameter(torch.randn(1, 4, 32) / 5)
        self.layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
        self.head = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(self.patches(x).flatten(2).transpose(1, 2) + self.place).mean(1))


# ------------------------------------------------------------------------------------------------- the zoo

MASKS: dict[str, Mask] = {
    "zero gradient": Mask(backward(torch.zeros_like), "zero_gradient", "before"),
    "random gradient": Mask(backward(torch.randn_like), "gradient_moves gradient_rise", "before"),
    "flipped gradient": Mask(backward(torch.neg), "gradient_rise loop_rise", "before"),
    "gradient of one pixel": Mask(backward(_one_pixel), "gradient_rise", "before"),
    "foreign gradient": Mask(foreign, "foreign_gradient", "before"),
    "honest once": Mask(honest_for(1), "gradient_moves zero_gradient", "before"),
    "NaN in half of the gradient": Mask(backward(nan_in_half), "broken_gradient", "before"),
    "NaN gradient": Mask(backward(lambda grad: grad * torch.nan), "broken_gradient", "before"),
    "first answer cached": Mask(cached, "constant company", "before"),
    "another function under grad mode": Mask(under_grad_mode, "grad_mode", "before"),
    "infinite logits": Mask(infinite, "broken_logits", "before", inflates=False),
    "random shift": Mask(shifted, "random", "before", inflates=False),
    "noise layer": Mask(noisy, "random", "before", inflates=False),
    "quantized input": Mask(quantized, "zero_gradient", "before"),
    "saturated": Mask(saturated, "zero_gradient", "before", gain=cross_entropy),
    "softmax": Mask(softmax, "probabilities", "before"),
    "softmax twice": Mask(softmax_twice, "probabilities", "before"),
    "k winners take all": Mask(winners, "search_beats_gradients", "before"),
    "JPEG": Mask(jpeg, "zero_gradient", "after"),
    "detector": Mask(detecting, "search_beats_gradients", "after", correct=right_or_rejected),
    "predicted class": Mask(predicted_class, "refused", "after"),
    "memory of near images": Mask(remembering, "gradient_rise loop_rise", "after"),
    "optimizing at test time": Mask(purifying, "optimizing", "after"),
    "half of the gradient flipped": Mask(backward(_half_flipped), "foreign_gradient gradient_rise", "after"),
    "gradient drowned in noise": Mask(backward(_drowned), "gradient_moves", "after"),
    "gradient of the batch": Mask(backward(_of_the_batch), "foreign_gradient gradient_rise", "after"),
    "honest four times": Mask(honest_for(4), "loop_zero_gradient", "after"),
    "dropout that stays": Mask(dropping, "random", "after", inflates=False),
    "ripples": Mask(shattered, "loop_rise search_beats_gradients", "after"),
    "rounded logits": Mask(rounded, "zero_gradient", "after"),
    "highest logit alone": Mask(top_alone, "silent_classes", "before"),
    "highest logit raised": Mask(boosted, "gain_jumps", "before"),
}

HONEST: dict[str, Honest] = {
    "plain": Honest(lambda net: net, "before"),
    "adversarially trained": Honest(lambda net: seeded(3, network, eps=EPS), "before"),
    "straight-through rounding": Honest(lambda net: nn.Sequential(Bpda(lambda x: (x * 4).round() / 4), net), "before"),
    "float16": Honest(lambda net: _In(net, torch.float16), "before"),
    "logits x 100": Honest(lambda net: lambda x: 100 * net(x), "before"),
    "logits / 100": Honest(lambda net: lambda x: net(x) / 100, "before"),
    "bfloat16": Honest(lambda net: _In(net, torch.bfloat16), "after"),
    "batch normalization": Honest(lambda net: seeded(4, _normalized), "after"),
    "convolution and maximum pooling": Honest(lambda net: seeded(5, _pooled, epochs=3), "after"),
    "tanh": Honest(lambda net: seeded(6, lambda: network(nn.Tanh)), "after"),
    "sigmoid": Honest(lambda net: seeded(7, lambda: network(nn.Sigmoid), epochs=12), "after"),
    "ReLU6": Honest(lambda net: seeded(8, lambda: network(nn.ReLU6)), "after"),
    "dropout in training": Honest(lambda net: seeded(9, _dropped), "after"),
    "attention": Honest(lambda net: seeded(10, Attention, epochs=4), "after"),
    "a class whose logit is zero": Honest(lambda net: lambda x: net(x) - net(x)[:, :1], "after"),
}
