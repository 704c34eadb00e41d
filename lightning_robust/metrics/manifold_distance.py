"""How far adversarial examples are from the data manifold, and at which angle they leave it."""

from typing import Any

import torch
from torch import Tensor

from lightning_robust.metrics._checks import check_float, counted
from lightning_robust.metrics._sums import Float64Metric
from lightning_robust.metrics.perturbation_norm import difference, perturbation_norm


def angle_between(u: Tensor, v: Tensor) -> Tensor:
    r"""The angle between vectors in degrees, accurate for all angles.

    .. math:: \angle(u, v) = 2 \arctan \frac{\| u / \|u\| - v / \|v\| \|}{\| u / \|u\| + v / \|v\| \|}

    The arc cosine of the normalised inner product loses half of the digits near 0 and 180 degrees.

    Args:
        u: Vectors, floating point (N, d).
        v: Vectors, floating point (N, d).

    Returns:
        Degrees from 0 to 180, (N,). NaN where a vector is zero.

    Example:
        >>> angle_between(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[2.0, 0.0], [1.0, 1.0]]))
        tensor([ 0., 45.])

    References:
        W. Kahan, How futile are mindless assessments of roundoff in floating-point computation?, 2006, section 12.
    """
    u = u / torch.linalg.vector_norm(u, dim=1, keepdim=True)
    v = v / torch.linalg.vector_norm(v, dim=1, keepdim=True)
    return 2 * torch.atan2(torch.linalg.vector_norm(u - v, dim=1), torch.linalg.vector_norm(u + v, dim=1)).rad2deg()


def manifold_angle(x: Tensor, x_adv: Tensor, projection: Tensor) -> Tensor:
    r"""The angle between a perturbation and its part along the manifold, in degrees.

    .. math:: \angle(x_\text{adv} - x, \; \pi(x_\text{adv}) - x)

    0 where the perturbation stays on the manifold, 90 where it leaves it at a right angle. Where the projection falls
    back on x the perturbation has no part along the manifold, and the angle is 90; where x_adv is x there is none: NaN.

    Args:
        x: Points of the manifold, floating point (N, ...).
        x_adv: Their adversarial examples, of the same shape.
        projection: The points of the manifold nearest to x_adv, of the same shape.

    Returns:
        Degrees from 0 to 180, (N,).
    """
    perturbation, along = difference(x, x_adv), difference(x, projection)
    angle = torch.where((along == 0).all(1), 90.0, angle_between(perturbation, along))
    return torch.where((perturbation == 0).all(1), torch.nan, angle)


class ManifoldDistance(Float64Metric):
    r"""Mean distance of adversarial examples from the manifold, and mean angle at which they leave it.

    With :math:`\pi(x)` the point of the manifold nearest to x,

    .. math:: \| x_\text{adv} - \pi(x_\text{adv}) \|_2 \qquad\text{and}\qquad
        \angle(x_\text{adv} - x, \; \pi(x_\text{adv}) - x) .

    Regular adversarial examples leave the manifold almost at a right angle (90 degrees, Stutz et al., 2019, claim 1);
    on-manifold ones have distance 0 and angle 0. Where the manifold is approximated, clean inputs too are at some
    distance from it: measure them with a second metric, ``update(x, x, projection_of_x)``, and compare.

    ``update`` takes

    - ``x`` float (N, ...): clean inputs. Half precision is welcome, the difference is taken in float32.
    - ``x_adv`` float (N, ...): adversarial examples, of the same shape.
    - ``projection`` float (N, ...): the projection of ``x_adv`` onto the manifold, of the same shape.
    - ``mask`` bool (N,), optional: the samples to count, for example the successful attacks on originally correct
      samples, as the paper does.

    ``compute`` returns a dictionary of scalars

    - ``manifold_distance`` float32: mean distance, in the units of x; NaN where nothing was counted.
    - ``manifold_angle`` float32: mean angle in degrees over the counted samples that were moved at all (x_adv is not
      x); NaN where there are none.
    - ``manifold_count`` int64: the counted samples.

    Args:
        kwargs: Arguments of :class:`torchmetrics.Metric`.

    Example:
        The manifold is the first axis of the plane.

        >>> import torch
        >>> from lightning_robust.metrics import ManifoldDistance
        >>> metric = ManifoldDistance()
        >>> x = torch.tensor([[0.0, 0.0], [1.0, 0.0]])
        >>> x_adv = torch.tensor([[1.0, 1.0], [1.0, 3.0]])
        >>> metric.update(x, x_adv, projection=x_adv * torch.tensor([1.0, 0.0]))
        >>> for name, value in metric.compute().items():
        ...     print(name, value.item())
        manifold_distance 2.0
        manifold_angle 67.5
        manifold_count 2

    References:
        D. Stutz, M. Hein, B. Schiele, Disentangling adversarial robustness and generalization, CVPR 2019,
        arXiv 1812.00740.
    """

    higher_is_better = None

    distance_sum: Tensor
    angle_sum: Tensor
    total: Tensor
    moved: Tensor

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        zero = torch.tensor(0.0, dtype=torch.float64)
        self.add_sums(distance_sum=zero, angle_sum=zero.clone(), total=torch.tensor(0), moved=torch.tensor(0))

    def update(self, x: Tensor, x_adv: Tensor, projection: Tensor, mask: Tensor | None = None) -> None:
        """Take in a batch: ``x``, ``x_adv``, ``projection`` float (N, ...), ``mask`` bool (N,)."""
        check_float("x", x, ("N", "d", "..."))
        check_float("x_adv", x_adv, tuple(x.shape))
        check_float("projection", projection, tuple(x.shape))
        kept = counted(mask, len(x), x.device)
        moved = kept & (difference(x, x_adv) != 0).any(1)
        distances = perturbation_norm(projection, x_adv, p=2).double()
        angles = manifold_angle(x, x_adv, projection).double()
        self.accumulate(
            distance_sum=torch.where(kept, distances, 0.0).sum(),
            angle_sum=torch.where(moved, angles, 0.0).sum(),
            total=kept.sum(),
            moved=moved.sum(),
        )

    def compute(self) -> dict[str, Tensor]:
        """Mean distance, mean angle and count."""
        return {
            "manifold_distance": (self.distance_sum / self.total).float(),
            "manifold_angle": (self.angle_sum / self.moved).float(),
            "manifold_count": self.total,
        }
