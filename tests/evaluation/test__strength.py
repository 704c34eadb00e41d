"""What settings alone say of attacks, and how much of the radius an attack uses."""

import math
from dataclasses import dataclass

import pytest
import torch

from lightning_robust import evaluate
from lightning_robust.attacks import (
    L1,
    L2,
    PGD,
    Adam,
    AffineSpace,
    Attack,
    AutoPGD,
    GridSearch,
    Linf,
    MinimumNorm,
    RandomPerturbation,
    RandomSearch,
    Rule,
    Square,
    Threat,
    apgd,
    as_attack,
    bim,
    carlini_wagner,
    fgsm,
    finite_differences,
    in_turn,
    margin,
    mim,
    pgd_cw,
    restarted,
    rs_fgsm,
    stutz,
    targeted,
    targeted_dlr,
    targeted_margin,
    worst_of,
)
from lightning_robust.attacks.attack import NO_CONTEXT, Outcome
from lightning_robust.evaluation import Plan, Report, standard
from lightning_robust.evaluation._strength import effort, of_settings, radius_used_by, searches_of, weaknesses
from lightning_robust.interop import from_foolbox, from_torchattacks
from tests.evaluation import zoo

BALL, FAR = Linf(0.1), L2(0.5)
SHORT = PGD(BALL, 20, rel_step_size=0.01)
AFFINE = Threat(Linf(1.0), AffineSpace())
NOISE = RandomPerturbation(BALL)


def own(model, x, y):
    return x


HONEST = {
    "the default": [PGD(BALL)],
    "Madry's of MNIST": [PGD(Linf(0.3), 40, rel_step_size=0.01 / 0.3)],
    "Madry's of CIFAR": [PGD(Linf(8 / 255), 7, rel_step_size=2 / 8)],
    **{f"bim of {n}": [bim(BALL, n)] for n in (3, 7, 10, 49)},
    "mim": [mim(BALL)],
    "Adam has steps of its own": [stutz(Linf(0.3))],
    "Carlini and Wagner": [carlini_wagner(BALL)],
    "pgd_cw": [pgd_cw(FAR)],
    "Auto-PGD": [apgd(BALL, 20)],
    "Auto-PGD in L1": [apgd(L1(2.0), 20)],
    "the least norm": [MinimumNorm(FAR)],
    "one step beside several": [fgsm(BALL), PGD(BALL)],
    "one step beside several in one": [fgsm(BALL), worst_of(PGD(BALL), fgsm(BALL))],
    "short steps beside others": [SHORT, PGD(BALL)],
    "a search beside gradients": [PGD(BALL), RandomSearch(BALL, 10)],
    "a function of one's own": [as_attack(own)],
    "short steps beside a function": [SHORT, as_attack(own)],
    "a grid": [GridSearch(AFFINE)],
    "ten random maps": [restarted(RandomPerturbation(AFFINE), 10)],
    "estimated gradients": [finite_differences(PGD(BALL, 5), width=0.05)],
    "nothing is allowed": [PGD(Linf(0.0), 1), RandomPerturbation(Linf(0.0))],
    "the three nearest": [PGD(BALL, gain=tuple(map(targeted_margin, (3, 1, 2))), restarts=3)],
    "a target beside others": [PGD(BALL, gain=targeted_margin(9)), PGD(BALL)],
    "a target beside a function": [PGD(BALL, gain=targeted_margin(9)), as_attack(own)],
    "the standard": [stage for stage in standard(BALL).attacks.values() if isinstance(stage, Attack)],
    "the standard in L1": [stage for stage in standard(L1(3.0)).attacks.values() if isinstance(stage, Attack)],
}


@pytest.mark.parametrize("name", HONEST)
def test_what_the_literature_does_is_not_weak(name):
    assert weaknesses(attack.thorough() for attack in HONEST[name]) == ()


