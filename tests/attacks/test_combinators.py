import math
from typing import NamedTuple

import pytest
import torch

from lightning_robust.attacks import (
    L2,
    PGD,
    Attack,
    Context,
    Linf,
    Outcome,
    fgsm,
    finite_differences,
    in_turn,
    margin,
    on_fraction,
    restarted,
    worst_of,
)
from lightning_robust.attacks.combinators import InTurn, OnFraction, attacked_rows
from tests.helpers import batch, class_scores, images, net, threat_of


class Shift(Attack):
    """Moves every pixel by a number; what it does depends on nothing else."""

    def __init__(self, by):
        self.by = by

    def run(self, model, x, y, context):
        return Outcome(x + self.by)


def threshold(x):
    """Class 1 where the mean pixel is above one half; the logit is the excess."""
    excess = x.flatten(1).mean(1) - 0.5
    return torch.stack([-excess, excess], 1)


def test_worst_of_takes_the_highest_cross_entropy_of_those_that_fool_else_of_all():
    """The "max" strategy of Tramer & Boneh: also where several fool the model, the worst of them."""
    x, y = torch.full((3, 1, 2, 2), 0.4), torch.tensor([0, 0, 1])
    attack = worst_of(Shift(0.05), Shift(-0.3), Shift(0.2))
    outcome = attack.run(threshold, x, y)
    assert torch.allclose(outcome.x_adv[:, 0, 0, 0], torch.tensor([0.6, 0.6, 0.1]))
    assert outcome.fooled.tolist() == [[False, False, True], [False, False, True], [True, True, False]]
    mild = worst_of(Shift(0.0), Shift(0.05)).run(threshold, x[:1], y[:1])
    assert torch.allclose(mild.x_adv[0, 0, 0, 0], torch.tensor(0.45))
    assert not mild.fooled.any()


def test_worst_of_prefers_the_one_that_fools_to_a_higher_cross_entropy():
    def model(x):  # a sure but right answer, or a wrong one by a hair, by the brightness of the image
        bright = x.flatten(1).mean(1) > 0.5
        return (
            torch.where(bright[:, None], torch.tensor([0.0, 0.01, -9.0]), torch.tensor([1.0, 0.99, 0.99])) + 0 * x.sum()
        )

    x, y = torch.full((1, 1, 2, 2), 0.4), torch.tensor([0])
    for attacks in ((Shift(0.0), Shift(0.2)), (Shift(0.2), Shift(0.0))):
        assert torch.allclose(worst_of(*attacks)(model, x, y), x + 0.2)


def test_worst_of_counts_nan_as_won():
    def model(x):
        return torch.where(x.flatten(1).mean(1, keepdim=True) > 0.5, math.nan, torch.tensor([[1.0, 0.0]]))

    x, y = torch.full((1, 1, 2, 2), 0.4), torch.tensor([0])
    assert torch.allclose(worst_of(Shift(0.0), Shift(0.2), Shift(0.0))(model, x, y), x + 0.2)


def test_worst_of_collects_what_its_attacks_tell():
    x, y = images(6), torch.zeros(6).long()
    outcome = worst_of(PGD(Linf(0.1), restarts=2), fgsm(L2(0.5))).run(class_scores, x, y)
    assert outcome.fooled.shape == (3, 6)
    assert outcome.stuck.shape == (6,)
    assert worst_of(Shift(0.0), Shift(0.1)).run(class_scores, x, y).stuck is None


def test_worst_of_keeps_the_alarm_of_a_member_that_met_no_gradient():
    """Beside an attack that asks for no gradient and beside one that moves; of restarts, one that moves is enough."""
    x, y = images(6), torch.zeros(6).long()
    dead = PGD(Linf(0.1), 2, gain=lambda z, y: 0 * z.sum(1))
    assert worst_of(dead, Shift(0.1)).run(class_scores, x, y).stuck.all()
    assert worst_of(dead, PGD(Linf(0.1), 2)).run(class_scores, x, y).stuck.all()
    assert restarted(dead, 2).run(class_scores, x, y).stuck.all()
    assert not restarted(PGD(Linf(0.1), 2), 2).run(class_scores, x, y).stuck.any()


