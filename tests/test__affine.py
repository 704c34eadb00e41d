import math

import numpy as np
import pytest
import torch

from lightning_robust._affine import IDENTITY, affine_matrix, warp


def theta(**kwargs):
    names = ["t_x", "t_y", "shear_x", "shear_y", "scale", "rotation"]
    row = [float(kwargs.pop(name, default)) for name, default in zip(names, IDENTITY, strict=True)]
    assert not kwargs
    return torch.tensor([row], dtype=torch.float64)


def random_theta(n, seed=0):
    g = torch.Generator().manual_seed(seed)
    out = torch.randn(n, 6, generator=g, dtype=torch.float64) * 0.3
    out[:, 4] += 1
    return out


def resample_slowly(image, params):
    """The definition, pixel by pixel: centres of corner pixels at -1 and 1, bilinear, zeros outside."""
    t_x, t_y, l_x, l_y, s, r = params
    linear = s * np.array([[1, l_x], [l_y, 1]]) @ np.array([[np.cos(r), -np.sin(r)], [np.sin(r), np.cos(r)]])
    height, width = image.shape
    out = np.zeros_like(image)
    for row in range(height):
        for column in range(width):
            p = np.array([2 * column / (width - 1) - 1, 2 * row / (height - 1) - 1])
            q = linear @ p + np.array([t_x, t_y])
            c, d = (q[0] + 1) * (width - 1) / 2, (q[1] + 1) * (height - 1) / 2
            for j in (math.floor(d), math.floor(d) + 1):
                for i in (math.floor(c), math.floor(c) + 1):
                    if 0 <= j < height and 0 <= i < width:
                        out[row, column] += image[j, i] * (1 - abs(c - i)) * (1 - abs(d - j))
    return out


def test_matrix_of_each_parameter_alone():
    quarter = math.pi / 2
    cases = {
        "t_x": (0.3, [[1, 0, 0.3], [0, 1, 0]]),
        "t_y": (0.3, [[1, 0, 0], [0, 1, 0.3]]),
        "shear_x": (0.5, [[1, 0.5, 0], [0, 1, 0]]),
        "shear_y": (0.5, [[1, 0, 0], [0.5, 1, 0]]),
        "scale": (2.0, [[2, 0, 0], [0, 2, 0]]),
        "rotation": (quarter, [[0, -1, 0], [1, 0, 0]]),
    }
    for name, (value, expected) in cases.items():
        torch.testing.assert_close(affine_matrix(theta(**{name: value}))[0], torch.tensor(expected).double())


def test_matrix_is_the_product_of_its_factors():
    parameters = random_theta(20)
    t_x, t_y, l_x, l_y, s, r = parameters.unbind(1)
    one = torch.ones_like(s)
    shear = torch.stack([one, l_x, l_y, one], 1).reshape(-1, 2, 2)
    rotation = torch.stack([r.cos(), -r.sin(), r.sin(), r.cos()], 1).reshape(-1, 2, 2)
    matrix = affine_matrix(parameters)
    torch.testing.assert_close(matrix[:, :, :2], s[:, None, None] * shear @ rotation)
    torch.testing.assert_close(matrix[:, :, 2], torch.stack([t_x, t_y], 1))
    # det(A) = scale^2 (1 - shear_x shear_y) tells this product from the matrix of the paper's code.
    torch.testing.assert_close(torch.det(matrix[:, :, :2]), s**2 * (1 - l_x * l_y))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(2, 3, 28, 28), (2, 1, 7, 12), (2, 1, 1, 5), (2, 1, 1, 1)])
def test_identity_is_exact(dtype, shape):
    images = torch.rand(shape, dtype=torch.float64).to(dtype)
    assert torch.equal(warp(images, torch.tensor([IDENTITY]).expand(2, 6)), images)


@pytest.mark.parametrize("pixels", [1, 3, -2])
def test_translation_by_whole_pixels_shifts(pixels):
    image = torch.rand(1, 2, 9, 13)
    wide = torch.nn.functional.pad(image, (4, 4, 4, 4))
    right = warp(image, theta(t_x=2 * pixels / 12))
    torch.testing.assert_close(right, wide[:, :, 4:13, 4 + pixels : 17 + pixels], atol=1e-6, rtol=0)
    down = warp(image, theta(t_y=2 * pixels / 8))
    torch.testing.assert_close(down, wide[:, :, 4 + pixels : 13 + pixels, 4:17], atol=1e-6, rtol=0)


def test_rotation_by_quarter_turns_is_rot90():
    image = torch.rand(1, 1, 8, 8, dtype=torch.float64)
    for turns in (1, 2, 3, -1):
        expected = torch.rot90(image, turns, dims=(2, 3))
        torch.testing.assert_close(warp(image, theta(rotation=turns * math.pi / 2)), expected)


