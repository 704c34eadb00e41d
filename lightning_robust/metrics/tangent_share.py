"""How much of a perturbation lies along the manifold: its part in the tangent space."""

from typing import Any

import torch
from torch import Tensor

from lightning_robust._checks import instance
from lightning_robust._codes import parts
from lightning_robust.metrics._checks import check_float, counted
from lightning_robust.metrics._sums import Float64Metric
from lightning_robust.metrics.perturbation_norm import difference


def decoder_jacobian(manifold: Any, code: Any, y: Tensor) -> Tensor:
    r"""The derivatives of a decoder at codes: the tangent vectors of the manifold at the points that they make.

    .. math:: J_n = \frac{\partial\, \mathrm{decode}(z_n, y_n, \ldots)}{\partial z_n}

    Column j is the derivative by v of entry j of :math:`J^T v`: one pass forward, one back, and Z passes through the
    backward one, each for all samples at once. So the decoder must be twice differentiable, as torch's layers are.

    Args:
        manifold: with `decode(z, y, *fixed) -> x`, which treats samples one by one.
        code: float (N, Z), or a tuple (z, *fixed).
        y: int64 (N,), the labels.

    Returns:
        (N, C, H, W, Z), float32 at least.

    Raises:
        ValueError: if the images have no gradient with respect to the codes.

    Example:
        >>> class Circle:
        ...     def decode(self, z, y):
        ...         return torch.stack((z.cos(), z.sin()), dim=1)[..., None]
        >>> decoder_jacobian(Circle(), torch.tensor([[1.0], [2.0]]), torch.tensor([0, 0])).squeeze()
        tensor([[-0.8415,  0.5403],
                [-0.9093, -0.4161]])
    """
    if isinstance(manifold, type) or not callable(getattr(manifold, "decode", None)):
        raise TypeError(f"Expected argument `manifold` to have a method `decode`, but got {manifold!r}.")
    instance("y", y, Tensor, "a tensor (N,)")
    z, *fixed = parts(code)
    check_float("code", z, ("N", "Z"))
    with torch.inference_mode(False), torch.enable_grad():
        y, fixed = y.clone(), [value.clone() if isinstance(value, Tensor) else value for value in fixed]
        z = z.detach().to(torch.promote_types(z.dtype, torch.float32)).clone().requires_grad_()
        x = manifold.decode(z, y, *fixed)
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        direction, back = torch.zeros_like(x, requires_grad=True), None
        if x.requires_grad:
            (back,) = torch.autograd.grad(x, z, direction, create_graph=True, allow_unused=True)
        if back is None or not back.requires_grad:
            raise ValueError(
                "Expected argument `manifold` to make images that depend on the code, but they have no gradient."
            )
        columns = [torch.autograd.grad(back_j.sum(), direction, retain_graph=True)[0] for back_j in back.unbind(1)]
        return torch.stack(columns, dim=-1)


def tangent_share(delta: Tensor, jacobian: Tensor) -> Tensor:
    r"""The share of a perturbation, by its squared norm, that lies in the span of tangent vectors.

    .. math:: \frac{\| Q^T \delta \|_2^2}{\| \delta \|_2^2}

    with Q an orthonormal basis of the columns of J: left singular vectors whose singular value is above
    :math:`\max(D, Z)\, \varepsilon` times the largest, :math:`\varepsilon` the machine precision. The rest, 1 minus
    this, is the normal share.

    A random direction of D entries, such as Gaussian noise, has the share rank(J) / D on average, Z / D where the
    tangent vectors are independent: 0.013 for Z = 10 codes and 784 pixels. Compare with that.

    Args:
        delta: perturbations, floating point (N, ...), D entries each. Half precision is widened first.
        jacobian: tangent vectors in the last dimension, floating point (N, ..., Z): `decoder_jacobian`.

    Returns:
        Shares from 0 to 1, (N,). NaN where the perturbation is zero.

    Example:
        >>> plane = torch.tensor([[1.0, 1.0], [0.0, 1.0], [0.0, 0.0]])  # of the first two axes
        >>> delta = torch.tensor([[3.0, -1.0, 0.0], [0.0, 0.0, 2.0], [1.0, 1.0, 1.0]])
        >>> tangent_share(delta, plane.expand(3, 3, 2))
        tensor([1.0000, 0.0000, 0.6667])
    """
    check_float("delta", delta, ("N", "d", "..."))
    check_float("jacobian", jacobian, (*delta.shape, "Z"))
    return _share_and_rank(delta, jacobian)[0]