@pytest.mark.parametrize(
    "attack",
    [
        worst_of(PGD(Linf(0.1)), PGD(Linf(0.1), restarts=2)),
        restarted(PGD(Linf(0.1)), 3),
        finite_differences(PGD(Linf(0.1), restarts=3), 0.2, seed=4),
        on_fraction(PGD(Linf(0.1)), 0.25),
        in_turn(PGD(Linf(0.1)), PGD(Linf(0.1))),
    ],
    ids=lambda attack: type(attack).__name__,
)
def test_all_of_them_pass_on(attack):
    """Scaled and brief ask the parts and change nothing else; in evaluation all keep the best."""
    assert [part.threat.ball.eps for part in attack.scaled(0.5).parts] == [0.05] * len(attack.parts)
    assert attack.scaled(0.5).scaled(2.0) == attack
    brief = attack.brief()
    assert all(part.steps == 1 for part in getattr(brief, "parts", [brief]))
    thorough = attack.thorough()
    assert all(part.keep == "best" for part in getattr(thorough, "parts", [thorough]))
    assert attack.restarts == (1 if isinstance(attack, OnFraction | InTurn) else 3)


def test_worst_of_wants_attacks():
    with pytest.raises(ValueError, match="at least one attack, but got none"):
        worst_of()
    with pytest.raises(TypeError, match=r"`attacks\[0\]` to be an attack"):
        worst_of(Linf(0.1))


def test_worst_of_passes_the_code_and_the_key():
    seen = []

    def spy(model, x, y, *, code, key):
        seen.append((code, key))
        return x

    x, y, _ = batch()
    worst_of(spy, spy)(net(), x, y, code=x, key=3)
    assert all(torch.equal(code, x) and key == 3 for code, key in seen)


def test_restarted_runs_with_different_keys_and_keeps_the_worst():
    x, y = images(16), torch.zeros(16).long()
    keys = []

    def noise(model, x, y, key):
        keys.append(key)
        return (x + 0.2 * (torch.rand_like(x) - 0.5)).clamp(0, 1)

    outcome = restarted(noise, 4).run(class_scores, x, y, Context(key=1))
    assert len(set(keys)) == 4
    assert outcome.fooled.shape == (4, 16)
    single = restarted(noise, 1)(class_scores, x, y, key=1)
    value = torch.nn.functional.cross_entropy
    more, less = (value(class_scores(v), y, reduction="none") for v in (outcome.x_adv, single))
    assert (more >= less).all()
    assert (more > less).any()


@pytest.mark.parametrize(("n", "fraction", "rows"), [(4, 0.25, 1), (4, 0.5, 2), (5, 0.5, 3), (3, 0.1, 0), (7, 1.0, 7)])
def test_on_fraction_attacks_the_last_samples(n, fraction, rows):
    x, y, code = batch("latent_tuple", n)
    seen = []

    def spy(model, x, y, *, code):
        seen.append((len(x), len(y), *map(len, code)))
        return x + 1

    assert attacked_rows(n, fraction) == rows
    x_adv = on_fraction(spy, fraction)(net(), x, y, code=code)
    assert torch.equal(x_adv[: n - rows], x[: n - rows])
    assert torch.equal(x_adv[n - rows :], x[n - rows :] + 1)
    assert seen == ([(rows,) * 4] if rows else [])


class Code(NamedTuple):
    z: torch.Tensor
    font: torch.Tensor


@pytest.mark.parametrize(
    "make", [lambda z: z, lambda z: (z, z), lambda z: Code(z, z), lambda z: None], ids=["z", "tuple", "named", "none"]
)
def test_on_fraction_cuts_the_code_of_every_form(make):
    x, y, _ = batch()
    seen = []

    def spy(model, x, y, *, code):
        seen.append(code)
        return x

    code = make(torch.arange(6.0)[:, None])
    on_fraction(spy, 0.5)(net(), x, y, code=code)
    assert type(seen[0]) is type(code)
    for z in seen[0] if isinstance(code, tuple) else [seen[0]]:
        assert z is None or torch.equal(z, torch.tensor([[3.0], [4.0], [5.0]]))


