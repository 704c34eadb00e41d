"""A manifold through each image: the decoder says how to move, not where to start."""

from typing import Any

from torch import Tensor, nn

from lightning_robust._codes import parts
from lightning_robust.manifolds._inputs import check_manifold, check_range
from lightning_robust.manifolds._pixels import cut
from lightning_robust.manifolds.protocol import Manifold


class Residual(nn.Module):
    r"""A manifold with its error of projection carried along, so that each image is on it.

    .. math::

        r = x - \mathrm{dec}(\mathrm{enc}(x)), \qquad
        x(\delta) = \big[ \mathrm{dec}(z + \delta) + r \big]_{[0, 1]}, \qquad x(0) = x

    What the decoder adds of its own to every image, a blur or a trace of the network, is in both terms and cancels:
    only how the decoder moves is left. The code of a sample is (z, *fixed, r), of which z moves.
    `LatentSpace(Residual(manifold))` attacks so.

    Pixels that leave [0, 1] are cut. A pixel that is exactly 0 or 1 has a gradient all the same.

    It is a module, whatever the manifold is: a manifold that is one moves with it (`.to(device)`) and is in its
    `state_dict`, under `manifold.`; the networks of one that is not are found by an attack all the same.

    Args:
        manifold: anything with `encode(x, y) -> z` or `(z, *fixed)`, and `decode(z, y, *fixed) -> x`, images in [0, 1].

    Raises:
        TypeError: if `manifold` lacks one of the two methods.

    Example:
        >>> import torch
        >>> class Brightness:
        ...     def encode(self, x, y):
        ...         return x.flatten(1).mean(1, keepdim=True)
        ...     def decode(self, z, y):
        ...         return z[:, :, None, None].expand(-1, 1, 1, 2)
        >>> manifold = Residual(Brightness())
        >>> x, y = torch.tensor([[[[0.25, 0.75]]]]), torch.tensor([0])
        >>> z, residual = manifold.encode(x, y)
        >>> manifold.decode(z, y, residual).tolist(), manifold.decode(z + 0.5, y, residual).tolist()
        ([[[[0.25, 0.75]]]], [[[[0.75, 1.0]]]])
    """

    def __init__(self, manifold: Manifold) -> None:
        super().__init__()
        check_manifold("manifold", manifold)
        self.manifold = manifold
        # Attacks look for networks in the tuples that a module holds, not in objects of any kind.
        self._plain = () if isinstance(manifold, nn.Module) else (manifold,)

    @property
    def bounds(self) -> tuple[Tensor, Tensor] | None:
        """Those of the manifold; None where it has none."""
        return getattr(self.manifold, "bounds", None)

    def encode(self, x: Tensor, y: Tensor) -> tuple[Any, ...]:
        """The codes of images, and what their decoded images lack.

        Args:
            x: (N, C, H, W) in [0, 1].
            y: int64 of shape (N,).

        Returns:
            (z, *fixed, r): the manifold's code and r of shape (N, C, H, W).

        Raises:
            ValueError: if x is not in [0, 1], where `decode` would not give it back.
        """
        check_range("x", x)
        z, *fixed = parts(self.manifold.encode(x, y))
        return (z, *fixed, x - self.manifold.decode(z, y, *fixed))

    def decode(self, z: Tensor, y: Tensor, *fixed: Any) -> Tensor:
        """The images of codes, moved by the residual.

        Args:
            z: (N, Z).
            y: int64 of shape (N,).
            fixed: the rest of the code, the residual last.

        Returns:
            (N, C, H, W) in [0, 1], differentiable in z.
        """
        if not fixed:
            raise TypeError("Expected the code of a Residual to be (z, *fixed, r), but got z alone. Use `encode`.")
        *fixed_of_manifold, residual = fixed
        return cut(self.manifold.decode(z, y, *fixed_of_manifold) + residual)
