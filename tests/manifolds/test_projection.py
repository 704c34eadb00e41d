"""Projection against the closed form on a linear manifold, and on the true Fonts manifold."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor

from lightning_robust.datamodules import Fonts
from lightning_robust.manifolds.fonts import FontsManifold
from lightning_robust.manifolds.projection import project


class Plane:
    """x = z A + shift, with orthonormal rows of A, by its two methods."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.basis = torch.linalg.qr(torch.randn(12, 3, generator=generator, dtype=torch.float64))[0].T

    def encode(self, x: Tensor, y: Tensor) -> Tensor:
        return x.new_zeros(len(x), 3)

    def decode(self, z: Tensor, y: Tensor, shift: float = 0.0) -> Tensor:
        return (z @ self.basis.to(z)).view(-1, 1, 3, 4) + shift


def problem(n: int = 6) -> tuple[Plane, Tensor, Tensor]:
    return Plane(), torch.rand(n, 1, 3, 4, generator=torch.Generator().manual_seed(1)).double(), torch.zeros(n).long()


@pytest.mark.parametrize("shift", [0.0, 0.25])
def test_linear_manifold(shift):
    plane, x, y = problem()
    found = project(plane, x, y, (torch.zeros(6, 3).double(), shift), steps=600, lr=0.1, decay=0.9)
    want = (x - shift).flatten(1) @ plane.basis.T
    torch.testing.assert_close(found.z, want, atol=1e-3, rtol=0)
    torch.testing.assert_close(found.x, plane.decode(found.z, y, shift))
    torch.testing.assert_close(found.distance, (x - found.x).flatten(1).norm(dim=1))


def test_bounds_are_kept():
    plane, x, y = problem()
    found = project(plane, x, y, steps=300, lr=0.1, decay=0.9, bounds=(-0.2, torch.tensor([0.3, 0.2, 0.1])))
    want = (x.flatten(1) @ plane.basis.T).clamp(torch.full((3,), -0.2), torch.tensor([0.3, 0.2, 0.1]))
    # The rows are orthonormal, so the nearest point of the box is found by clipping.
    torch.testing.assert_close(found.z, want, atol=2e-3, rtol=0)


def test_more_steps_never_raise_the_distance_and_samples_are_on_their_own():
    plane, x, y = problem()
    distances = [project(plane, x, y, steps=steps, lr=0.5).distance for steps in (0, 1, 5, 20)]
    torch.testing.assert_close(distances[0], x.flatten(1).norm(dim=1))
    for less, more in pairwise(distances):
        assert (more <= less).all()
    alone = project(plane, x[2:3], y[2:3], steps=20, lr=0.5)
    torch.testing.assert_close(alone.distance, distances[-1][2:3])


def test_works_in_inference_mode_and_touches_no_gradients():
    plane, x, y = problem()
    with torch.inference_mode():
        inside = project(plane, x.clone(), y.clone(), steps=5)
    torch.testing.assert_close(inside.distance, project(plane, x, y, steps=5).distance)
    assert not inside.z.requires_grad


def test_agrees_with_the_true_fonts_manifold():
    manifold = FontsManifold("hard")
    x, y, code = Fonts().tensors("test", limit=6)
    noisy = (x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    generic = project(manifold, noisy, y, tuple(code), steps=20, bounds=manifold.bounds)
    own = manifold.project(noisy, y, tuple(code), steps=20)
    torch.testing.assert_close(generic.distance, own.distance)
    torch.testing.assert_close(generic.z, own[0])


@pytest.mark.parametrize("bounds", [1.0, (0.0, 1.0, 2.0), "01"])
def test_bounds_are_a_pair(bounds):
    with pytest.raises(TypeError, match="argument `bounds` to be a pair"):
        project(*problem(), bounds=bounds)
