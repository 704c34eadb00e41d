"""The plans: exact where the truth is known, within the passes that were promised, and clear about what they refuse."""

import pickle
import warnings
from dataclasses import replace

import pytest
import torch
from torch import nn

from lightning_robust import evaluate
from lightning_robust.attacks import (
    L1,
    L2,
    PGD,
    AffineSpace,
    AutoPGD,
    Linf,
    MinimumNorm,
    PixelSpace,
    RandomSearch,
    Steepest,
    Threat,
    binary_correct,
    binary_margin,
    cross_entropy,
    dense,
    dense_correct,
    dlr,
    margin,
    normalized,
    targeted_dlr,
    targeted_margin,
)
from lightning_robust.attacks.auto_pgd import Shrinking
from lightning_robust.attacks.starts import on_sphere, patches, projected_normal
from lightning_robust.evaluation import Plan, Stage, autoattack, standard
from lightning_robust.evaluation._plan import stages_of
from tests.evaluation import zoo


def brief(plan):
    """With a search of few queries, which take most of the time."""
    stage = plan.attacks["search"]
    return Plan({**plan.attacks, "search": Stage(replace(stage.attack, queries=20), stage.on)}, note=plan.note)


DUAL = {Linf: 1, L2: 2, L1: float("inf")}


def linear(classes, scale, n=60, pixels=25):
    """A linear model, inputs so far from the pixel range that it does not matter, and the distance of each sample."""
    noise = torch.Generator().manual_seed(classes)
    model = nn.Sequential(nn.Flatten(), nn.Linear(pixels, classes)).double().requires_grad_(False)
    weight = torch.randn(classes, pixels, generator=noise).double()
    model[1].weight.copy_(scale * weight)
    model[1].bias.copy_(-0.5 * scale * weight.sum(1))
    x = 0.35 + 0.3 * torch.rand(n, 1, 5, 5, generator=noise).double()
    z = model(x) / scale
    y = z.argmax(1)

    def distance(ball):
        norms = torch.linalg.vector_norm(weight[None] - weight[y][:, None], ord=DUAL[ball], dim=-1).clamp_min(1e-9)
        gaps = (z.gather(1, y[:, None]) - z) / norms
        return gaps.scatter(1, y[:, None], torch.inf).amin(1)

    return model, x, y, distance


@pytest.mark.parametrize(("classes", "scale"), [(2, 1.0), (3, 1e3), (4, 1e-2), (12, 1.0)])
def test_exact_on_linear_models(classes, scale):
    model, x, y, distance = linear(classes, scale)
    far = distance(Linf)
    eps = float(far.sort().values[42:44].mean())
    plan = standard(Linf(eps))
    report = evaluate(model, (x, y), plan if classes == 12 else brief(plan), progress=False)
    assert torch.equal(report.robust, far > eps)
    assert list(report.right) == ["clean"]
    broken = ~report.robust
    assert (report.images.radius[broken] <= eps).all()
    assert (report.images.radius[broken] >= far[broken] * (1 - 1e-9)).all()
    passes = report.images.passes.double()
    withstand = passes[report.robust].mean()
    assert 960 <= withstand <= 1000 if classes == 12 else withstand <= 740
    assert passes[~report.robust].mean() <= 60


def test_other_norms():
    model, x, y, distance = linear(4, 1.0)
    for ball in (L2, L1):
        far = distance(ball)
        eps = float(far.sort().values[42:44].mean())
        robust = evaluate(model, (x, y), brief(standard(ball(eps))), progress=False).robust
        assert not (robust & (far < 0.97 * eps)).any()
        assert robust[far > eps].all()


def test_a_normal_model_costs_little():
    model, x, y, distance = linear(10, 1.0, n=100)
    report = evaluate(model, (x, y), standard(Linf(4 * float(distance(Linf).max()))), progress=False)
    assert not report.robust.any()
    assert report.images.passes.double().mean() <= 30