def _share_and_rank(delta: Tensor, jacobian: Tensor) -> tuple[Tensor, Tensor]:
    """The tangent shares and the ranks, (N,) each."""
    matrix = jacobian.detach().flatten(1, -2)
    matrix = matrix.to(torch.promote_types(matrix.dtype, torch.float32))
    basis, sizes, _ = torch.linalg.svd(matrix, full_matrices=False)
    kept = sizes > max(matrix.shape[1:]) * torch.finfo(matrix.dtype).eps * sizes[:, :1]
    flat = delta.detach().flatten(1).to(torch.promote_types(delta.dtype, torch.float32))
    flat = (flat / flat.abs().amax(1, keepdim=True)).to(basis.dtype)  # so that squares neither vanish nor overflow
    along = torch.where(kept, (flat[:, None] @ basis)[:, 0], 0.0).square().sum(1)
    return (along / flat.square().sum(1)).clamp(max=1), kept.sum(1)


class TangentShare(Float64Metric):
    r"""Mean shares of perturbations along the manifold and across it.

    With Q an orthonormal basis of the tangent space at x and :math:`\delta = x_\text{adv} - x`,

    .. math:: \frac{\| Q^T \delta \|_2^2}{\| \delta \|_2^2} \qquad\text{and}\qquad
        1 - \frac{\| Q^T \delta \|_2^2}{\| \delta \|_2^2} .

    Small on-manifold perturbations have a tangent share of 1. A regular adversarial example that leaves the manifold
    has a small one, but so has noise: a random direction has rank / D, which stands beside it.

    ``update`` takes

    - ``x`` float (N, ...): clean inputs. Half precision is welcome, the difference is taken in float32.
    - ``x_adv`` float (N, ...): adversarial examples, of the same shape.
    - ``jacobian`` float (N, ..., Z): tangent vectors of the manifold at x, see :func:`decoder_jacobian`.
    - ``mask`` bool (N,), optional: the samples to count, for example the successful attacks.

    Samples that are not moved (x_adv is x) have no shares and are not counted. ``compute`` returns a dictionary of
    scalars

    - ``tangent_share``, ``normal_share`` float32: means over the counted samples; their sum is 1.
    - ``random_share`` float32: the mean of rank / D, what random directions have.
    - ``tangent_count`` int64: the counted samples. Where there are none the others are NaN.

    Args:
        kwargs: Arguments of :class:`torchmetrics.Metric`.

    Example:
        The manifold is the first axis of the plane.

        >>> import torch
        >>> from lightning_robust.metrics import TangentShare
        >>> metric = TangentShare()
        >>> x = torch.zeros(2, 2)
        >>> x_adv = torch.tensor([[2.0, 0.0], [1.0, 1.0]])
        >>> metric.update(x, x_adv, jacobian=torch.tensor([[1.0], [0.0]]).expand(2, 2, 1))
        >>> for name, value in metric.compute().items():
        ...     print(name, value.item())
        tangent_share 0.75
        normal_share 0.25
        random_share 0.5
        tangent_count 2
    """

    higher_is_better = None

    share_sum: Tensor
    random_sum: Tensor
    total: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        zero = torch.tensor(0.0, dtype=torch.float64)
        self.add_sums(share_sum=zero, random_sum=zero.clone(), total=torch.tensor(0))

    def update(self, x: Tensor, x_adv: Tensor, jacobian: Tensor, mask: Tensor | None = None) -> None:
        """Take in a batch: ``x``, ``x_adv`` float (N, ...), ``jacobian`` float (N, ..., Z), ``mask`` bool (N,)."""
        check_float("x", x, ("N", "d", "..."))
        check_float("x_adv", x_adv, tuple(x.shape))
        check_float("jacobian", jacobian, (*x.shape, "Z"))
        delta = difference(x, x_adv)
        moved = counted(mask, len(x), x.device) & (delta != 0).any(1)
        share, rank = _share_and_rank(delta, jacobian)
        self.accumulate(
            share_sum=torch.where(moved, share.double(), 0.0).sum(),
            random_sum=torch.where(moved, rank.double() / delta.shape[1], 0.0).sum(),
            total=moved.sum(),
        )

    def compute(self) -> dict[str, Tensor]:
        """Mean shares and count."""
        share = self.share_sum / self.total
        return {
            "tangent_share": share.float(),
            "normal_share": (1 - share).float(),
            "random_share": (self.random_sum / self.total).float(),
            "tangent_count": self.total,
        }
