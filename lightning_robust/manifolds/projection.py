"""The point of a manifold that is nearest to an input."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_robust._checks import count, instance, number
from lightning_robust._codes import parts
from lightning_robust.manifolds.protocol import Code, Manifold


class Nearest(NamedTuple):
    """The nearest point of a manifold that a search reached.

    Fields:
        z: its code, (N, Z).
        x: the point, (N, C, H, W).
        distance: the Euclidean distance of the input from it, (N,).
    """

    z: Tensor
    x: Tensor
    distance: Tensor


def project(
    manifold: Manifold,
    x: Tensor,
    y: Tensor,
    z0: Code | None = None,
    *,
    steps: int = 100,
    lr: float = 0.09,
    decay: float = 0.95,
    every: int = 10,
    bounds: tuple[Any, Any] | None = None,
) -> Nearest:
    r"""Project inputs onto a manifold, by Adam on their codes.

    .. math::

        \min_{low \le z \le high} \| x - \mathrm{decode}(z, y, \ldots) \|_2

    Each sample is on its own: what comes out for it does not depend on its batch. The best point on its way is
    returned, so the distance is at most that of the start, and more steps never raise it.

    Args:
        manifold: with `encode` and `decode`.
        x: inputs (N, C, H, W), for instance adversarial ones.
        y: int64 of shape (N,), the labels that the decoder is given: the true ones.
        z0: where to start: codes z (N, Z) or (z, *fixed); None: `manifold.encode(x, y)`.
        steps: number of steps of Adam.
        lr: its step size. The paper: 0.09 for the true Fonts manifold, 0.1 for learned ones.
        decay: factor applied to the step size every `every` steps.
        every: number of steps between two decays.
        bounds: (low, high) of codes, numbers or (Z,); codes are clipped to it, also the first. None: no bounds.

    Raises:
        ValueError: if `steps` is negative, or `lr`, `decay` or `every` is not positive.

    Example:
        >>> class Line:
        ...     def encode(self, x, y):
        ...         return x.new_zeros(len(x), 1)
        ...     def decode(self, z, y):
        ...         return torch.stack((z, 0 * z), dim=2)[:, None]
        >>> nearest = project(Line(), torch.tensor([[[[0.5, 2.0]]]]), torch.tensor([0]))
        >>> print(f"{float(nearest.z):.3f} {float(nearest.distance):.3f}")
        0.500 2.000

    References:
        Stutz, Hein, Schiele, CVPR 2019 (arXiv 1812.00740), measure the distance to the manifold so, with these numbers.
        They take the last point, not the best.
    """
    if isinstance(manifold, type) or not callable(getattr(manifold, "decode", None)):
        raise TypeError(f"Expected argument `manifold` to have a method `decode`, but got {manifold!r}.")
    instance("x", x, Tensor, "a tensor (N, C, H, W)")
    instance("y", y, Tensor, "a tensor (N,)")
    if z0 is not None:
        instance("z0", parts(z0)[0], Tensor, "a tensor (N, Z), or a tuple that begins with one")
    steps, every = count("steps", steps, 0), count("every", every)
    lr, decay = number("lr", lr, 0, above=True), number("decay", decay, 0, above=True)
    if bounds is not None:
        bounds = _pair(bounds)
    with torch.inference_mode(False), torch.enable_grad():
        target, y = x.detach().to(torch.promote_types(x.dtype, torch.float32)).clone(), y.clone()
        if z0 is None:
            with torch.no_grad():
                z0 = manifold.encode(target, y)
        start, *fixed = parts(z0)
        fixed = [value.clone() if isinstance(value, Tensor) else value for value in fixed]
        z = start.detach().to(torch.promote_types(start.dtype, torch.float32)).clone()
        low, high = (None, None) if bounds is None else (bound.to(z) for bound in bounds)
        if bounds is not None:
            z.clamp_(low, high)
        z.requires_grad_()
        best, nearest, least = z.detach().clone(), target, torch.full((len(x),), torch.inf).to(target)
        optimizer = torch.optim.Adam([z], lr=lr)
        for step in range(steps + 1):
            point = manifold.decode(z, y, *fixed)
            squared = (point.to(target.dtype) - target).square().flatten(1).sum(1)
            better = squared.detach() < least
            least = torch.where(better, squared.detach(), least)
            best = torch.where(better[:, None], z.detach(), best)
            nearest = torch.where(better.view(-1, *[1] * (x.ndim - 1)), point.detach().to(target.dtype), nearest)
            if step == steps:
                break
            # The mean over pixels, as in the paper; the sum over samples, so that each is on its own.
            (z.grad,) = torch.autograd.grad(squared.sum() / target[0].numel(), z)
            optimizer.param_groups[0]["lr"] = lr * decay ** (step // every)
            optimizer.step()
            if bounds is not None:
                with torch.no_grad():
                    z.clamp_(low, high)
        return Nearest(best, nearest, least.sqrt())


def _pair(bounds: Any) -> tuple[Tensor, Tensor]:
    try:
        low, high = (torch.as_tensor(bound) for bound in bounds)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(
            f"Expected argument `bounds` to be a pair of numbers or tensors, but got {bounds!r}."
        ) from error
    if not bool((low <= high).all()):  # false for NaN too
        raise ValueError(f"Expected argument `bounds` to be (low, high) with low <= high, but got {bounds!r}.")
    return low, high
