"""What the attacks of all other packages need.

They want an `nn.Module` on images in a fixed range and one class per image, they change the module's mode, write to its
`.grad`, draw from global generators, and return images that may leave the ball by a rounding error. So they get a shell
around the model, inside `scope`, and what they return is rounded back into the perturbation set.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lightning_robust._noise import Noise
from lightning_robust.attacks._tensors import wide
from lightning_robust.attacks.attack import Attack, Context, Model, Outcome, check_inputs
from lightning_robust.attacks.ball import Ball
from lightning_robust.attacks.labels import check_class_labels, check_output, class_labels
from lightning_robust.attacks.pixel_space import PixelSpace, round_toward
from lightning_robust.attacks.scope import guest, ordinary, scope

Find = Callable[[nn.Module, Tensor, Tensor, int], tuple[Tensor, Tensor | None]]
"""`(shell, pixels, y, seed) -> (adversarial pixels, fooled)`: the other package's attack.

`pixels` are images (N, C, H, W), `y` their classes (N,) int64, `seed` is what all generators have been seeded by,
`fooled` is (N,) bool or None.
"""


class ForeignAttack(Attack):
    """An attack of another package, on images that `space` describes. Labels are checked once the logits are known."""

    space: PixelSpace

    def check(self, x: Tensor, y: Any) -> None:
        """Refuse inputs that cannot be meant."""
        check_inputs(x)
        self.space.check(x)


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
        return wide(self.function(pixels))


def _on_pixels(model: Model, space: PixelSpace, x: Tensor) -> Callable[[Tensor], Tensor]:
    """The model as a function of images in the range of `space`, normalised and cast to the type of `x` first."""
    if space.mean is None:
        return lambda pixels: model(pixels.to(x.dtype, copy=True))  # a forward may write to its input
    zero = wide(torch.zeros(1, x.shape[1], *[1] * (x.ndim - 2), device=x.device, dtype=x.dtype))
    mean, std = space.pixels(zero), space.difference(zero, zero + 1)
    return lambda pixels: model(((pixels - mean) / std).to(x.dtype))


def _classes(logits: Any, y: Any, n: int) -> Tensor:
    """The class of each sample, (N,) int64, or an error that says what to do.

    Args:
        logits: The output of the model for the clean inputs.
        y: Class labels, see `attacks/labels.py`.
        n: N, the number of samples.
    """
    check_output(logits, n)
    check_class_labels(logits, y, "an attack of another package")
    labels = class_labels(logits, y)
    if labels.ndim > 1:
        raise ValueError(
            "Expected one class per sample, which is all that attacks of other packages take, but got probabilities of "
            f"shape {tuple(labels.shape)}. Attack the most likely class, lambda model, x, y: attack(model, x, "
            "y.argmax(1)), or take an attack of this package, such as PGD."
        )
    return labels


def _seed(space: PixelSpace, x: Tensor, *key: int) -> int:
    """One seed of 32 bits made of the images and the key: two batches of one epoch shall not draw the same numbers.

    Of the images in 256 levels, so that the same images give the same seed however they are normalised. (Images that
    are not made of bytes may have a value on the border of two levels, where rounding decides.)
    """
    levels = (space.pixels(wide(x)) - space.low) * (255 / (space.high - space.low))
    return Noise.of(levels.round().to(torch.int32), *key).seed()


def run_foreign(
    find: Find,
    model: Model,
    x: Tensor,
    y: Any,
    context: Context,
    *,
    space: PixelSpace,
    seed: int = 0,
    ball: Ball | None = None,
    also: Any = None,
) -> Outcome:
    """Run an attack of another package as if it were one of ours.

    Before it, the model is asked once for its clean logits: they tell what the labels mean.

    Args:
        find: The attack.
        model: (N, C, H, W) -> logits (N, K), of inputs as `x` is.
        x: (N, C, H, W) clean inputs, normalised if `space` says so.
        y: Class labels: integers (N,) or (N, 1).
        context: What else is known of the batch. Where `correct` is given, what the attack calls its success is left
            out of the outcome: it may be something else.
        space: The range of the images that the attack works on, and the normalisation of the data.
        seed: Seeds all generators that the attack may draw from, together with the images and the key of the call.
        ball: The perturbation, in pixels, is projected onto it; None: only clipped to the range of the images.
        also: What else may hold networks: the attack itself.
    """
    seed = _seed(space, x, seed, context.key)
    with scope(model, x, seed=seed, also=(also,)) as ready, guest(also, seed):
        x, y = ordinary(x).detach(), ordinary(y)
        base = wide(x)
        pixels = space.pixels(base).clamp(space.low, space.high)
        shell = Shell(_on_pixels(ready, space, x), x.device)
        labels = _classes(ready(x.clone()), y, len(x))
        # Clones: whatever is written to does not belong to the caller.
        adversarial, fooled = find(shell, pixels.clone(), labels.clone(), seed)
        if not isinstance(adversarial, Tensor) or adversarial.shape != x.shape:
            got = tuple(adversarial.shape) if isinstance(adversarial, Tensor) else type(adversarial).__name__
            raise ValueError(f"Expected the attack to return images of shape {tuple(x.shape)}, but got {got}.")
        with torch.no_grad():
            # In float64 the difference is exact: what the attack found inside the perturbation set comes back bit for
            # bit, which matters for those that stop just beyond the decision boundary. A NaN is no perturbation.
            exact = torch.float32 if x.device.type == "mps" else torch.float64
            delta = (adversarial.detach().to(pixels).to(exact) - pixels.to(exact)).nan_to_num_()
            chart = space.chart(x.to(exact), y)
            delta = chart.clip(delta if ball is None else ball.project(delta))
            x_adv = chart.decode(delta)
            x_adv = round_toward(x_adv.to(x.dtype), x, x_adv - x.to(exact))
    if fooled is not None:
        fooled = None if context.correct is not None else fooled[None]
    return Outcome(x_adv, delta=delta.to(base.dtype), fooled=fooled)
