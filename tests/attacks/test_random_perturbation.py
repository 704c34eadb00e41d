import math

import pytest
import torch

from lightning_robust.attacks import (
    L2,
    AffineSpace,
    Box,
    Context,
    LatentSpace,
    Linf,
    RandomPerturbation,
    Threat,
    restarted,
)
from lightning_robust.attacks.starts import norm_uniform
from lightning_robust.datamodules import Fonts
from lightning_robust.manifolds import VAEGAN, FontsManifold
from tests.helpers import THREATS, batch, class_scores, images, manifold_of, threat_of, unchanged


@pytest.fixture(scope="module")
def letters():
    return Fonts("hard").tensors("test", limit=20)


def refuse(x):
    raise AssertionError("the model is asked")


@pytest.mark.parametrize("name", THREATS)
def test_it_is_a_draw_from_the_ball_clipped_to_the_bounds_in_every_threat(name):
    ball, space = THREATS[name]
    x, y, code = batch(space)
    threat, drawn = threat_of(ball, space), []

    def start(ball, noise, zero):
        drawn.append(ball.sample(noise, zero))
        return drawn[-1]

    with unchanged(manifold_of(space)):
        outcome = RandomPerturbation(threat, start=start).run(refuse, x, y, Context(code, 2))
    chart = threat.space.chart(x, y, code)
    assert torch.equal(outcome.delta, chart.clip(drawn[0]))
    assert threat.admits(chart, outcome.delta).all()
    assert not outcome.x_adv.requires_grad
    assert torch.equal(RandomPerturbation(threat)(refuse, x, y, code=code, key=2), outcome.x_adv)


def clean(ball, noise, zero):
    """The start at the clean input."""
    return zero.clone()


def test_the_norm_of_a_start_is_that_of_the_start():
    x, y = 0.5 + 0.0 * images(400), torch.zeros(400).long()
    x = x + torch.rand(400)[:, None, None, None] * 0.01
    inside = {
        start: RandomPerturbation(L2(0.3), start=start).run(refuse, x, y).delta for start in (norm_uniform, clean)
    }
    norm = L2(1.0).norm(inside[norm_uniform])
    assert abs(float(norm.mean()) - 0.15) < 5 * 0.3 / math.sqrt(12 * 400)
    assert not inside[clean].any()


def test_random_codes_are_uniform_in_the_ball_and_its_box(letters):
    x, y, code = letters
    manifold = FontsManifold("hard")
    threat = Threat(Linf(0.05), LatentSpace(manifold))
    outcomes = [RandomPerturbation(threat).run(refuse, x, y, Context(code, key)) for key in range(200)]
    delta = torch.stack([outcome.delta for outcome in outcomes])
    low, high = manifold.bounds
    assert bool((delta.abs() <= 0.05).all())
    assert bool(((code.theta + delta <= high + 1e-6) & (code.theta + delta >= low - 1e-6)).all())
    inside = ((code.theta - low).amin(1) > 0.05) & ((high - code.theta).amin(1) > 0.05)
    free = delta[:, inside].flatten()
    assert len(free) > 1000
    # The uniform distribution on [-a, a] has the variance a^2 / 3; its estimate deviates by (4 / 45)^0.5 a^2 / n^0.5.
    assert abs(float(free.var()) - 0.05**2 / 3) < 5 * (4 / 45) ** 0.5 * 0.05**2 / math.sqrt(len(free))
    torch.testing.assert_close(outcomes[0].x_adv, manifold.decode(code.theta + delta[0], y, code.font))


def test_along_a_learned_manifold(letters):
    """The codes of the encoder, without those that the data brings; the decoder in evaluation mode."""
    x, y, _ = letters
    torch.manual_seed(0)
    learned = VAEGAN(num_classes=10, latent=4, width=1 / 16, bound=2.0).train()
    with unchanged(learned):
        outcome = RandomPerturbation(Threat(Linf(0.3), LatentSpace(learned))).run(refuse, x, y)
    learned.eval()
    with torch.no_grad():
        z = learned.encode(x, y)
        torch.testing.assert_close(outcome.x_adv, learned.decode(z + outcome.delta, y))
    assert outcome.delta.shape == (20, 4)
    assert (outcome.delta != 0).all()


