import pytest
import torch

from lightning_robust.models import Normalize, PerImageStandardize


def test_agrees_with_torchvision():
    functional = pytest.importorskip("torchvision.transforms.v2.functional")
    mean, std = [0.4914, 0.4822, 0.4465], [0.2471, 0.2435, 0.2616]
    x = torch.rand(2, 3, 4, 5)
    torch.testing.assert_close(Normalize(mean, std)(x), functional.normalize(x, mean, std))


def test_one_number_serves_any_shape():
    normalize = Normalize(0.5, 0.25)
    for shape in ((3,), (3, 7), (3, 2, 4), (3, 1, 4, 4)):
        if len(shape) > 1:
            assert (normalize(torch.ones(shape)) == 2).all()
    assert (Normalize([0.0, 1.0], 2.0)(torch.ones(1, 2, 1, 1)).flatten() == torch.tensor([0.5, 0.0])).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_keeps_the_precision_of_the_images(dtype):
    assert Normalize(0.5, 0.5)(torch.ones(1, 1, 2, 2, dtype=dtype)).dtype == dtype


def test_travels_with_the_state_dict():
    a, b = Normalize([0.1, 0.2], [0.3, 0.4]), Normalize([0.0, 0.0], [1.0, 1.0])
    b.load_state_dict(a.state_dict())
    x = torch.rand(1, 2, 3, 3)
    assert torch.equal(a(x), b(x))


def test_refuses_wrong_arguments():
    with pytest.raises(ValueError, match=r"`std\[1\]` to be a number greater than 0, but got 0.0"):
        Normalize(0.0, [1.0, 0.0])
    with pytest.raises(ValueError, match="as many entries"):
        Normalize([0.0, 0.0], [1.0, 1.0, 1.0])


def test_refuses_wrong_images():
    normalize = Normalize([0.5] * 3, [0.5] * 3)
    with pytest.raises(ValueError, match=r"3 channels, but got shape \(2, 1, 4, 4\)"):
        normalize(torch.rand(2, 1, 4, 4))
    with pytest.raises(TypeError, match=r"but got torch.uint8: divide by 255 first"):
        normalize(torch.zeros(2, 3, 4, 4, dtype=torch.uint8))


def test_every_image_gets_mean_zero_and_deviation_one():
    x = torch.rand(4, 3, 8, 8, dtype=torch.float64) * torch.tensor([1.0, 0.5, 0.1, 0.01]).view(-1, 1, 1, 1)
    y = PerImageStandardize()(x).flatten(1)
    torch.testing.assert_close(y.mean(1), torch.zeros(4, dtype=torch.float64))
    torch.testing.assert_close(y.std(1, correction=0), torch.ones(4, dtype=torch.float64))
    assert torch.autograd.gradcheck(PerImageStandardize(), x[:2, :1, :3, :3].requires_grad_())


def test_equals_the_formula_on_pixels_up_to_255():
    x = 0.5 + 1e-5 * torch.randn(2, 3, 4, 4, dtype=torch.float64)  # nearly constant: the bound is active
    pixels = 255 * x
    mean = pixels.mean((1, 2, 3), keepdim=True)
    expected = (pixels - mean) * 48**0.5  # max(std, 1 / sqrt(48)) = 1 / sqrt(48)
    torch.testing.assert_close(PerImageStandardize()(x), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_constant_image_is_zero_with_a_finite_gradient(dtype):
    x = torch.full((2, 3, 4, 4), 0.5, dtype=dtype, requires_grad=True)
    y = PerImageStandardize()(x)
    (g,) = torch.autograd.grad(y.square().sum() + y[0, 0, 0, 0], x)
    assert y.dtype == dtype
    assert not y.any()
    assert g.isfinite().all()
