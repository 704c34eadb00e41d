import math

import numpy as np
import pytest
import torch

from lightning_robust.metrics import ManifoldDistance, angle_between
from lightning_robust.metrics.manifold_distance import manifold_angle


def linear(n=50, d=12, rank=4, seed=0):
    """Points of a linear manifold, perturbed, and the orthogonal projections of the perturbed ones (float64)."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.normal(size=(d, rank)))[0]
    x = rng.normal(size=(n, rank)) @ basis.T
    x_adv = x + rng.normal(size=(n, d))
    return tuple(torch.from_numpy(a) for a in (x, x_adv, x_adv @ basis @ basis.T))


def test_linear_manifold_agrees_with_trigonometry():
    """There distance, perturbation and projection form a right triangle: sin(angle) = distance / |perturbation|."""
    x, x_adv, projection = linear()
    distance = np.linalg.norm(x_adv - projection, axis=1)
    angle = np.degrees(np.arcsin(distance / np.linalg.norm(x_adv - x, axis=1)))
    torch.testing.assert_close(manifold_angle(x, x_adv, projection).numpy(), angle, rtol=1e-9, atol=0)
    metric = ManifoldDistance()
    for part in zip(x.split(20), x_adv.split(20), projection.split(20), strict=True):
        metric.update(*part)
    result = metric.compute()
    assert result["manifold_distance"].item() == pytest.approx(distance.mean(), rel=1e-6)
    assert result["manifold_angle"].item() == pytest.approx(angle.mean(), rel=1e-6)
    assert result["manifold_count"] == 50


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_half_precision_inputs(dtype):
    """The inputs are rounded, what is computed of them is not."""
    inputs = [tensor.to(dtype) for tensor in linear()]
    low, high = ManifoldDistance(), ManifoldDistance()
    low.update(*inputs)
    high.update(*(tensor.double() for tensor in inputs))
    for name, value in high.compute().items():
        torch.testing.assert_close(low.compute()[name], value, rtol=1e-5, atol=0)


def test_images_are_vectors():
    inputs = linear()
    flat, image = ManifoldDistance(), ManifoldDistance()
    flat.update(*inputs)
    image.update(*(tensor.view(50, 1, 3, 4) for tensor in inputs))
    assert flat.compute() == image.compute()


@pytest.mark.parametrize("degrees", [0.0, 1e-5, 30.0, 90.0, 150.0, 180 - 1e-5, 180.0])
def test_angle_is_accurate_near_0_and_180(degrees):
    """The arc cosine would give 0 for 1e-5 degrees, also in float64 only half the digits."""
    angle = math.radians(degrees)
    u = torch.tensor([[3.0, 0.0]], dtype=torch.float64)
    v = 7 * torch.tensor([[math.cos(angle), math.sin(angle)]], dtype=torch.float64)
    assert angle_between(u, v).item() == pytest.approx(degrees, rel=1e-10, abs=1e-13)
    assert angle_between(v, u).item() == pytest.approx(degrees, rel=1e-10, abs=1e-13)


def test_angle_of_a_zero_vector_is_undefined():
    assert angle_between(torch.zeros(1, 3), torch.ones(1, 3)).isnan()


def test_angles_at_the_edges():
    x = torch.zeros(4, 2)
    x_adv = torch.tensor([[2.0, 0.0], [0.0, 2.0], [0.0, 0.0], [1.0, 1.0]])
    projection = x_adv * torch.tensor([1.0, 0.0])
    angle = manifold_angle(x, x_adv, projection)
    torch.testing.assert_close(angle, torch.tensor([0.0, 90.0, math.nan, 45.0]), equal_nan=True)
    metric = ManifoldDistance()
    metric.update(x, x_adv, projection)
    result = metric.compute()
    assert result["manifold_distance"].item() == pytest.approx((0 + 2 + 0 + 1) / 4)
    assert result["manifold_angle"].item() == pytest.approx((0 + 90 + 45) / 3)
    assert result["manifold_count"] == 4


def test_clean_inputs_have_a_distance_and_no_angle():
    x, _, _ = linear()
    metric = ManifoldDistance()
    metric.update(x, x, x + 0.5)
    result = metric.compute()
    assert result["manifold_distance"].item() == pytest.approx(0.5 * math.sqrt(12))
    assert result["manifold_angle"].isnan()


@pytest.mark.parametrize("wrong", range(3))
def test_wrong_data_names_the_argument(wrong):
    name = ("x", "x_adv", "projection")[wrong]
    inputs = [torch.zeros(2, 3) for _ in range(3)]
    inputs[wrong] = torch.zeros(2, 3, dtype=torch.int64)
    with pytest.raises(ValueError, match=f"`{name}` to be a floating point tensor .* but got a int64 tensor"):
        ManifoldDistance().update(*inputs)
    inputs[wrong] = torch.zeros(2)
    with pytest.raises(
        ValueError, match=r"Expected argument `x(_adv)?|projection` to be a floating point tensor of shape"
    ):
        ManifoldDistance().update(*inputs)