def as_table(threat):
    """The stages of a plan: name, steps, restarts, start, gain, seed."""
    rows = []
    for name, stage in standard(threat).attacks.items():
        attack = getattr(stage, "attack", stage)
        assert isinstance(attack, PGD | RandomSearch)
        if isinstance(attack, RandomSearch):
            rows.append((name, attack.queries, stage.on, attack.gain))
        else:
            rows.append((name, attack.steps, attack.restarts, attack.random_start, attack.gain, attack.seed))
            auto = name.startswith("apgd")
            assert isinstance(attack.rule, AutoPGD if auto else Steepest)
            assert isinstance(stage, Shrinking if auto and threat.sparse else PGD)
    return rows


def from_zero(name, gain):
    return (name, 10, 1, False, gain, 0)


def test_what_the_stages_make():
    """As the docstring says, stage by stage; in an L1 ball other restarts, and targets of as many steps each."""
    first = [from_zero("margin", margin)] + [from_zero(f"target {r}", targeted_margin(r)) for r in (1, 2, 3)]
    ratios = [from_zero(f"ratio target {r}", targeted_dlr(r)) for r in (1, 2, 3)]
    search = ("search", 1000, "few", margin)
    entropies = (normalized(cross_entropy), cross_entropy)

    dense = as_table(Linf(0.1))
    assert dense[:4] == first
    assert dense[4] == ("apgd", 35, 2, on_sphere, entropies, 0)
    assert dense[5] == ("restarts", 20, 6, patches, margin, 0)
    assert dense[6][:4] == ("ratio", 10, 1, False)
    assert dense[6][4].gain is dlr
    assert dense[7:10] == ratios
    steps = {1: 30, 2: 30, 3: 20, 4: 20, 5: 10, 6: 10, 7: 10, 8: 10, 9: 10}
    assert dense[10:19] == [(f"apgd target {r}", n, 1, on_sphere, targeted_margin(r), r) for r, n in steps.items()]
    assert dense[19:] == [search]
    assert as_table(L2(1.0)) == dense

    sparse = as_table(L1(6.0))
    assert sparse[:4] == first
    assert sparse[4] == ("apgd", 35, 2, projected_normal, entropies, 0)
    assert sparse[5] == ("restarts", 20, 2, True, margin, 0)
    assert sparse[6] == ("apgd restarts", 50, 6, projected_normal, (cross_entropy, margin, entropies[0]), 1)
    assert sparse[7:11] == dense[6:10]
    assert sparse[11:20] == [(f"apgd target {r}", 16, 1, projected_normal, targeted_margin(r), r) for r in steps]
    assert sparse[20:] == [search]

    extra = {name: stage for name, stage in standard(L1(6.0), radii=True).attacks.items() if name == "minimum norm"}
    assert extra == {"minimum norm": Stage(MinimumNorm(L1(6.0)), on="right")}


def test_other_labels_have_a_plan_of_their_own():
    """Yes/no labels, labels of positions, and a space of few dimensions."""
    plan = standard(Linf(0.05), gain=binary_margin)
    assert "nine nearest" in plan.note
    model, x = nn.Sequential(nn.Flatten(), nn.Linear(25, 1)), torch.rand(30, 1, 5, 5)
    y = (model(x) > 0).float()
    report = evaluate(model, (x, y), brief(plan), correct=binary_correct, progress=False)
    far = model(x).abs()[:, 0] / model[1].weight.abs().sum()
    sure = ((far - 0.05).abs() > 1e-3) & (far < 0.04)
    assert not report.robust[sure].any()
    assert report.robust[far > 0.05].all()
    assert report.about["plan"] == plan.note

    pixels = nn.Conv2d(1, 3, 1)
    y = pixels(x).argmax(1)
    plan = standard(Linf(0.05), gain=dense(margin))
    report = evaluate(pixels, (x, y), brief(plan), correct=dense_correct(1.0), progress=False)
    assert report.labels is None
    assert report.clean_acc.value == 1
    assert list(plan.attacks) == ["pgd", "apgd", "soft count", "search"]
    assert "counts positions softly." in plan.note

    classes = nn.Sequential(nn.Flatten(), nn.Linear(25, 3))
    plan = standard(Threat(Linf(0.1), AffineSpace()))
    report = evaluate(classes, (x, classes(x).argmax(1)), brief(plan), progress=False)
    assert report.n == 30


