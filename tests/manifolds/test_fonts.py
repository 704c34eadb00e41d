import itertools
import pickle

import pytest
import torch

from lightning_robust._affine import IDENTITY
from lightning_robust._fonts import glyph
from lightning_robust.attacks import L2, PGD, LatentSpace, Linf, Threat
from lightning_robust.datamodules import Fonts
from lightning_robust.manifolds import FontsManifold, Manifold


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
    assert torch.autograd.gradcheck(lambda z: FontsManifold().decode(z, y, font), theta.requires_grad_(), eps=1e-7)


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


def test_points_of_the_manifold_are_their_own_projection(batch):
    x, y, code = batch
    found = FontsManifold().project(x, y, code, steps=5)
    assert torch.equal(found.distance, torch.zeros(len(y)))
    assert torch.equal(found.theta, code.theta)


def test_projection_finds_the_way_back(batch):
    x, y, code = batch
    manifold = FontsManifold("hard")
    low, high = manifold.bounds
    start = (code.theta + 0.05 * torch.tensor([1, -1, 1, 1, 1, -1])).clamp(low, high)
    before = (manifold.decode(start, y, code.font) - x).flatten(1).norm(dim=1)
    found = manifold.project(x, y, (start, code.font))
    assert found.distance.median() < 0.05 * before.median()
    assert (found.distance <= before + 1e-6).all()
    assert ((found.theta >= low) & (found.theta <= high)).all()
    torch.testing.assert_close((found.x - x).flatten(1).norm(dim=1), found.distance)
    assert torch.equal(manifold.decode(found.theta, y, code.font), found.x)


def test_projection_stays_in_the_box(batch):
    x, y, code = batch  # of the hard set: most of it is not in the easy one
    manifold = FontsManifold("easy")
    low, high = manifold.bounds
    found = manifold.project(x, y, code, steps=30)
    assert ((found.theta >= low) & (found.theta <= high)).all()
    inside = ((code.theta >= low) & (code.theta <= high)).all(1)
    assert (found.distance[~inside] > 0.1).float().mean() > 0.9


def test_projection_never_ends_further_away_than_it_began(batch):
    x, y, code = batch
    noisy = (x + 0.1 * torch.rand(x.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    distances = [FontsManifold().project(noisy, y, code, steps=steps, lr=2.0).distance for steps in (0, 1, 5, 20)]
    torch.testing.assert_close(distances[0], (noisy - x).flatten(1).norm(dim=1))
    assert all((later <= earlier).all() for earlier, later in itertools.pairwise(distances))


def test_noise_is_off_the_manifold(batch):
    x, y, code = batch
    noise = 0.3 * torch.sign(torch.randn(x.shape, generator=torch.Generator().manual_seed(0)))
    found = FontsManifold().project(x + noise, y, code, steps=30)
    # The manifold has six dimensions of 784: almost all of the noise remains.
    assert (found.distance > 0.9 * noise.flatten(1).norm(dim=1)).all()


def test_projection_alone_as_in_company_and_without_gradients(batch):
    x, y, code = (batch[0] + 0.1).clamp(0, 1), batch[1], batch[2]
    manifold = FontsManifold()
    together = manifold.project(x, y, code, steps=10)
    state = torch.random.get_rng_state()
    with torch.inference_mode():
        inference = [t.clone() for t in (x, y, *code)]
        assert inference[0].is_inference()
        alone = manifold.project(inference[0][3:4], inference[1][3:4], (inference[2][3:4], inference[3][3:4]), steps=10)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.testing.assert_close(alone.theta[0], together.theta[3], atol=1e-5, rtol=0)
    assert not together.x.requires_grad


@pytest.mark.parametrize("ball", [Linf(0.3), L2(0.3)])
def test_on_manifold_attacks_stay_on_it(batch, ball):
    x, y, code = batch
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 10))
    manifold = FontsManifold("hard")
    x_adv = PGD(Threat(ball, LatentSpace(manifold)), steps=5)(model, x, y, code=code)
    loss = [torch.nn.functional.cross_entropy(model(v), y) for v in (x, x_adv)]
    assert loss[1] > loss[0] + 0.1
    found = manifold.project(x_adv, y, code)
    assert found.distance.median() < 0.05 * (x_adv - x).flatten(1).norm(dim=1).median()
