"""Shares along and across the manifold: linear decoders in closed form, others against torch.func."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lightning_robust.manifolds import VAEGAN, FontsManifold
from lightning_robust.metrics import ManifoldDistance, TangentShare, decoder_jacobian, tangent_share

N, D, Z = 40, 12, 4


class Linear:
    """x = shift_y + z A_y: the Jacobian is A_y everywhere."""

    def __init__(self, classes: int = 3) -> None:
        g = torch.Generator().manual_seed(0)
        self.rows = torch.randn(classes, Z, D, generator=g, dtype=torch.float64)

    def decode(self, z: Tensor, y: Tensor, shift: float = 0.0) -> Tensor:
        return (z.to(self.rows)[:, None] @ self.rows[y]).view(-1, 1, 3, 4) + shift


def problem() -> tuple[Linear, Tensor, Tensor, Tensor]:
    """The decoder, codes, labels and the Jacobian (N, 1, 3, 4, Z)."""
    linear, y = Linear(), torch.arange(N) % 3
    z = torch.randn(N, Z, generator=torch.Generator().manual_seed(1)).double()
    return linear, z, y, linear.rows[y].mT.view(N, 1, 3, 4, Z)


def noise(*size: int) -> Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


# ---- shares


def test_along_across_and_in_between():
    """With p the projection of noise by least squares: p has share 1, the rest 0, their sum cos^2 of its angle."""
    _, _, _, jacobian = problem()
    delta = noise(N, 1, 3, 4)
    flat = jacobian.flatten(1, -2)
    along = (flat @ torch.linalg.lstsq(flat, delta.flatten(1)[..., None]).solution).view_as(delta)
    torch.testing.assert_close(tangent_share(along, jacobian), torch.ones(N).double())
    torch.testing.assert_close(tangent_share(delta - along, jacobian), torch.zeros(N).double(), atol=1e-12, rtol=0)
    cosine = torch.cosine_similarity(delta.flatten(1), along.flatten(1))
    torch.testing.assert_close(tangent_share(delta, jacobian), cosine.square())


def test_random_directions_have_rank_over_dimension():
    jacobian = problem()[3][:1].expand(4000, -1, -1, -1, -1)
    share = tangent_share(noise(4000, 1, 3, 4), jacobian)
    assert share.mean().item() == pytest.approx(Z / D, abs=5 * share.std().item() / 4000**0.5)


def test_dependent_tangent_vectors_count_once():
    _, _, _, jacobian = problem()
    delta = noise(N, 1, 3, 4)
    mixed = torch.cat([jacobian, 1e3 * jacobian @ noise(Z, 3), 0 * jacobian], dim=-1)
    torch.testing.assert_close(tangent_share(delta, mixed), tangent_share(delta, jacobian), rtol=1e-9, atol=0)
    single = torch.cat([jacobian, jacobian @ noise(Z, 3)], dim=-1).float()  # the rounding of float32 is no direction
    torch.testing.assert_close(tangent_share(delta, single), tangent_share(delta, jacobian).float(), rtol=1e-4, atol=0)
    torch.testing.assert_close(tangent_share(delta, 0 * jacobian), torch.zeros(N).double())
    every = noise(N, 1, 3, 4, D + 3)
    torch.testing.assert_close(tangent_share(delta, every), torch.ones(N).double())


@pytest.mark.parametrize("size", [1e-300, 1e-30, 1.0, 1e200])
def test_neither_the_size_of_a_perturbation_nor_that_of_the_vectors_matters(size):
    _, _, _, jacobian = problem()
    delta = noise(N, 1, 3, 4)
    want = tangent_share(delta, jacobian)
    torch.testing.assert_close(tangent_share(size * delta, jacobian), want)
    torch.testing.assert_close(tangent_share(delta, max(size, 1e-100) * jacobian), want)


def test_a_perturbation_in_float64_may_be_below_what_the_type_of_the_vectors_holds():
    _, _, _, jacobian = problem()
    delta = noise(N, 1, 3, 4)
    wanted = tangent_share(delta.float(), jacobian.float())
    torch.testing.assert_close(tangent_share(1e-60 * delta, jacobian.float()), wanted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_half_precision_is_widened(dtype):
    _, _, _, jacobian = problem()
    delta, jacobian = noise(N, 1, 3, 4).to(dtype), jacobian.to(dtype)
    share = tangent_share(delta, jacobian)
    assert share.dtype == torch.float32
    torch.testing.assert_close(share, tangent_share(delta.double(), jacobian.double()).float(), rtol=1e-4, atol=1e-5)


# ---- Jacobians


def test_the_jacobian_of_a_linear_decoder():
    linear, z, y, jacobian = problem()
    torch.testing.assert_close(decoder_jacobian(linear, z, y), jacobian)
    torch.testing.assert_close(decoder_jacobian(linear, (z, 0.5), y), jacobian)
    with torch.inference_mode():
        torch.testing.assert_close(decoder_jacobian(linear, z.clone(), y.clone()), jacobian)


def test_the_jacobian_of_a_network_is_that_of_autograd_for_each_sample():
    bank = VAEGAN((1, 4, 4), latent=3, num_classes=2, width=1 / 16, init_std=None).double()
    z, y = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).double(), torch.tensor([0, 1, 1, 0, 1])
    jacobian = decoder_jacobian(bank, z, y)
    for n in range(5):
        alone = torch.autograd.functional.jacobian(lambda code, n=n: bank.decode(code[None], y[n : n + 1])[0], z[n])
        torch.testing.assert_close(jacobian[n], alone)
    assert all(p.grad is None for p in bank.parameters())
    assert not jacobian.requires_grad


def test_the_jacobian_of_letters_is_the_difference_of_images():
    letters, y, font = FontsManifold("hard"), torch.tensor([3, 7]), torch.tensor([1, 2])
    theta = letters.identity.double().repeat(2, 1) + torch.tensor([0.013, 0.017, 0.019, 0.023, 0.029, 0.031]).double()
    jacobian = decoder_jacobian(letters, (theta, font), y)
    for j, step in enumerate(1e-7 * torch.eye(6, dtype=torch.float64)):
        slope = (letters.decode(theta + step, y, font) - letters.decode(theta - step, y, font)) / 2e-7
        torch.testing.assert_close(jacobian[..., j], slope, atol=1e-4, rtol=0)


def test_an_image_that_does_not_depend_on_the_code_is_refused():
    class Constant:
        def decode(self, z: Tensor, y: Tensor) -> Tensor:
            return torch.zeros(len(z), 1, 2, 2)

    class Detached(nn.Module):
        def __init__(self, cut) -> None:
            super().__init__()
            self.cut, self.linear = cut, nn.Linear(3, 4)

        def decode(self, z: Tensor, y: Tensor) -> Tensor:
            return self.linear(self.cut(z)).view(-1, 1, 2, 2)

    for manifold in (Constant(), Detached(Tensor.detach), Detached(Tensor.round)):
        with pytest.raises(ValueError, match="`manifold` to make images that depend on the code"):
            decoder_jacobian(manifold, torch.zeros(2, 3), torch.zeros(2).long())
    with pytest.raises(TypeError, match="`manifold` to have a method `decode`"):
        decoder_jacobian(Constant, torch.zeros(2, 3), torch.zeros(2).long())


# ---- the metric


def test_small_steps_along_the_manifold_are_in_the_tangent_space():
    bank = VAEGAN((1, 4, 4), latent=3, width=1 / 16, init_std=None).double()
    z, y = torch.randn(8, 3, generator=torch.Generator().manual_seed(0)).double(), torch.zeros(8).long()
    metric, step = TangentShare(), 1e-5 * noise(8, 3)
    metric.update(bank.decode(z, y), bank.decode(z + step, y).detach(), decoder_jacobian(bank, z, y))
    result = metric.compute()
    assert result["tangent_share"].item() == pytest.approx(1, abs=1e-6)
    assert result["random_share"].item() == pytest.approx(3 / 16)


def test_the_metric_is_the_mean_over_those_that_moved():
    _, _, _, jacobian = problem()
    x, delta = noise(N, 1, 3, 4), noise(N, 3, 4)[:, None]
    delta[::4] = 0
    jacobian = torch.where((torch.arange(N) % 2 == 0).view(-1, 1, 1, 1, 1), jacobian, jacobian[..., :1])
    metric = TangentShare()
    for part in zip(x.split(15), (x + delta).split(15), jacobian.split(15), strict=True):
        metric.update(*part)
    result = metric.compute()
    shares = tangent_share(delta, jacobian).numpy()
    assert np.isnan(shares[::4]).all()
    assert result["tangent_share"].item() == pytest.approx(np.nanmean(shares), rel=1e-6)
    assert result["normal_share"].item() == pytest.approx(1 - np.nanmean(shares), rel=1e-6)
    assert result["random_share"].item() == pytest.approx((10 * Z + 20 * 1) / 30 / D)
    assert result["tangent_count"] == 30


def test_the_share_is_the_cosine_squared_of_the_angle_to_a_linear_manifold():
    linear, z, y, jacobian = problem()
    x, delta = linear.decode(z, y), noise(1, 1, 3, 4)
    basis = torch.linalg.qr(jacobian.flatten(1, -2))[0]
    along = (basis @ (basis.mT @ delta.expand_as(x).flatten(1)[..., None])).view_as(x)
    for n in range(3):
        share, angle = TangentShare(), ManifoldDistance()
        share.update(x[n : n + 1], x[n : n + 1] + delta, jacobian[n : n + 1])
        angle.update(x[n : n + 1], x[n : n + 1] + delta, (x + along)[n : n + 1])
        cosine = math.cos(math.radians(angle.compute()["manifold_angle"].item()))
        assert share.compute()["tangent_share"].item() == pytest.approx(cosine**2, rel=1e-5)


def test_wrong_data_names_the_argument():
    x, jacobian = torch.zeros(2, 3), torch.zeros(2, 3, 1)
    for name, inputs in {
        "x": (x.long(), x, jacobian),
        "x_adv": (x, x[:1], jacobian),
        "jacobian": (x, x, jacobian[:, :2]),
    }.items():
        with pytest.raises(ValueError, match=f"argument `{name}` to be a floating point tensor"):
            TangentShare().update(*inputs)
    with pytest.raises(ValueError, match="argument `code` to be a floating point tensor"):
        decoder_jacobian(Linear(), nn.functional.one_hot(torch.zeros(2).long(), Z), torch.zeros(2).long())
