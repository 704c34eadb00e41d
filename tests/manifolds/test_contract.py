"""What every manifold keeps to, ours and a user's own with two methods. A new one joins with a line in MANIFOLDS."""

import copy
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_robust.attacks import L2, PGD, LatentSpace, Linf, Threat
from lightning_robust.datamodules import Fonts
from lightning_robust.manifolds import (
    VAEGAN,
    AutoencoderManifold,
    FlowManifold,
    FontsManifold,
    PCAManifold,
    Residual,
    project,
)

SHAPE, CLASSES, N = (1, 6, 6), 3, 24


def data() -> tuple[Tensor, Tensor]:
    """Smooth images of grey levels, with pixels at both ends of the range."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(N, *SHAPE, generator=generator, dtype=torch.float64)
    x = (x + x.roll(1, 2) + x.roll(1, 3)) / 3 * 1.8 - 0.4
    return (x.clamp(0, 1) * 255).round() / 255, torch.arange(N) % CLASSES


X, Y = data()


class Plane:
    """A user's own: two methods and no base class; affine, so that images may leave [0, 1]."""

    def __init__(self) -> None:
        flat = X.flatten(1)
        self.mean = flat.mean(0)
        self.directions = torch.linalg.svd(flat - self.mean, full_matrices=False).Vh[:4]

    def encode(self, x, y):
        return (x.flatten(1) - self.mean.to(x)) @ self.directions.to(x).T

    def decode(self, z, y):
        return (self.mean.to(z) + z @ self.directions.to(z)).reshape(-1, *SHAPE)