@pytest.mark.parametrize(
    ("attacks", "names"),
    [
        ([SHORT], {"short_steps": 0.2}),
        ([SHORT, RandomSearch(BALL, 10), NOISE], {"short_steps": 0.2}),
        ([worst_of(SHORT, PGD(BALL, 5, rel_step_size=0.1))], {"short_steps": 0.5}),
        ([PGD(BALL), PGD(FAR, 5, rel_step_size=0.1)], {"short_steps": 0.5}),
        ([PGD(BALL, 1, rel_step_size=0.5)], {"one_step": 1, "short_steps": 0.5}),
        ([fgsm(BALL), restarted(rs_fgsm(BALL), 3), RandomSearch(BALL, 10)], {"one_step": 1}),
        ([in_turn(fgsm(BALL), fgsm(FAR))], {"one_step": 1}),
        ([PGD(BALL, gain=targeted_margin(9), restarts=2)], {"few_targets": 0}),
        ([worst_of(PGD(BALL, gain=targeted_margin(1)), apgd(BALL, gain=targeted_dlr(2))), NOISE], {"few_targets": 2}),
        ([PGD(BALL), PGD(FAR, gain=targeted(margin))], {"few_targets": 1}),
        ([MinimumNorm(FAR, targets=2)], {"few_targets": 2}),
        ([RandomSearch(BALL, 10)], {"no_gradients": 0}),
        ([PGD(BALL, 10, rule=Square()), NOISE], {"no_gradients": 0}),
        ([restarted(NOISE, 10), RandomPerturbation(AFFINE)], {"no_gradients": 0}),
    ],
)
def test_what_is_weak_by_its_settings_is_named(attacks, names):
    assert dict(weaknesses(attack.thorough() for attack in attacks)) == names


def test_one_target_is_all_that_two_classes_have():
    weak = weaknesses([PGD(BALL, gain=targeted_margin(1))])
    assert [[one.name for one in of_settings(weak, classes)] for classes in (0, 2, 3)] == [
        ["few_targets"],
        [],
        ["few_targets"],
    ]


def test_attacks_of_other_packages_say_how_far_their_steps_go():
    torchattacks, foolbox = pytest.importorskip("torchattacks"), pytest.importorskip("foolbox")
    steps = {"eps": 8 / 255, "alpha": 2 / 255, "steps": 10}
    assert effort(from_torchattacks(torchattacks.PGD, steps)) == (10, pytest.approx(2.5))
    assert effort(from_torchattacks(torchattacks.PGD, {**steps, "alpha": 1 / 2550})) == (10, pytest.approx(0.125))
    assert effort(from_torchattacks(torchattacks.APGD, {"eps": 0.1})) == (math.inf, math.inf)
    attack = foolbox.attacks.LinfBasicIterativeAttack
    assert effort(from_foolbox(attack(steps=1, rel_stepsize=0.05), eps=0.1)) == (1, 0.05)
    assert effort(from_foolbox(attack(steps=4, abs_stepsize=0.05), eps=0.1)) == (4, 2.0)
    assert effort(from_foolbox(foolbox.attacks.LinfDeepFoolAttack(), eps=0.1)) == (math.inf, math.inf)


def test_the_doubt_is_in_the_report_as_long_as_something_withstands(tmp_path):
    net, (_, _, x, y) = zoo.seeded(0, zoo.network), zoo.digits()
    for attacks in ({"pgd": SHORT}, Plan({"pgd": SHORT})):
        folder = tmp_path / type(attacks).__name__
        with pytest.warns(UserWarning, match=r"short_steps: The steps .* go 0\.2 radii together"):
            report = evaluate(net, (x[:30], y[:30]), attacks, out=folder, progress=False)
        assert [one.name for one in report.flagged] == ["short_steps"]
        for name in ("report.json", "samples.csv"):
            (folder / name).unlink()
        assert [one.name for one in Report.load(folder).flagged] == ["short_steps"]
    everything = Plan({"pgd": SHORT, "search": RandomSearch(Linf(1.0), 50), "far": PGD(Linf(1.0), 20)})
    report = evaluate(net, (x[:30], y[:30]), everything, progress=False)
    assert report.robust_acc.value == 0
    assert not report.flagged


# ------------------------------------------------------------------------------------------------ the radius used


class Little(Attack):
    """Moves by a share of the radius, and claims all of it."""

    def __init__(self, share, ball=BALL):
        self.threat, self.share = Threat(ball), share

    def run(self, model, x, y, context=NO_CONTEXT):
        return Outcome(x + self.share * float(self.threat.ball.radius) / math.sqrt(x[0].numel()))


