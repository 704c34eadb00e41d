import pytest
import torch

from lightning_robust.models import PerImageStandardize


def test_every_image_gets_mean_zero_and_deviation_one():
    x = torch.rand(4, 3, 8, 8, dtype=torch.float64) * torch.tensor([1.0, 0.5, 0.1, 0.01]).view(-1, 1, 1, 1)
    y = PerImageStandardize()(x).flatten(1)
    torch.testing.assert_close(y.mean(1), torch.zeros(4, dtype=torch.float64))
    torch.testing.assert_close(y.std(1, correction=0), torch.ones(4, dtype=torch.float64))


def test_equals_the_formula_on_pixels_up_to_255():
    x = 0.5 + 1e-5 * torch.randn(2, 3, 4, 4, dtype=torch.float64)  # nearly constant: the bound is active
    pixels = 255 * x
    mean = pixels.mean((1, 2, 3), keepdim=True)
    expected = (pixels - mean) * 48**0.5  # max(std, 1 / sqrt(48)) = 1 / sqrt(48)
    torch.testing.assert_close(PerImageStandardize()(x), expected)


def test_gradient():
    x = torch.rand(2, 1, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(PerImageStandardize(), x)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_constant_image_is_zero_with_a_finite_gradient(dtype):
    x = torch.full((2, 3, 4, 4), 0.5, dtype=dtype, requires_grad=True)
    y = PerImageStandardize()(x)
    (g,) = torch.autograd.grad(y.square().sum() + y[0, 0, 0, 0], x)
    assert y.dtype == dtype
    assert not y.any()
    assert g.isfinite().all()
