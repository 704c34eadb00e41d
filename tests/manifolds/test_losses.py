"""The losses against torch.distributions and the formulas of the paper's code."""

import pytest
import torch
from torch.distributions import Categorical, Normal, kl_divergence as reference

from lightning_robust.manifolds.losses import (
    below,
    confusion_loss,
    discriminator_loss,
    generator_loss,
    kl_divergence,
    reconstruction_loss,
)


def test_kl_is_that_of_torch():
    mean, log_var = torch.randn(5, 3, dtype=torch.float64), torch.randn(5, 3, dtype=torch.float64)
    want = reference(Normal(mean, (0.5 * log_var).exp()), Normal(torch.zeros(()), torch.ones(()))).sum(1)
    torch.testing.assert_close(kl_divergence(mean, log_var), want)
    assert (kl_divergence(torch.zeros(1, 3), torch.full((1, 3), 1e-4)) >= 0).all()


def test_reconstruction():
    x, x_rec = torch.rand(4, 2, 3, 3), torch.rand(4, 2, 3, 3)
    torch.testing.assert_close(reconstruction_loss(x, x_rec), (x - x_rec).abs().sum((1, 2, 3)))
    torch.testing.assert_close(reconstruction_loss(x, x_rec, 2), ((x - x_rec) ** 2).sum((1, 2, 3)))


def test_gan_losses_are_the_papers_where_those_are_accurate():
    real, fake = torch.randn(6, 1, dtype=torch.float64), torch.randn(6, 1, dtype=torch.float64)
    s_real, s_fake = torch.sigmoid(real), torch.sigmoid(fake)
    torch.testing.assert_close(generator_loss(fake), -torch.log(s_fake + 1e-12)[:, 0])
    torch.testing.assert_close(
        discriminator_loss(real, fake), -(torch.log(s_real + 1e-12) + torch.log(1 - s_fake + 1e-12))[:, 0]
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_sure_discriminator_still_has_a_gradient(dtype):
    fake = torch.tensor([[-1e4]], dtype=dtype, requires_grad=True)
    loss = generator_loss(fake)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(1e4, rel=1e-2)
    assert torch.autograd.grad(loss.sum(), fake)[0].item() == pytest.approx(-1)
    worst = discriminator_loss(torch.full((1, 1), -1e4), torch.full((1, 1), 1e4))
    assert worst.item() == pytest.approx(2e4)


def test_below_is_the_identity_far_from_the_limit_and_has_a_gradient_near_it():
    x = torch.tensor([-50.0, 0.0, 3.0, 12.0, 1e4], requires_grad=True)
    out = below(x, 10.0)
    torch.testing.assert_close(out[:3], x[:3], atol=1e-3, rtol=0)
    assert (out <= 10).all()
    assert (torch.autograd.grad(out.sum(), x)[0][:4] > 0.1).all()
    assert kl_divergence(torch.zeros(1, 1), below(torch.tensor([[1e4]]), 10.0)).isfinite().all()


def test_confusion_is_the_divergence_of_the_uniform_distribution():
    logits = torch.randn(5, 4, dtype=torch.float64, requires_grad=True)
    loss = confusion_loss(logits)
    torch.testing.assert_close(loss, reference(Categorical(torch.ones(5, 4) / 4), Categorical(logits=logits)))
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    torch.testing.assert_close(gradient, logits.softmax(1) - 0.25)
    assert confusion_loss(torch.full((1, 3), 7.0)).item() == pytest.approx(0, abs=1e-6)
