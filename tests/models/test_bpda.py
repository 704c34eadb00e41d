import pytest
import torch
from torch import nn

from lightning_robust.attacks import PGD, Linf
from lightning_robust.models import Bpda


def rounded(x):
    """Half of the pixels, black and white."""
    return (x[:, ::2] > 0.5).to(x.dtype)


def test_the_value_is_exact_and_the_gradient_is_that_of_the_substitute():
    x = 100 * torch.randn(1000)
    assert torch.equal(Bpda(torch.sign, torch.exp)(x / 10), torch.sign(x))
    x = torch.randn(1000, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(Bpda(torch.sign, torch.tanh)(x).sum(), x)
    torch.testing.assert_close(gradient, 1 - torch.tanh(x.detach()) ** 2)
    assert (torch.autograd.grad(Bpda(torch.sign)(x).sum(), x)[0] == 1).all()


def test_a_substitute_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"`substitute` to map to shape \(1, 2\) .* but got \(1, 4\)"):
        Bpda(rounded)(torch.rand(1, 4))


def test_an_attack_sees_through_what_has_no_gradient():
    head = nn.Linear(4, 2)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[-1.0], [1.0]]).expand(2, 4))
        head.bias.copy_(torch.tensor([0.1, -0.1]))
    x, y = torch.full((5, 8), 0.4), torch.zeros(5, dtype=torch.long)
    attack = PGD(Linf(0.2), steps=5, random_start=False, keep="best")
    with pytest.raises(RuntimeError, match="depend on its input"):
        attack(lambda images: head(rounded(images)).detach(), x, y)
    x_adv = attack(nn.Sequential(Bpda(rounded, lambda images: images[:, ::2]), head), x, y)
    assert (head(rounded(x)).argmax(1) == y).all()
    assert (head(rounded(x_adv)).argmax(1) == 1).all()