def test_scale_two_takes_every_second_pixel():
    image = torch.rand(1, 1, 9, 9, dtype=torch.float64)
    out = warp(image, theta(scale=2.0))
    expected = torch.zeros_like(image)
    expected[:, :, 2:7, 2:7] = image[:, :, ::2, ::2]
    torch.testing.assert_close(out, expected)


def test_agrees_with_a_slow_resampler():
    images, parameters = torch.rand(6, 1, 8, 11, dtype=torch.float64), random_theta(6)
    expected = [resample_slowly(i[0].numpy(), p.numpy()) for i, p in zip(images, parameters, strict=True)]
    np.testing.assert_allclose(warp(images, parameters)[:, 0].numpy(), np.stack(expected), atol=1e-12)


@pytest.mark.parametrize("shape", [(3, 28, 28), (1, 7, 12), (2, 33, 5)])
def test_agrees_with_grid_sample(shape):
    images, parameters = torch.rand(8, *shape, dtype=torch.float64), random_theta(8)
    grid = torch.nn.functional.affine_grid(affine_matrix(parameters), [8, *shape], align_corners=True)
    expected = torch.nn.functional.grid_sample(images, grid, align_corners=True)
    torch.testing.assert_close(warp(images, parameters), expected)
    torch.testing.assert_close(warp(images.float(), parameters.float()), expected.float(), atol=2e-5, rtol=0)


def test_first_and_second_derivatives():
    images = torch.rand(3, 2, 6, 5, dtype=torch.float64, requires_grad=True)
    parameters = random_theta(3).requires_grad_()
    assert torch.autograd.gradcheck(warp, (images, parameters))
    assert torch.autograd.gradgradcheck(warp, (images, parameters))


def test_alone_as_in_company():
    images, parameters = torch.rand(65, 1, 28, 28), random_theta(65).float()
    together = warp(images, parameters)
    for i in (0, 1, 31, 64):
        assert torch.equal(warp(images[i : i + 1], parameters[i : i + 1])[0], together[i])


def test_precision_settings_do_not_matter():
    images, parameters = torch.rand(4, 1, 28, 28), random_theta(4).float()
    expected = warp(images, parameters)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = warp(images, parameters)
    finally:
        torch.set_float32_matmul_precision(before)
    assert out.dtype == torch.float32
    assert torch.equal(out, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(dtype):
    images, parameters = torch.rand(4, 1, 28, 28).to(dtype), random_theta(4).to(dtype)
    out = warp(images, parameters)
    assert out.dtype == dtype
    assert torch.equal(out, warp(images.float(), parameters.float()).to(dtype))


@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e30])
def test_parameters_out_of_all_bounds(bad):
    images, parameters = torch.rand(2, 1, 4, 4), random_theta(2).float()
    expected = warp(images, parameters)
    parameters[1, 0] = bad
    out = warp(images, parameters)
    assert torch.equal(out[0], expected[0])
    assert out[1].isnan().all() if not math.isfinite(bad) else (out[1] == 0).all()


def test_wrong_arguments():
    images = torch.rand(2, 1, 4, 4)
    for parameters in (torch.rand(2, 5), torch.rand(6), torch.ones(2, 6, dtype=torch.int64)):
        with pytest.raises(ValueError, match=r"Expected argument `theta` to be .* but got"):
            affine_matrix(parameters)
    with pytest.raises(ValueError, match=r"`theta` to be of shape \(2, 6\), .* but got \(3, 6\)"):
        warp(images, torch.rand(3, 6))
    for wrong in (torch.rand(2, 4, 4), torch.ones(2, 1, 4, 4, dtype=torch.uint8)):
        with pytest.raises(ValueError, match="Expected argument `images`"):
            warp(wrong, torch.rand(2, 6))


@pytest.mark.gpu
def test_cuda_agrees_and_has_a_deterministic_gradient():
    images, parameters = torch.rand(16, 3, 32, 32), random_theta(16).float()
    out = []
    torch.use_deterministic_algorithms(True)
    try:
        for device in ("cpu", "cuda", "cuda"):
            i, p = images.to(device).requires_grad_(), parameters.to(device).requires_grad_()
            grads = torch.autograd.grad(warp(i, p).square().sum(), (i, p))
            out.append([t.cpu() for t in (warp(i, p).detach(), *grads)])
    finally:
        torch.use_deterministic_algorithms(False)
    for cpu, first, second in zip(*out, strict=True):
        assert torch.equal(first, second)
        torch.testing.assert_close(first, cpu, atol=1e-3, rtol=1e-3)
