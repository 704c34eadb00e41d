import math
from types import SimpleNamespace

import pytest
import torch
from jsonargparse import ArgumentParser
from torch import nn

from lightning_robust.attacks import (
    L2,
    PGD,
    Context,
    Linf,
    Outcome,
    RandomSearch,
    Steepest,
    finite_differences,
    in_turn,
    log_odds,
    restarted,
    scope,
    worst_of,
)
from lightning_robust.attacks.attack import Attack
from tests.helpers import SHAPE, SPACES, Linear, batch, class_scores, images, manifold_of, net, threat_of


class Look(Attack):
    """What an attack is given: the logits, and the gradient of <v, logits> with respect to the input."""

    def __init__(self, v):
        self.v = v

    def run(self, model, x, y, context):
        with scope(model):
            point = x.clone().requires_grad_()
            self.logits = model(point)
            (self.grad,) = torch.autograd.grad(self.logits, point, self.v.to(self.logits.dtype))
        return Outcome(x)


def look(model, x, width, samples, v, key=0, seed=0):
    seen = Look(v)
    finite_differences(seen, width, samples=samples, seed=seed).run(
        model, x, torch.zeros(len(x)).long(), Context(key=key)
    )
    return seen.logits.detach(), seen.grad


@pytest.fixture
def v():
    return torch.randn(4, 5, generator=torch.Generator().manual_seed(3))


# ------------------------------------------------------------------------------------------ the estimate itself


@pytest.mark.parametrize("width", [1e-3, 0.1, 10.0])
def test_all_coordinates_are_the_gradient_of_a_linear_model(width, v):
    weight = torch.randn(5, math.prod(SHAPE))
    x = images(4)
    _, grad = look(lambda x: x.flatten(1) @ weight.T, x, width, None, v)
    torch.testing.assert_close(grad, (v @ weight).reshape(x.shape), rtol=1e-4, atol=2e-4 / min(width, 1))
    weight = weight.double()
    _, grad = look(lambda x: x.flatten(1) @ weight.T, x.double(), width, None, v.double())
    torch.testing.assert_close(grad, (v.double() @ weight).reshape(x.shape), rtol=1e-8, atol=1e-10)


def test_all_coordinates_are_the_gradient_of_a_quadratic_model(v):
    """Antithetic differences have no error of second order, however wide; of third order it is h^2."""
    form = torch.randn(5, 6, 6, dtype=torch.float64)
    x = torch.rand(4, 6, dtype=torch.float64)
    v = v.double()
    _, grad = look(lambda x: torch.einsum("ni,kij,nj->nk", x, form, x), x, 3.0, None, v)
    torch.testing.assert_close(grad, torch.einsum("nk,kij,nj->ni", v, form + form.mT, x))
    _, grad = look(lambda x: x[:, :5] ** 3, x, 0.5, None, v)
    torch.testing.assert_close(grad[:, :5], v * (3 * x[:, :5] ** 2 + 0.25))


def test_random_signs_are_unbiased_with_the_known_variance_and_cosine(v):
    """Coordinate i of one sample is g_i + u_i sum_j u_j g_j over j other than i: of variance |g|^2 - g_i^2."""
    weight, samples, draws = torch.randn(5, 40, dtype=torch.float64), 3, 4000
    x = torch.rand(1, 40, dtype=torch.float64).expand(draws, -1) + torch.arange(draws)[:, None] * 1e-3
    v = v[:1].double().expand(draws, -1)
    truth = v[0] @ weight
    _, grad = look(lambda x: x @ weight.T, x, 0.1, samples, v)
    variance = (truth.square().sum() - truth**2) / samples
    assert ((grad.mean(0) - truth).abs() < 5 * (variance / draws).sqrt()).all()
    assert ((grad.var(0) / variance - 1).abs() < 0.3).all()
    cosine = torch.cosine_similarity(grad, truth.expand_as(grad)).mean()
    assert abs(float(cosine) - math.sqrt(samples / (samples + 40))) < 0.03