def test_random_maps_are_around_the_identity(letters):
    x, y, _ = letters
    threat = Threat(Linf(0.1), AffineSpace(scale=0.2))
    delta = torch.cat([RandomPerturbation(threat).run(refuse, x, y, Context(key=key)).delta for key in range(100)])
    assert abs(float(delta[:, 4].mean())) < 5 * 0.1 / math.sqrt(3 * len(delta))


def uniform_on(values, low, high):
    """Are the columns of (M, d) uniform on [low, high]? The largest deviation of the distribution function, scaled."""
    share = ((values - low) / (high - low)).sort(0).values
    steps = (torch.arange(1, len(values) + 1) / len(values))[:, None]
    assert share.min() >= -1e-5
    assert share.max() <= 1 + 1e-5
    return bool(((share - steps).abs().amax(0) * math.sqrt(len(values)) < 2.2).all())  # p of about 1e-4


def test_the_strong_variant_is_uniform_over_all_parameters(letters):
    """As the docstring says: around the middle of the parameters, with a box of their half widths."""
    x, y, code = letters
    maps = Threat(Box([0.15, 0.15, 0.2, 0.2, 0.15, math.pi / 10]), AffineSpace())
    low, high = torch.tensor([-0.15, -0.15, -0.2, -0.2, -0.15, -math.pi / 10]) * torch.tensor([[1.0], [-1.0]])
    delta = torch.cat([RandomPerturbation(maps).run(refuse, x, y, Context(key=key)).delta for key in range(100)])
    assert uniform_on(delta, low, high)

    manifold = FontsManifold("hard")
    low, high = manifold.bounds
    middle = code._replace(theta=((low + high) / 2).expand_as(code.theta))
    attack = RandomPerturbation(Threat(Box((high - low) / 2), LatentSpace(manifold)))
    delta = torch.cat([attack.run(refuse, x, y, Context(middle, key)).delta for key in range(100)])
    assert uniform_on((low + high) / 2 + delta, low, high)
    # A large ball around the codes themselves is not that.
    large = RandomPerturbation(Threat(Linf(3.0), LatentSpace(manifold)))
    delta = torch.cat([code.theta + large.run(refuse, x, y, Context(code, key)).delta for key in range(100)])
    assert not uniform_on(delta, low, high)


def test_random_perturbations_depend_on_the_key_the_seed_and_the_sample_alone(letters):
    x, y, _ = letters
    attack = RandomPerturbation(Linf(0.1))
    whole = attack.run(refuse, x, y, Context(key=3)).x_adv
    assert torch.equal(attack.run(refuse, x[5:8], y[5:8], Context(key=3)).x_adv, whole[5:8])
    for other in (
        attack.run(refuse, x, y, Context(key=4)),
        RandomPerturbation(Linf(0.1), seed=1).run(refuse, x, y, Context(key=3)),
    ):
        assert not torch.equal(other.x_adv, whole)


def test_the_worst_of_several_random_points():
    x = images(32)
    y = class_scores(x).argmax(1)
    attack = RandomPerturbation(Linf(0.3))
    right = [(class_scores(a(class_scores, x, y)).argmax(1) == y).sum() for a in (attack, restarted(attack, 10))]
    assert right[0] > right[1]


def test_it_passes_on():
    attack = RandomPerturbation(Linf(0.1), start=norm_uniform, seed=2)
    assert attack.scaled(0.5) == RandomPerturbation(Linf(0.05), start=norm_uniform, seed=2)
    assert attack.thorough() == attack
    assert attack.restarts == 1