@pytest.mark.parametrize("labels", [3, 12])
@pytest.mark.parametrize("radii", [False, True])
def test_exact_on_linear_heads_of_unlike_scale(labels, radii):
    """The label whose logit is the least right is mostly out of reach; the nearest one decides."""
    noise = torch.Generator().manual_seed(labels)
    weight = torch.randn(labels, 25, generator=noise).double() * torch.linspace(-4, 4, labels).double().exp()[:, None]
    x = 0.35 + 0.3 * torch.rand(60, 1, 5, 5, generator=noise).double()

    def model(x):
        return (x.flatten(1) - 0.5) @ weight.T

    y = (model(x) > 0).long()
    far = (model(x).abs() / weight.abs().sum(1)).amin(1)
    eps = float(far.sort().values[42:44].mean())
    plan = standard(Linf(eps), gain=binary_margin, radii=radii)
    report = evaluate(model, (x, y), brief(plan), correct=binary_correct, progress=False)
    assert torch.equal(report.robust, far > eps)
    assert not report.flagged
    if radii:
        assert (report.images.radius / far < 1.01).double().mean() > 0.95
        assert (report.images.radius >= far * (1 - 1e-9)).all()


def test_one_logit_is_the_nearest_of_one():
    """(N,) and (N, 1) alike; of nine targets one is there."""
    weight, x = torch.linspace(-1, 1, 25), torch.rand(30, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    plan = standard(Linf(0.01), gain=binary_margin).attacks
    plan = Plan({name: attack for name, attack in plan.items() if name.startswith("target")})
    y, spent = (x.flatten(1) @ weight > 0).long(), []
    far = (x.flatten(1) @ weight).abs() / weight.abs().sum()
    for shape in ((-1,), (-1, 1)):

        def model(x, shape=shape):
            return (x.flatten(1) @ weight).reshape(shape)

        report = evaluate(model, (x, y), plan, correct=binary_correct, progress=False)
        assert torch.equal(report.robust, far > 0.01)
        spent.append(report.images.passes[report.robust].max())
    assert spent[0] == spent[1] <= 45


def test_a_plan_is_an_ordinary_composition():
    plan = standard(Linf(8 / 255))
    assert list(plan.attacks) == [
        "margin",
        *(f"target {rank}" for rank in (1, 2, 3)),
        "apgd",
        "restarts",
        "ratio",
        *(f"ratio target {rank}" for rank in (1, 2, 3)),
        *(f"apgd target {rank}" for rank in range(1, 10)),
        "search",
    ]
    own = Plan({**plan.attacks, "own": lambda model, x, y: x})
    assert list(stages_of(own)) == [*plan.attacks, "own"]
    assert stages_of(own)["search"].on == "few"
    assert repr(pickle.loads(pickle.dumps(plan))) == repr(plan)
    assert repr(standard(L2(0.5))) != repr(standard(L2(0.6)))


def test_a_scale_of_the_logits_that_depends_on_the_input_hides_little():
    """The predictions are those of the bare network. Without the ratios of logits 12 points more seem robust."""
    net, other = zoo.seeded(0, zoo.network), zoo.seeded(1, zoo.network)
    _, _, x, y = zoo.digits()
    plan = brief(standard(Linf(0.15)))
    bare, scaled = (evaluate(m, (x, y), plan, progress=False) for m in (net, zoo.scaled(net, other)))
    assert torch.equal(bare.right["clean"], scaled.right["clean"])
    assert scaled.robust_acc.value <= bare.robust_acc.value + 0.03


def test_ratios_need_three_classes_and_targeted_ones_four():
    attacks = [stage.attack for name, stage in stages_of(standard(Linf(0.1))).items() if name.startswith("ratio")]
    for classes, counted in ((2, 0), (3, 1), (4, 4)):
        logits, y = torch.randn(5, classes), torch.arange(5) % classes
        assert sum(attack.applies(logits, y) for attack in attacks) == counted
        assert sum(attack.applies(logits, y.float()) for attack in attacks) == 0


def test_radii_come_with_an_attack_of_minimum_norm():
    model, x, y, distance = linear(4, 1.0, n=40)
    far = distance(L2)
    report = evaluate(model, (x, y), brief(standard(L2(0.1), radii=True)), progress=False)
    assert stages_of(standard(L2(0.1), radii=True))["minimum norm"].on == "right"
    near = far < 0.1
    assert (report.images.radius[near] >= far[near] * (1 - 1e-9)).all()
    assert float((far[near] / report.images.radius[near]).mean()) >= 0.99


def test_radii_cost_less_than_a_second_run():
    model, x, y, distance = linear(10, 1.0)
    eps = float(distance(Linf).median())
    plans = [brief(standard(Linf(eps), radii=radii)) for radii in (False, True)]
    alone, both = (evaluate(model, (x, y), plan, progress=False).images.passes.double().mean() for plan in plans)
    assert both < 1.7 * alone


def test_autoattack_is_that_of_torchattacks():
    pytest.importorskip("torchattacks")
    threat = Threat(L2(0.5), PixelSpace(mean=0.5, std=0.25))
    attack = autoattack(threat, classes=4, version="plus").attacks["autoattack"]
    assert attack.arguments == {"norm": "L2", "eps": 0.5, "version": "plus", "n_classes": 4}
    assert (attack.space.mean, attack.space.std) == (threat.space.mean, threat.space.std)
    assert attack.scaled(0.5).threat == threat.scaled(0.5)


def test_autoattack_stays_in_the_threat_that_it_declares(monkeypatch):
    """All samples are robust: AutoAttack gives back the clean inputs, at which nobody wonders."""
    torchattacks = pytest.importorskip("torchattacks")
    torch.manual_seed(0)
    sure = nn.Sequential(nn.Flatten(), nn.Linear(25, 4)).requires_grad_(False)
    x = torch.rand(8, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    sure[1].bias.copy_(torch.arange(4) - 0.5 * sure[1].weight.sum(1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plan = autoattack(Linf(0.02), classes=4, version="rand")
        report = evaluate(sure, (x, torch.full((8,), 3)), plan, progress=False)
    assert "under Linf(" in str(report)
    assert report.robust.all()

    def leaves(self, images, labels):
        return images + 0.2 * (0.5 - images).sign()

    monkeypatch.setattr(torchattacks.AutoAttack, "forward", leaves)
    attack = plan.attacks["autoattack"]
    assert float((attack(sure, x, torch.full((8,), 3)) - x).abs().max()) == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: standard(Linf(torch.tensor([0.1, 0.2]))), "one radius for all samples, but Linf has 2"),
        (lambda: standard(Linf), "`threat` to be a Ball"),
        (lambda: standard(Linf(0.1), gain=3), "`gain`"),
        (lambda: autoattack(L1(1.0)), "Linf or L2 of pixels .* but got .*L1"),
        (lambda: autoattack(Threat(Linf(0.1), AffineSpace())), "Linf or L2 of pixels .* but got .*AffineSpace"),
        (lambda: autoattack(Threat(Linf(0.1), PixelSpace(0, 255))), "Linf or L2 of pixels"),
        (lambda: autoattack(Linf(0.1), classes=3), "`classes`"),
        (lambda: autoattack(Linf(0.1), version="fast"), "`version`"),
        (lambda: Stage(PGD(Linf(0.1)), on="all"), "`on` to be"),
        (lambda: Stage(3), "to be an attack"),
        (lambda: Plan({}), "at least one attack"),
        (lambda: Plan([PGD(Linf(0.1))]), "a mapping from names"),
        (lambda: stages_of({"a": Stage(PGD(Linf(0.1)))}), "a Stage, which is part of a plan"),
    ],
)
def test_what_has_no_standard_is_refused(make, match):
    with pytest.raises((TypeError, ValueError), match=match):
        make()
