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


def problem() -> tuple[Plane, Tensor, Tensor]:
    return Plane(), torch.rand(6, 1, 3, 4, generator=torch.Generator().manual_seed(1)).double(), torch.zeros(6).long()


@pytest.mark.parametrize("shift", [0.0, 0.25])
def test_linear_manifold(shift):
    plane, x, y = problem()
    point = project(plane, x, y, (torch.zeros(6, 3).double(), shift), steps=600, lr=0.1, decay=0.9)
    want = (x - shift).flatten(1) @ plane.basis.T
    torch.testing.assert_close(point.z, want, atol=1e-3, rtol=0)
    torch.testing.assert_close(point.x, plane.decode(point.z, y, shift))
    torch.testing.assert_close(point.distance, (x - point.x).flatten(1).norm(dim=1))


def test_bounds_are_kept():
    plane, x, y = problem()
    point = project(plane, x, y, steps=300, lr=0.1, decay=0.9, bounds=(-0.2, torch.tensor([0.3, 0.2, 0.1])))
    want = (x.flatten(1) @ plane.basis.T).clamp(torch.full((3,), -0.2), torch.tensor([0.3, 0.2, 0.1]))
    # The rows are orthonormal, so the nearest point of the box is found by clipping.
    torch.testing.assert_close(point.z, want, atol=2e-3, rtol=0)


def test_more_steps_never_raise_the_distance_and_samples_are_on_their_own():
    plane, x, y = problem()
    distances = [project(plane, x, y, steps=steps, lr=0.5).distance for steps in (0, 1, 5, 20)]
    torch.testing.assert_close(distances[0], x.flatten(1).norm(dim=1))
    for less, more in pairwise(distances):
        assert (more <= less).all()
    alone = project(plane, x[2:3], y[2:3], steps=20, lr=0.5)
    torch.testing.assert_close(alone.distance, distances[-1][2:3])


def test_works_in_inference_mode_and_touches_neither_gradients_nor_generators():
    plane, x, y = problem()
    state = torch.random.get_rng_state()
    with torch.inference_mode():
        inside = project(plane, x.clone(), y.clone(), steps=5)
    torch.testing.assert_close(inside.distance, project(plane, x, y, steps=5).distance)
    assert not inside.z.requires_grad
    assert torch.equal(torch.random.get_rng_state(), state)


# ------------------------------------------------------------------------------------------------- the true manifold


@pytest.fixture(scope="module")
def letters():
    x, y, code = Fonts("hard").batch(torch.arange(0, 640, 20) + 3)
    return x, y, tuple(code)


def nearest(difficulty, x, y, code, **options):
    manifold = FontsManifold(difficulty)
    return project(manifold, x, y, code, bounds=manifold.bounds, **options)


def test_points_of_the_manifold_are_their_own_projection(letters):
    point = nearest("hard", *letters, steps=5)
    assert torch.equal(point.distance, torch.zeros(32))
    assert torch.equal(point.z, letters[2][0])


def test_projection_finds_the_way_back(letters):
    x, y, (theta, font) = letters
    low, high = FontsManifold("hard").bounds
    start = (theta + 0.05 * torch.tensor([1, -1, 1, 1, 1, -1])).clamp(low, high)
    before = (FontsManifold().decode(start, y, font) - x).flatten(1).norm(dim=1)
    point = nearest("hard", x, y, (start, font))
    assert point.distance.median() < 0.05 * before.median()
    assert (point.distance <= before + 1e-6).all()
    torch.testing.assert_close(FontsManifold().decode(point.z, y, font), point.x)


def test_projection_stays_in_the_box(letters):
    theta = letters[2][0]  # of the hard set: most of it is not in the easy one
    low, high = FontsManifold("easy").bounds
    point = nearest("easy", *letters, steps=30)
    assert ((point.z >= low) & (point.z <= high)).all()
    inside = ((theta >= low) & (theta <= high)).all(1)
    assert (point.distance[~inside] > 0.1).float().mean() > 0.9


def test_noise_is_off_the_manifold(letters):
    x, y, code = letters
    noise = 0.3 * torch.sign(torch.randn(x.shape, generator=torch.Generator().manual_seed(0)))
    # The manifold has six dimensions of 784: almost all of the noise remains.
    assert (nearest("hard", x + noise, y, code, steps=30).distance > 0.9 * noise.flatten(1).norm(dim=1)).all()


@pytest.mark.parametrize("bounds", [1.0, (0.0, 1.0, 2.0), "01"])
def test_bounds_are_a_pair(bounds):
    with pytest.raises(TypeError, match="argument `bounds` to be a pair"):
        project(*problem(), bounds=bounds)
