"""What a manifold is to the rest of the package."""

from typing import Any, Protocol

from torch import Tensor

Code = Tensor | tuple[Any, ...]
"""A latent code: z of shape (N, Z), or a tuple (z, *fixed) whose first entry moves and whose others stay."""


class Manifold(Protocol):
    r"""The set of inputs that a decoder can make: :math:`\{\mathrm{decode}(z, y, \ldots)\}`.

    An on-manifold adversarial example moves z and keeps all else: `decode(z + delta, y, *fixed)`. Anything with these
    two methods is a manifold. Where codes are bounded it also has an attribute `bounds`, a pair (low, high) of
    tensors of shape (Z,), or None.
    """

    def encode(self, x: Tensor, y: Tensor) -> Code:
        """Find the codes of inputs (N, C, H, W) with labels (N,)."""
        ...

    def decode(self, z: Tensor, y: Tensor, *fixed: Any) -> Tensor:
        """Turn codes (N, Z) into inputs (N, C, H, W), differentiable in z; samples do not depend on each other."""
        ...