class AutoEncoder(nn.Module):
    """A user's module, with batch statistics, dropout, and a part of the code that stays fixed."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Flatten(), nn.Linear(36, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 4))
        self.up = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 36), nn.Sigmoid())

    def encode(self, x, y):
        return self.down(x.to(self.down[1].weight)), x.flatten(1).mean(1)

    def decode(self, z, y, brightness):
        return (0.5 * self.up(z.to(self.down[1].weight)) + 0.5 * brightness[:, None]).view(-1, *SHAPE)


class Halves(nn.Module):
    """An auto-encoder with the interface of diffusers."""

    def __init__(self) -> None:
        super().__init__()
        self.config = SimpleNamespace(in_channels=3, block_out_channels=(4, 4, 4))
        self.down, self.up = nn.Conv2d(3, 2, 4, 4), nn.ConvTranspose2d(2, 3, 4, 4)

    def encode(self, x):
        return SimpleNamespace(latents=self.down(x))

    def decode(self, z):
        return SimpleNamespace(sample=self.up(z).tanh())


class Letters(FontsManifold):
    """The true manifold, of letters whose codes are known."""

    def encode(self, x, y):
        rows = (x.to(LETTERS[0])[:, None] - LETTERS[0]).flatten(2).abs().amax(2).argmin(1)
        theta, *fixed = (part[rows] for part in LETTERS[2])
        return theta.to(x), *fixed


LETTERS = Fonts("hard").batch(torch.arange(0, 640, 64))


def vaegan(classes: int, **options: Any) -> VAEGAN:
    made = VAEGAN(SHAPE, latent=4, num_classes=classes, width=1 / 16, init_std=None, **options).double()
    made.fit_bounds([(X, Y)])
    return made


def pca(classes: int, **options: Any) -> PCAManifold:
    return PCAManifold(SHAPE, 4, classes, **options).double().fit(X, Y)


def flow(classes: int) -> FlowManifold:
    pytest.importorskip("zuko")
    made = FlowManifold(SHAPE, num_classes=classes, transforms=4, hidden=(8,)).double()
    made.fit_bounds([(X, Y)])
    return made


def autoencoder() -> AutoencoderManifold:
    made = AutoencoderManifold(Halves().double(), SHAPE).double()
    made.fit_bounds([(X, Y)])
    return made


@dataclass(frozen=True)
class Case:
    """How a manifold is made, and what it promises.

    Fields:
        make: the manifold in float64, with bounds from the data where it takes them from there.
        exact: images of the data are on it.
        unique: the code of decode(z) is z, where no pixel is cut.
        images: what it decodes is in [0, 1].
        letters: it is of the images of LETTERS.
    """

    make: Callable[[], Any]
    exact: bool = False
    unique: bool = False
    images: bool = True
    letters: bool = False

    def manifold(self, seed: int = 0) -> Any:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return self.make()

    def data(self) -> tuple[Tensor, Tensor]:
        return (LETTERS[0].double(), LETTERS[1]) if self.letters else (X, Y)


MANIFOLDS = {
    "VAEGAN, one for all": Case(lambda: vaegan(1)),
    "VAEGAN, one for each class": Case(lambda: vaegan(CLASSES)),
    "VAEGAN, given the class": Case(lambda: vaegan(CLASSES, conditional=True, confusion=1.0)),
    "PCA, one for all": Case(lambda: pca(1)),
    "PCA, one for each class": Case(lambda: pca(CLASSES)),
    "PCA, not cut": Case(lambda: pca(CLASSES, clamp=False), unique=True, images=False),
    "flow, one for all": Case(lambda: flow(1), exact=True, unique=True),
    "flow, given the class": Case(lambda: flow(CLASSES), exact=True, unique=True),
    "auto-encoder": Case(autoencoder),
    "Fonts": Case(lambda: Letters("hard"), exact=True, letters=True),
    "a user's plane": Case(Plane, unique=True, images=False),
    "a user's module": Case(lambda: AutoEncoder().double().eval()),
    "Residual of a VAEGAN": Case(lambda: Residual(vaegan(CLASSES)), exact=True),
    "Residual of a VAEGAN, given the class": Case(lambda: Residual(vaegan(CLASSES, conditional=True)), exact=True),
    "Residual of PCA": Case(lambda: Residual(pca(1)), exact=True),
    "Residual of a user's plane": Case(lambda: Residual(Plane()), exact=True),
    "Residual of a user's module": Case(lambda: Residual(AutoEncoder().double().eval()), exact=True),
    "Residual of Fonts": Case(lambda: Residual(Letters("hard")), exact=True, letters=True),
}

every = pytest.mark.parametrize("case", list(MANIFOLDS.values()), ids=list(MANIFOLDS))


def code_of(manifold: Any, x: Tensor, y: Tensor) -> tuple[Tensor, tuple[Any, ...]]:
    """z and what stays fixed."""
    with torch.no_grad():
        code = manifold.encode(x, y)
    z, *fixed = code if isinstance(code, tuple | list) else (code,)
    return z, tuple(fixed)


def moved(z: Tensor, size: float = 0.05, seed: int = 1) -> Tensor:
    return z + size * torch.randn(z.shape, generator=torch.Generator().manual_seed(seed), dtype=z.dtype)


@every
def test_codes_and_images_have_their_shapes_types_and_range(case):
    (x, y), manifold = case.data(), case.manifold()
    for kind in (torch.float64, torch.float32):
        z, fixed = code_of(manifold, x.to(kind), y)
        assert z.ndim == 2
        assert len(z) == len(x)
        assert z.is_floating_point()
        assert torch.isfinite(z).all()
        for size in (0, 0.05, 3.0):
            images = manifold.decode(moved(z, size), y, *fixed)
            assert images.shape == x.shape
            assert images.dtype in (torch.float32, torch.float64)
            assert torch.isfinite(images).all()
            if case.images:
                assert images.min() >= 0
                assert images.max() <= 1


@every
def test_round_trip(case):
    (x, y), manifold = case.data(), case.manifold()
    z, fixed = code_of(manifold, x, y)
    images = manifold.decode(z, y, *fixed)
    assert ((images - x).abs().max() < 1e-5) == case.exact
    if case.unique:
        new = moved(z)
        images = manifold.decode(new, y, *fixed)
        whole = ((images > 0) & (images < 1)).flatten(1).all(1) if case.images else torch.ones(len(x), dtype=torch.bool)
        again, _ = code_of(manifold, images, y)
        torch.testing.assert_close(again[whole], new[whole], rtol=0, atol=1e-8)


@every
def test_the_tangent_is_that_of_finite_differences(case):
    (x, y), manifold = case.data(), case.manifold()
    z, fixed = code_of(manifold, x, y)
    z, step = moved(z.double()), 1e-7
    direction, weights = moved(0 * z, 1, 2), moved(0 * x, 1, 3)
    ahead, behind = (manifold.decode(z + sign * step * direction, y, *fixed) for sign in (1, -1))
    wanted = ((ahead - behind) / (2 * step)).detach()
    _, tangent = torch.autograd.functional.jvp(lambda v: manifold.decode(v, y, *fixed), z, direction)
    smooth = torch.ones_like(x, dtype=torch.bool)
    if case.images:  # at a corner of the cut there is no derivative
        smooth = ((ahead - behind) != 0) & (ahead > 1e-4) & (ahead < 1 - 1e-4) if not case.letters else smooth
    assert smooth.double().mean() > 0.4
    torch.testing.assert_close(tangent[smooth], wanted[smooth], rtol=1e-4, atol=1e-5)
    start = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((manifold.decode(start, y, *fixed) * weights * smooth).sum(), start)
    torch.testing.assert_close(
        (gradient * direction).flatten(1).sum(1), (wanted * weights * smooth).flatten(1).sum(1), rtol=1e-4, atol=1e-5
    )


@every
def test_alone_as_in_company(case):
    (x, y), manifold = case.data(), case.manifold()
    z, fixed = code_of(manifold, x, y)
    z = moved(z)
    images = manifold.decode(z, y, *fixed)
    for rows in (torch.tensor([3]), torch.tensor([7, 0, 4])):
        own, own_fixed = code_of(manifold, x[rows], y[rows])
        torch.testing.assert_close(moved(own, 0), moved(code_of(manifold, x, y)[0][rows], 0))
        torch.testing.assert_close(manifold.decode(z[rows], y[rows], *own_fixed), images[rows], rtol=1e-6, atol=1e-8)
    start = z.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(manifold.decode(start, y, *fixed)[2].square().sum(), start)
    assert gradient[2].abs().max() > 0
    assert gradient[torch.arange(len(x)) != 2].abs().max() == 0


@every
@pytest.mark.parametrize("ball", [Linf(0.2), L2(0.2)], ids=["Linf", "L2"])
def test_attacks_stay_within_radius_and_bounds(case, ball):
    (x, y), manifold = case.data(), case.manifold()
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(x[0].numel(), 10)).double()
    z, fixed = code_of(manifold, x, y)
    outcome = PGD(Threat(ball, LatentSpace(manifold)), steps=4).run(net, x, y)
    end = z + outcome.delta
    assert (ball.norm(outcome.delta) <= 0.2 + 1e-6).all()
    torch.testing.assert_close(outcome.x_adv, manifold.decode(end, y, *fixed).to(x.dtype), rtol=0, atol=1e-6)
    clean = manifold.decode(z, y, *fixed)
    loss = [nn.functional.cross_entropy(net(v.to(x.dtype)), y) for v in (clean, outcome.x_adv)]
    assert loss[1] > loss[0]
    bounds = getattr(manifold, "bounds", None)
    if bounds is not None:
        low, high = bounds
        assert low.shape == high.shape == z.shape[1:]
        assert (low <= high).all()
        inside = ((z >= low - 1e-6) & (z <= high + 1e-6)).all(1)
        assert inside.all()  # they are those of these images
        assert ((end >= low - 1e-6) & (end <= high + 1e-6)).all()


@every
def test_nothing_is_drawn_or_changed(case):
    (x, y), manifold = case.data(), case.manifold()
    z, fixed = code_of(manifold, x, y)
    images = manifold.decode(z, y, *fixed)
    before = torch.get_rng_state()
    held = manifold if isinstance(manifold, nn.Module) else nn.Module()
    state, modes = copy.deepcopy(held.state_dict()), [m.training for m in held.modules()]
    again, same = code_of(manifold, x, y)
    assert torch.equal(again, z)
    assert torch.equal(manifold.decode(again, y, *same), images)
    assert torch.equal(torch.get_rng_state(), before)
    assert [m.training for m in held.modules()] == modes
    for name, value in held.state_dict().items():
        assert torch.equal(value, state[name]) or torch.isnan(value).all()


@every
def test_it_is_kept_and_read_again(case):
    (x, y), manifold = case.data(), case.manifold()
    z, fixed = code_of(manifold, x, y)
    copies = [pickle.loads(pickle.dumps(manifold)), copy.deepcopy(manifold)]
    if isinstance(manifold, nn.Module):
        other = case.manifold(seed=7)
        other.load_state_dict(manifold.state_dict())
        copies.append(other)
    for each in copies:
        again, same = code_of(each, x, y)
        assert torch.equal(again, z)
        assert torch.equal(each.decode(z, y, *same), manifold.decode(z, y, *fixed))
        bounds = [getattr(one, "bounds", None) for one in (each, manifold)]
        assert (bounds[0] is None) == (bounds[1] is None)
        if bounds[0] is not None:
            assert torch.equal(torch.stack(bounds[0]), torch.stack(bounds[1]))


@every
def test_the_projection_is_no_farther_than_the_code(case):
    (x, y), manifold = case.data(), case.manifold()
    x = (x + 0.1 * moved(0 * x, 1, 4)).clamp(0, 1) if not case.letters else x
    z, fixed = code_of(manifold, x, y)
    at_code = (manifold.decode(z, y, *fixed) - x).flatten(1).norm(dim=1)
    assert (project(manifold, x, y, steps=5).distance <= at_code + 1e-6).all()