def test_the_share_of_the_radius_is_that_of_the_norm_that_the_range_allows():
    x = torch.full((2, 1, 4, 4), 0.5)
    for share in (0.25, 1.0):
        moved = Little(share, L2(0.8)).run(None, x, None)
        assert radius_used_by(Little(share, L2(0.8)), x, moved).tolist() == pytest.approx([share] * 2, abs=1e-6)
        far = Little(share / 5, L2(10.0))  # from the middle no image is farther than 2
        assert radius_used_by(far, x, far.run(None, x, None)).tolist() == pytest.approx([share] * 2, abs=1e-6)
    for attack in (NOISE, RandomSearch(BALL, 1), MinimumNorm(BALL), as_attack(own), RandomPerturbation(AFFINE)):
        assert radius_used_by(attack, x, Outcome(x)) is None


@pytest.mark.parametrize("plan", [False, True])
def test_an_attack_that_does_next_to_nothing_is_doubted(plan):
    net, (_, _, x, y) = zoo.seeded(0, zoo.network), zoo.digits()
    x, y = (0.2 + 0.6 * x)[:40], y[:40]

    def doubts(attacks):
        report = evaluate(net, (x, y), Plan(attacks) if plan else attacks, progress=False)
        return [text for text in report.warnings if "less than half of the radius" in text]

    (text,) = doubts({"little": Little(0.01)})
    assert "samples that withstood" in text
    assert not doubts({"little": Little(0.01), "pgd": PGD(BALL, 5)})
    assert not doubts({"much": Little(4.0)})
    assert doubts({"little": Little(0.01, FAR), "pgd": PGD(BALL, 5)})  # another set


@dataclass(frozen=True)
class Creep(Rule):
    """A rule of one's own, along the sign by a thousandth of what is meant."""

    def __call__(self, at, state):
        return at.delta + 1e-4 * at.grad.sign(), state


def test_an_attack_that_stays_where_it_began_is_doubted_whatever_its_rule():
    """A random start is as far from the clean input as an attack may go: the way counts, and not where it is."""
    net, (_, _, x, y) = zoo.seeded(0, zoo.network), zoo.digits()

    def doubted(**given):
        report = evaluate(net, (x[:40], y[:40]), PGD(Linf(0.05), 20, **given), progress=False)
        return [text for text in report.warnings if "less than half of the radius" in text]

    assert doubted(rule=Adam(1e-4))
    assert doubted(rule=Creep(), restarts=2)
    assert not doubted(rule=Adam(0.01))
    assert not doubted(rule=AutoPGD())
    assert not doubted()


def test_a_way_in_larger_balls_counts():
    """Auto-PGD in L1 ends within the declared ball, near where the run before ended."""
    net, (_, _, x, y) = zoo.seeded(3, zoo.network, eps=0.2), zoo.digits()
    attack = apgd(L1(2.0), 20)
    outcome = attack.thorough().run(net, x, y)
    assert float(radius_used_by(attack, x, outcome).min()) > 0.75


@pytest.mark.parametrize("ball", [Linf(0.002), Linf(0.3), L2(0.5), L2(3.0), L1(2.0), L1(10.0)])
@pytest.mark.parametrize("eps", [0.0, 0.2])
def test_ordinary_attacks_from_the_clean_input_use_the_radius(ball, eps):
    net, (_, _, x, y) = zoo.seeded(3, zoo.network, eps=eps), zoo.digits()
    for attack in (PGD(ball, 10), PGD(ball, 10, random_start=False), mim(ball), apgd(ball, 10), pgd_cw(ball, 10)):
        outcome = attack.thorough().run(net, x, y)
        held = (net(x).argmax(1) == y) & ~outcome.fooled.any(0)
        share = radius_used_by(attack, x, outcome)[held]
        assert not len(share) or float(share.median()) > 0.75, type(ball)


def test_a_search_is_compared_within_one_set_alone():
    attacks = {"pgd": PGD(BALL), "search": RandomSearch(BALL)}
    assert searches_of(attacks) == {"search"}
    assert searches_of({**attacks, "own": as_attack(own)}) == {"search"}
    assert searches_of({**attacks, "search": RandomSearch(FAR)}) == set()
    assert searches_of({"pgd": PGD(BALL), "search": RandomSearch(AFFINE)}) == set()