@pytest.mark.parametrize("fraction", [0, 1.1])
def test_on_fraction_refuses_what_is_no_share(fraction):
    with pytest.raises(ValueError, match=r"`fraction` to be a number in \(0, 1\], but got"):
        on_fraction(PGD(Linf(0.1)), fraction)


def test_on_fraction_passes_on():
    attack = on_fraction(PGD(Linf(0.1)), 0.25)
    assert attack.thorough() == PGD(
        Linf(0.1), gain=margin, keep="best"
    )  # a sample that is not attacked must not count as robust


@pytest.mark.parametrize("shares", [(3, 3), (2, 3), (0, 1), (2, 2, 2), (2, 2, 3), (0, 1, 1)])
def test_in_turn_gives_each_part_to_its_attack(shares):
    x, y, code = batch("latent_tuple", sum(shares))
    seen = []

    def spy(number):
        def attack(model, x, y, *, code, key):
            seen.append((number, len(x), len(y), *map(len, code), key))
            return x + number

        return attack

    x_adv = in_turn(*map(spy, range(1, 1 + len(shares))))(net(), x, y, code=code, key=7)
    numbers = torch.tensor([number for number, share in enumerate(shares, 1) for _ in range(share)])
    torch.testing.assert_close(x_adv, x + numbers[:, None, None, None])
    assert seen == [(number, *[share] * 4, 7) for number, share in enumerate(shares, 1) if share]


def test_in_turn_each_sample_fares_as_under_its_attack():
    model, (x, y, code) = net().double(), batch("latent_tuple", 7, dtype=torch.float64)
    off, on = PGD(threat_of("Linf", "pixels"), 3), PGD(threat_of("L2", "latent_tuple"), 3)
    outcome = in_turn(off, on).run(model, x, y, Context(code))
    torch.testing.assert_close(outcome.x_adv[:3], off(model, x, y)[:3])
    torch.testing.assert_close(outcome.x_adv[3:], on(model, x, y, code=code)[3:])
    assert outcome.stuck.shape == (7,)
    # Who does not tell leaves the alarm of the others alone.
    dead = PGD(Linf(0.1), 2)
    outcome = in_turn(Shift(0.1), dead).run(lambda x: class_scores(x) + 0 * x.flatten(1)[:, :1], 0 * x, y)
    assert outcome.stuck.shape == (7,)
    assert not outcome.stuck[:3].any()
    assert in_turn(Shift(0.1), Shift(0.1)).run(model, x, y).stuck is None


def test_in_turn_in_evaluation_is_the_worst_of_all():
    attack = in_turn(PGD(Linf(0.1)), PGD(L2(0.5)))
    assert attack.thorough() == worst_of(*(PGD(ball, gain=margin, keep="best") for ball in (Linf(0.1), L2(0.5))))
    with pytest.raises(ValueError, match="at least two attacks to take turns, but got 1"):
        in_turn(PGD(Linf(0.1)))
    with pytest.raises(TypeError, match=r"`attacks\[1\]` to be an attack"):
        in_turn(PGD(Linf(0.1)), Linf(0.1))
    with pytest.raises(ValueError, match=r"Expected images in \[0, 1\]"):
        in_turn(Shift(0.1), PGD(Linf(0.1)))(class_scores, 255 * images(4), torch.zeros(4).long())


@pytest.mark.parametrize("attack", [worst_of(Shift(0.0), Shift(0.1)), restarted(Shift(0.0), 2)], ids=["worst", "again"])
def test_what_is_no_logits_is_refused_where_no_attack_asks_the_model(attack):
    x, y = images(4), torch.zeros(4).long()
    for model, error, message in (
        (lambda x: {"logits": x}, TypeError, "to return logits"),
        (
            lambda x: x.flatten(1)[:, 0],
            ValueError,
            r"for the worst of .* one logit. .*correct=binary_correct",
        ),
        (lambda x: x.flatten(1)[:3], ValueError, r"logits of shape \(N, K\)"),
    ):
        with pytest.raises(error, match=message):
            attack(model, x, y)
    with pytest.raises(ValueError, match="less than the number of classes, 5, but got 9"):
        attack(class_scores, x, y + 9)
