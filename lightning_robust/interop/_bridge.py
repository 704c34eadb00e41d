"""The way to an attack of another package and back: what all such packages need, said once.

They want an `nn.Module` on images in a fixed range, they change its mode, write to its `.grad`, draw from global
generators, and return images that may leave the ball by a rounding error. So they get a shell around the model, inside
`scope`, and what they return is rounded back into the perturbation set.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from lightning_robust.attacks.attack import Model, Outcome, check_batch, check_shape
from lightning_robust.attacks.balls import Ball
from lightning_robust.attacks.scope import plain, scope
from lightning_robust.attacks.spaces import PixelSpace, round_toward
from lightning_robust.interop._generators import own_global_streams

Find = Callable[[nn.Module, Tensor, Tensor], tuple[Tensor, Tensor | None]]
"""`(shell, pixels, y) -> (adversarial pixels, fooled)`: the other package's attack; `fooled` is (N,) bool or None."""

_HALF = (torch.float16, torch.bfloat16)


class Shell(nn.Module):
    """A module that calls the model but does not own it.

    `eval`, `train` and `to` reach the shell and no further, so that nothing in the model changes. Its one parameter,
    empty and frozen, tells the device.

    Args:
        function: Images (N, C, H, W) in the range of the attack to logits (N, K).
        device: Where the images are.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], device: torch.device) -> None:
        super().__init__()
        self.place = nn.Parameter(torch.empty(0, device=device), requires_grad=False)
        self.function = function
        self.eval()

    def forward(self, pixels: Tensor) -> Tensor:
        """The logits, at least in float32."""
        logits = self.function(pixels)
        check_shape(logits, pixels)
        return logits.float() if logits.dtype in _HALF else logits


def _on_pixels(model: Model, space: PixelSpace, x: Tensor) -> Callable[[Tensor], Tensor]:
    """The model as a function of images in the range of `space`, normalised and cast to the type of `x` first."""
    if space.mean is None:
        return lambda pixels: model(pixels.to(x.dtype))
    zero = torch.zeros(1, x.shape[1], *[1] * (x.ndim - 2), device=x.device, dtype=x.dtype)
    zero = zero.float() if x.dtype in _HALF else zero
    mean, std = space.pixels(zero), space.difference(zero, zero + 1)
    return lambda pixels: model(((pixels - mean) / std).to(x.dtype))


def check_hard_labels(space: PixelSpace, x: Tensor, y: Tensor) -> None:
    """Refuse what the other packages cannot take: all but images in the range of `space` with one class index each."""
    check_batch(x, y)
    if y.is_floating_point() or y.ndim != 1:
        raise TypeError(
            "Expected one integer label per input, which is all that attacks of other packages take, "
            f"but got {y.dtype} of shape {tuple(y.shape)}."
        )
    space.check(x)


def run_foreign(
    find: Find, model: Model, x: Tensor, y: Tensor, *, space: PixelSpace, seed: int, ball: Ball | None = None
) -> Outcome:
    """Run an attack of another package as if it were one of ours.

    Args:
        find: The attack.
        model: (N, C, H, W) -> logits (N, K), of inputs as `x` is.
        x: (N, C, H, W) clean inputs, normalised if `space` says so.
        y: (N,) integer labels.
        space: The range of the images that the attack works on, and the normalisation of the data.
        seed: Seeds all global generators that the attack may draw from.
        ball: The perturbation, in pixels, is projected onto it; None: only clipped to the range of the images.
    """
    with scope(model, "eval", seed, x.device), own_global_streams(seed):
        x, y = plain(x).detach(), plain(y)
        narrow = x.float() if x.dtype in _HALF else x
        pixels = space.pixels(narrow).clamp(space.low, space.high)
        shell = Shell(_on_pixels(model, space, x), x.device)
        # A clone of the images, and of the labels: whatever is written to does not belong to the caller.
        found, fooled = find(shell, pixels.clone(), y.long().clone())
        if not isinstance(found, Tensor) or found.shape != x.shape:
            got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise ValueError(f"Expected the attack to return images of shape {tuple(x.shape)}, but got {got}.")
        with torch.no_grad():
            # In float64 the difference is exact: what the attack found inside the perturbation set comes back bit for
            # bit, which matters for those that stop just beyond the decision boundary. A NaN is no perturbation.
            wide = torch.float32 if x.device.type == "mps" else torch.float64
            delta = (found.detach().to(pixels).to(wide) - pixels.to(wide)).nan_to_num_()
            chart = space.chart(x.to(wide), y)
            delta = chart.clip(delta if ball is None else ball.project(delta))
            x_adv = chart.decode(delta)
            x_adv = round_toward(x_adv.to(x.dtype), x, x_adv - x.to(wide))
    return Outcome(x_adv, delta.to(narrow.dtype), fooled=None if fooled is None else fooled[None])