def test_more_samples_come_closer(v):
    x = images(4).double()
    with torch.enable_grad():
        point = x.clone().requires_grad_()
        (truth,) = torch.autograd.grad(class_scores(point), point, v.double())
    estimates = [look(class_scores, x, 1e-3, samples, v)[1] for samples in (1, 30, 1000)]
    cosines = [float(torch.cosine_similarity(g.flatten(1), truth.flatten(1)).mean()) for g in estimates]
    assert cosines[0] < cosines[1] < cosines[2]
    assert cosines[2] > 0.93
    torch.testing.assert_close(look(class_scores, x, 1e-4, None, v)[1], truth, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_the_step_that_was_really_made_counts(dtype, v):
    """In half precision x + h is not x + h: near one, bfloat16 has steps of 1/128 above and 1/256 below."""
    x = torch.tensor([[0.99, 0.01], [1.0, 0.4], [0.5, 0.6], [0.3, 0.3]]).to(dtype)
    weight = torch.tensor([[1.0, 0.0], [0.0, -2.0]])
    _, grad = look(lambda x: x.float() @ weight, x, 0.013, None, v[:, :2])
    assert grad.dtype == dtype
    torch.testing.assert_close(grad.float(), v[:, :2] @ weight.T, rtol=0.01, atol=1e-3)


def test_the_logits_are_those_of_the_model(v):
    model, x = net().eval(), images(4)
    for dtype in (torch.float32, torch.bfloat16):
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            logits, _ = look(model, x, 0.1, 2, v)
            assert torch.equal(logits, model(x))


def test_a_model_that_breaks_down_nearby_has_no_slope_there(v):
    logits, grad = look(lambda x: (x[:, :5] - 0.5).sqrt(), torch.full((4, 6), 0.5), 0.1, None, v)
    assert torch.equal(logits, torch.zeros(4, 5))
    assert torch.equal(grad, torch.zeros(4, 6))


def test_dense_logits():
    x = images(4).double()
    seen = Look(torch.ones(4, C := SHAPE[0], 6, 6))
    finite_differences(seen, 0.1, samples=None).run(lambda x: x**2, x, torch.zeros(4).long())
    torch.testing.assert_close(seen.grad, 2 * x)
    assert seen.logits.shape == (4, C, 6, 6)


def test_drawings_belong_to_sample_key_and_seed(v):
    x = images(4)
    first = look(class_scores, x, 0.1, 2, v)[1]
    assert torch.equal(look(class_scores, x, 0.1, 2, v)[1], first)
    for other in (look(class_scores, x, 0.1, 2, v, key=1)[1], look(class_scores, x, 0.1, 2, v, seed=1)[1]):
        assert not torch.isclose(other, first).flatten(1).all(1).any()


def test_every_step_draws_anew():
    points = []

    def model(x):
        points.append(x.detach().clone())
        return x.flatten(1)[:, :3] * 0.0

    x, y = images(2), torch.zeros(2).long()
    attack = PGD(Linf(0.1), steps=2, random_start=False, keep="best")  # ends each ascent by a forward of its own
    finite_differences(restarted(attack, 2), 0.1, samples=2).run(model, x, y)
    # Per step: the point itself, and two pairs; per run two steps and the end.
    steps = [run + 5 * step for run in (0, 11) for step in (0, 1)]
    pairs = [points[at + 2 + 2 * k] - points[at] for at in steps for k in (0, 1)]
    assert all(torch.allclose(p.abs(), torch.tensor(0.1)) for p in pairs)
    for i, one in enumerate(pairs):
        assert not any(torch.allclose(one, other) for other in pairs[:i])


# ----------------------------------------------------------------------------------------- attacks on its back


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("ball", ["Linf", "L2"])
def test_it_is_the_plain_attack_where_differences_are_exact(space, ball):
    """On a linear model, behind every space: what is before the model is differentiated as ever."""
    x, y, code = batch(space, 6, dtype=torch.float64)
    model = Linear(torch.randn(SHAPE, dtype=torch.float64), (-1.0, 0.5, 1.0, 0.0, 0.2))
    attack = PGD(threat_of(ball, space), steps=4, rule=Steepest(momentum=0.5), keep="best")
    plain = attack.run(model, x, y, Context(code, 2))
    outcome = finite_differences(attack, 0.05, samples=None).run(model, x, y, Context(code, 2))
    torch.testing.assert_close(outcome.x_adv, plain.x_adv, rtol=1e-6, atol=1e-6)
    assert torch.equal(outcome.fooled, plain.fooled)
    assert (plain.delta.abs() > 0).any()


def test_random_signs_find_most_of_what_a_gradient_finds():
    x, model = images(16), Linear(torch.randn(SHAPE))
    y = torch.zeros(16).long()
    attack = PGD(L2(1.0), steps=20, rel_step_size=0.125, random_start=False)
    clean, best = log_odds(model(x), y), log_odds(model(attack(model, x, y)), y)
    reached = log_odds(model(finite_differences(attack, 0.1, samples=16)(model, x, y)), y)
    assert ((reached - clean) / (best - clean)).mean() > 0.8


def _black_and_white(n=64):
    """Bars at the top or the bottom of an image, almost black and almost white."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(n) % 2
    x = 0.05 * torch.rand(n, 1, 6, 6, generator=generator)
    for image, label in zip(x, y.tolist(), strict=True):
        image[0, 3 * label + torch.randint(3, (1,), generator=generator)] += 0.9
    return x, y


class Thresholds(nn.Module):
    """relu(x - eps) and relu(x - (1 - eps)): what is almost black has no gradient."""

    def forward(self, x):
        return torch.relu(torch.cat([x - 0.2, x - 0.8], 1))


@pytest.fixture(scope="module")
def filtered():
    torch.manual_seed(0)
    x, y = _black_and_white()
    model = nn.Sequential(Thresholds(), nn.Flatten(), nn.Linear(72, 16), nn.Softplus(), nn.Linear(16, 2))
    optimiser = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(60):
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimiser.step()
    return model.eval(), x, y


def test_it_sees_across_a_zone_without_gradient(filtered):
    """Thresholds of 0.2 hide black pixels from the gradient, but not from a perturbation of 0.4."""
    model, x, y = filtered
    assert (model(x).argmax(1) == y).all()
    attack = PGD(Linf(0.4), steps=10, random_start=False, keep="best")
    accuracy = {
        name: float((model(a(model, x, y)).argmax(1) == y).float().mean())
        for name, a in {
            "plain": attack,
            "narrow": finite_differences(attack, 0.01, samples=None),
            "wide": finite_differences(attack, 0.3, samples=None),
            "signs": finite_differences(attack, 0.3, samples=32),
            "search": RandomSearch(Linf(0.4), queries=300),
        }.items()
    }
    assert accuracy["plain"] > 0.9
    assert accuracy["narrow"] > 0.9, "narrower than the zone it sees no more than the gradient"
    assert accuracy["wide"] < 0.1
    assert accuracy["signs"] < 0.1
    assert accuracy["search"] < 0.1, "an attack of another kind agrees"


def test_it_attacks_a_model_that_has_no_gradient():
    x, y = _black_and_white()
    weight = torch.stack([torch.ones(6, 6), -torch.ones(6, 6)])
    weight[:, 3:] *= -1

    def model(x):
        return (2.0 * (x >= 0.5) - 1).flatten(1) @ weight.flatten(1).T

    assert (model(x).argmax(1) == y).all()
    attack = PGD(Linf(0.5), steps=10, random_start=False, keep="best")
    with pytest.raises(RuntimeError, match="to depend on its input differentiably"):
        attack(model, x, y)
    outcome = finite_differences(attack, 0.6, samples=None).run(model, x, y)
    assert outcome.fooled.all()
    assert not outcome.stuck.any()
    assert finite_differences(attack, 0.2, samples=None).run(model, x, y).stuck.all(), "narrower than the zone"


# ------------------------------------------------------------------------------------------------ conduct


def test_the_model_is_never_asked_for_a_gradient_and_how_often_it_is_asked():
    calls = [0]

    class Watched(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net()

        def forward(self, x):
            calls[0] += 1
            assert not torch.is_grad_enabled()
            assert not x.requires_grad
            assert not any(m.training for m in self.net.modules())
            return self.net(x)

    model, (x, y, _) = Watched(), batch()
    finite_differences(PGD(Linf(0.1), steps=3), 0.1, samples=5)(model, x, y)
    assert calls[0] == 3 * (1 + 2 * 5)
    calls[0] = 0
    finite_differences(PGD(Linf(0.1), steps=1, keep="best"), 0.1, samples=None)(model, x, y)
    assert calls[0] == 1 + 2 * math.prod(SHAPE) + 1


def test_what_a_model_draws_inside_is_the_same_on_both_sides():
    model = nn.Sequential(nn.Dropout(0.5), nn.Flatten(), nn.Linear(math.prod(SHAPE), 3))
    seen = SimpleNamespace(masks=[])  # a plain list in a hook is put back after an attack
    model[0].register_forward_hook(lambda module, args, output: seen.masks.append((output != 0) | (args[0] == 0)))
    x, y = images(4) + 1.5, torch.zeros(4).long()
    finite_differences(PGD(threat_of("Linf", "pixels"), steps=1, mode="train"), 0.1, samples=2).run(model, x, y)
    _, behind, ahead, behind_too, ahead_too = seen.masks
    assert torch.equal(behind, ahead)
    assert torch.equal(behind_too, ahead_too)
    assert not torch.equal(ahead, ahead_too)


@pytest.mark.parametrize(
    "inner",
    [
        PGD(L2(1.0), steps=6),
        PGD(L2(1.5), steps=8, restarts=3, rel_step_size=0.3, early_stop=True, keep="best"),
        worst_of(RandomSearch(Linf(0.03), queries=6), PGD(L2(0.5), steps=4)),
    ],
    ids=["plain", "stopped", "after a search"],
)
def test_a_sample_draws_the_same_alone_as_in_company_in_single_precision(inner):
    """Up to rounding: numbers keyed by the input of each step would be others after the first one."""
    x, attack = images(24), finite_differences(inner, 0.1, samples=3)
    y = class_scores(x).argmax(1)
    together = attack(class_scores, x, y, key=1)
    alone = torch.cat([attack(class_scores, x[i : i + 1], y[i : i + 1], key=1) for i in range(24)])
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-4)
    assert 0 < (class_scores(alone).argmax(1) == y).sum() < 24, "some are to stop earlier than others"


def test_a_part_of_the_batch_has_its_own_numbers():
    model, (x, y, _) = net(), batch()
    attack = finite_differences(in_turn(PGD(L2(1.0)), PGD(L2(1.0))), 0.1, samples=2)
    x_adv = attack(model, x, y)
    assert ((x_adv - x).flatten(1).norm(dim=1) > 0.1).all()
    again = attack(model, x.roll(3, 0), y.roll(3, 0))  # the halves change places
    assert not torch.allclose(x_adv, again)


def test_in_bfloat16():
    x, y, _ = batch(n=8, dtype=torch.bfloat16)
    attack = finite_differences(PGD(Linf(0.1), steps=5, random_start=False), 0.1, samples=64)
    x_adv = attack(class_scores, x, y)
    assert x_adv.dtype == torch.bfloat16
    assert attack.attack.threat.contains(x, x_adv).all()
    raised = log_odds(class_scores(x_adv.float()), y) - log_odds(class_scores(x.float()), y)
    assert (raised > 0).all()


def test_through_a_manifold_the_decoder_is_differentiated():
    x, y, code = batch("latent_code", 6, dtype=torch.float64)
    outcome = finite_differences(PGD(threat_of("L2", "latent_code"), steps=3), 0.1, samples=4).run(
        class_scores, x, y, Context(code)
    )
    assert not outcome.stuck.any()
    assert not any(p.grad is not None for p in manifold_of("latent_code").parameters())


def test_it_passes_on():
    attack = finite_differences(PGD(Linf(0.1), restarts=3), 0.2, samples=None, seed=4)
    assert attack.thorough().attack.keep == "best"
    assert attack.scaled(0.5).attack.threat.ball.eps == 0.05
    assert attack.scaled(0.5).width == 0.2
    assert attack.restarts == 3
    assert (attack.thorough().samples, attack.thorough().seed) == (None, 4)
    assert attack == finite_differences(PGD(Linf(0.1), restarts=3), 0.2, samples=None, seed=4)


def test_in_a_configuration_file_it_goes_by_the_name_of_its_class():
    threat = {"class_path": "Linf", "init_args": {"eps": 0.1}}
    inner = {"class_path": "PGD", "init_args": {"threat": threat}}
    parser = ArgumentParser()
    parser.add_argument("--attack", type=Attack)
    written = {"class_path": "FiniteDifferences", "init_args": {"attack": inner, "width": 0.2}}
    parsed = parser.instantiate_classes(parser.parse_object({"attack": written})).attack
    assert parsed == finite_differences(PGD(Linf(0.1)), 0.2)


def test_a_width_of_zero_is_refused():
    with pytest.raises(ValueError, match=r"Expected argument `width` to be .*, but got 0"):
        finite_differences(PGD(Linf(0.1)), 0)


def test_too_many_coordinates_are_refused_one_by_one():
    x, y = torch.rand(1, 3, 64, 64), torch.zeros(1).long()
    with pytest.raises(ValueError, match="`samples` to be a number for inputs of 12288 coordinates"):
        finite_differences(PGD(Linf(0.1)), 0.1, samples=None)(class_scores, x, y)
