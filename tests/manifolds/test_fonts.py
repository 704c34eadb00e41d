import pickle
from functools import partial

import pytest
import torch

from lightning_robust._affine import IDENTITY
from lightning_robust._fonts import glyph
from lightning_robust.attacks import L2, PGD, LatentSpace, Linf, Threat
from lightning_robust.datamodules import Fonts
from lightning_robust.manifolds import FontsManifold, Manifold, project


@pytest.fixture(scope="module")
def batch():
    return Fonts("hard").batch(torch.arange(0, 640, 20) + 3)


def test_decodes_the_data(batch):
    x, y, code = batch
    manifold: Manifold = FontsManifold("hard")
    assert torch.equal(manifold.decode(code.theta, y, *code[1:]), x)


def test_identity_and_bounds(batch):
    _, y, code = batch
    manifold = FontsManifold("moderate")
    assert manifold.identity.tolist() == list(IDENTITY)
    clean = manifold.decode(manifold.identity.expand(len(y), 6), y, code.font)
    assert torch.equal(clean, glyph(code.font, y))
    low, high = manifold.bounds
    assert ((low < manifold.identity) & (manifold.identity < high)).all()
    assert manifold.ranges.translation == 0.2


def test_a_gradient_in_float64():
    theta = torch.tensor([[0.05, -0.03, 0.21, -0.13, 0.93, 0.37], [0.0123, 0.1, 0.0, 0.3, 1.01, -1.2]]).double()
    y, font = torch.tensor([1, 6]), torch.tensor([30, 700])
    decode = partial(FontsManifold().decode, y=y, font=font)
    assert torch.autograd.gradcheck(decode, theta.requires_grad_(), eps=1e-7, fast_mode=True)


def test_cannot_encode(batch):
    x, y, _ = batch
    with pytest.raises(ValueError, match=r"without the font.*code=2"):
        FontsManifold().encode(x, y)


def test_wrong_difficulty():
    with pytest.raises(ValueError, match="`difficulty`"):
        FontsManifold("extreme")


def test_is_a_value():
    assert FontsManifold("easy") == pickle.loads(pickle.dumps(FontsManifold("easy")))
    assert repr(FontsManifold()) == "FontsManifold(difficulty='hard')"


@pytest.mark.parametrize("ball", [Linf(0.3), L2(0.3)])
def test_on_manifold_attacks_stay_on_it(batch, ball):
    x, y, code = batch
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
    manifold = FontsManifold("hard")
    x_adv = PGD(Threat(ball, LatentSpace(manifold)), steps=5)(model, x, y, code=code)
    loss = [torch.nn.functional.cross_entropy(model(v), y) for v in (x, x_adv)]
    assert loss[1] > loss[0] + 0.1
    assert (
        project(manifold, x_adv, y, code, bounds=manifold.bounds).distance.median()
        < 0.05 * (x_adv - x).flatten(1).norm(dim=1).median()
    )
