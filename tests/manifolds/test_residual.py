"""A manifold with its error carried along: exact at the start, and what the decoder adds of its own cancels."""

import pytest
import torch
from torch import Tensor, nn

from lightning_robust.attacks import L2, PGD, LatentSpace, Linf, Threat
from lightning_robust.attacks.scope import modules_in
from lightning_robust.datamodules import Fonts
from lightning_robust.manifolds import VAEGAN, FontsManifold, PCAManifold, Residual

SHAPE = (1, 8, 8)


def data(n: int = 12) -> tuple[Tensor, Tensor]:
    x = torch.rand(n, *SHAPE, generator=torch.Generator().manual_seed(0))
    x[x < 0.3], x[x > 0.8] = 0, 1
    return x, torch.arange(n) % 2


def vaegan() -> VAEGAN:
    torch.manual_seed(0)
    return VAEGAN(SHAPE, latent=3, num_classes=2, width=1 / 16, init_std=None, bound=2.0)


class Stamped:
    """The decoder of another one with a pattern of its own on every image; no module, and it holds one."""

    def __init__(self, manifold: nn.Module, pattern: Tensor) -> None:
        self.inner, self.pattern = manifold, pattern

    def encode(self, x, y):
        return self.inner.encode(x, y)

    def decode(self, z, y):
        return self.inner.decode(z, y) + self.pattern


@pytest.mark.parametrize("cut", [False, True])
def test_without_a_perturbation_it_is_the_image(cut):
    x, y = data()
    for inner in (vaegan(), PCAManifold(SHAPE, 3, num_classes=2, clamp=cut).fit(x, y)):
        manifold = Residual(inner)
        z, residual = manifold.encode(x, y)
        torch.testing.assert_close(z, inner.encode(x, y))
        back = manifold.decode(z, y, residual)
        torch.testing.assert_close(back, x, rtol=0, atol=2e-7)
        assert torch.equal(back[x == 1], x[x == 1])
        assert torch.equal(back[x == 0], x[x == 0])
        torch.testing.assert_close(torch.stack(manifold.bounds), torch.stack(inner.bounds))


def test_pixels_at_the_ends_have_a_gradient_whatever_rounding_does():
    x, y = data()
    inner = PCAManifold(SHAPE, 3, num_classes=2, clamp=False).fit(x, y)
    manifold = Residual(inner)
    z, residual = manifold.encode(x, y)
    for noise in (0, 1e-7, -1e-7):
        point = manifold.decode(z.requires_grad_(), y, residual + noise)
        (found,) = torch.autograd.grad(point.sum(), z)
        (wanted,) = torch.autograd.grad(inner.decode(z, y).sum(), z)
        assert (point >= 0).all()
        assert (point <= 1).all()
        torch.testing.assert_close(found, wanted)


def test_it_moves_as_the_manifold_does():
    x, y = data()
    inner, delta = vaegan().double(), 0.3 * torch.randn(12, 3, dtype=torch.float64)
    manifold = Residual(inner)
    z, residual = manifold.encode(x.double(), y)
    wanted = x + inner.decode(z + delta, y) - inner.decode(z, y)
    torch.testing.assert_close(manifold.decode(z + delta, y, residual), wanted.clamp(0, 1))


def test_what_the_decoder_adds_to_every_image_cancels():
    x, y = data()
    inner, delta = vaegan(), torch.randn(12, 3)
    stamped = Stamped(inner, 0.2 * torch.randn(SHAPE))
    points = []
    for manifold in (Residual(inner), Residual(stamped)):
        z, residual = manifold.encode(x, y)
        points.append(manifold.decode(z + delta, y, residual))
    torch.testing.assert_close(*points, rtol=0, atol=1e-6)


def test_parts_of_a_code_that_stay_fixed():
    class Coded(FontsManifold):
        def encode(self, x, y):
            return code

    x, y, code = Fonts("hard").batch(torch.arange(0, 100, 20))
    assert len(code) > 1
    blurred = (x + x.roll(1, 3)) / 2
    manifold = Residual(Coded("hard"))
    z, *fixed = manifold.encode(blurred, y)
    assert len(fixed) == len(code)
    torch.testing.assert_close(manifold.decode(z, y, *fixed), blurred, rtol=0, atol=1e-6)
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    outcome = PGD(Threat(L2(0.3), LatentSpace(manifold)), steps=3).run(net, blurred, y)
    torch.testing.assert_close(outcome.x_adv, manifold.decode(z + outcome.delta, y, *fixed))
    low, high = manifold.bounds
    assert ((z + outcome.delta >= low - 1e-6) & (z + outcome.delta <= high + 1e-6)).all()


@pytest.mark.parametrize("plain", [False, True], ids=["module", "object"])
def test_an_attack_makes_the_network_ready_and_puts_it_back(plain):
    x, y = data()
    inner = vaegan().train()

    def check(module, _):  # also of what the VAE-GAN itself does not put into evaluation mode
        assert not any(part.training for part in inner.modules())
        assert not any(p.requires_grad for p in inner.parameters())

    inner.decoder.register_forward_pre_hook(check)
    with pytest.raises(AssertionError):
        inner.decode(torch.zeros(12, 3), y)
    space = LatentSpace(Residual(Stamped(inner, torch.zeros(SHAPE)) if plain else inner))
    assert inner in modules_in(space)
    assert inner in modules_in(((space, None),))
    before = {name: value.clone() for name, value in inner.state_dict().items()}
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    clean = PGD(Threat(Linf(0.0), space), steps=1)(net, x, y)
    torch.testing.assert_close(clean, x, rtol=0, atol=1e-6)
    PGD(Threat(Linf(0.5), space), steps=2)(net, x, y)
    assert all(module.training for module in inner.modules())
    assert all(p.requires_grad and p.grad is None for p in inner.parameters())
    for name, value in inner.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_module_within_moves_and_is_kept():
    first, second = Residual(vaegan()), Residual(VAEGAN(SHAPE, latent=3, num_classes=2, width=1 / 16))
    assert second.bounds is None
    second.load_state_dict(first.state_dict())
    x, y = data()
    for one, other in zip(first.encode(x, y), second.encode(x, y), strict=True):
        assert torch.equal(one, other)
    assert first.double().manifold.code_low.dtype == torch.float64
    assert not list(Residual(Stamped(vaegan(), x[0])).state_dict())


def test_what_is_no_manifold_is_refused():
    with pytest.raises(TypeError, match="a method `encode`, but got Linear"):
        Residual(nn.Linear(2, 2))
    with pytest.raises(TypeError, match="the class PCAManifold"):
        Residual(PCAManifold)
    x, y = data()
    with pytest.raises(TypeError, match=r"\(z, \*fixed, r\), but got z alone"):
        Residual(vaegan()).decode(torch.zeros(12, 3), y)
    with pytest.raises(ValueError, match="without the font"):
        Residual(FontsManifold()).encode(x, y)


def test_images_of_another_range_are_refused_since_decoding_would_not_give_them_back():
    x, y = data()
    for wrong in ((x - 0.5) / 0.25, 255 * x, torch.full_like(x, torch.nan)):
        with pytest.raises(ValueError, match=r"`x` to be images in \[0, 1\]"):
            Residual(vaegan()).encode(wrong, y)
    Residual(vaegan()).encode(x.bfloat16(), y)
