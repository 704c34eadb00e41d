"""The space of the codes of a manifold."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lightning_robust import _checks, _nested
from lightning_robust._codes import parts
from lightning_robust.attacks._tensors import wide
from lightning_robust.attacks.spaces import Chart, Space

Bounds = tuple[float | Sequence[float] | Tensor, float | Sequence[float] | Tensor]


@dataclass(frozen=True, eq=False)
class LatentSpace(Space):
    """The codes of a manifold: x_adv = decode(z + delta).

    The code z is the one that the batch brings, where it brings one, else `manifold.encode(x, y)`. On-manifold
    adversarial examples are those of Stutz et al. (CVPR 2019): the class stays the true one, because the decoder is
    given the true label.

    Args:
        manifold: Anything with `encode(x, y) -> z` and `decode(z, y) -> x`; a code may also be a tuple (z, *fixed) of
            which only z moves, then `decode(z, y, *fixed)` is called.
        bounds: (low, high) of valid codes, numbers or (Z,) each; None: `manifold.bounds` if it has any, else no bounds.
            (The paper takes the least and greatest code of the data.)
    """

    manifold: Any
    bounds: Bounds | None = None

    def __post_init__(self) -> None:
        for name in ("encode", "decode"):
            if isinstance(self.manifold, type) or not callable(getattr(self.manifold, name, None)):
                is_class = isinstance(self.manifold, type)
                got = f"the class {self.manifold.__name__}" if is_class else type(self.manifold).__name__
                raise TypeError(f"Expected argument `manifold` to have a method `{name}`, but got {got}.")
        if self.bounds is not None:
            _checks.sequence("bounds", self.bounds, "a pair (low, high) of numbers or tensors (Z,)", 2)
            try:
                low, high = map(torch.as_tensor, self.bounds)
            except (TypeError, ValueError, RuntimeError):
                raise TypeError(
                    f"Expected argument `bounds` to be a pair (low, high) of numbers or tensors, but got {self.bounds}."
                ) from None
            if not bool((low <= high).all()):
                raise ValueError(f"Expected argument `bounds` to be a pair with low <= high, but got {self.bounds}.")

    def chart(self, x: Tensor, y: Tensor, code: Any = None) -> Chart:
        """The zero perturbation has the shape (N, Z) of the codes; the bounds keep z + delta a valid code."""
        if code is None:
            with torch.no_grad():
                code = self.manifold.encode(x, y)
        z, *fixed = parts(code)
        if not isinstance(z, Tensor) or z.ndim < 2 or len(z) != len(x) or not z.is_floating_point():
            got = f"{z.dtype} {tuple(z.shape)}" if isinstance(z, Tensor) else type(z).__name__
            raise ValueError(f"Expected the code to be a float tensor of shape (N, Z) with N={len(x)}, but got {got}.")
        z = wide(z.detach())

        def decode(delta: Tensor) -> Tensor:
            return self.manifold.decode(z + delta, y, *fixed).to(x.dtype)

        lower = upper = None
        bounds = getattr(self.manifold, "bounds", None) if self.bounds is None else self.bounds
        if bounds is not None:
            low, high = (torch.as_tensor(b, dtype=z.dtype, device=z.device) for b in bounds)
            lower, upper = (low - z).clamp(max=0), (high - z).clamp(min=0)

        def again(rows: Tensor) -> Chart:
            return self.chart(x[rows], *(_nested.cut(value, len(x), rows) for value in (y, (z, *fixed))))

        return Chart(torch.zeros_like(z), decode, decode, lower, upper, again)
