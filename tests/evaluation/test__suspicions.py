"""What used to pass in silence: results, inputs and models that cannot be meant."""

import math
from contextlib import nullcontext

import pytest
import torch
from scipy.stats import binom
from torch import nn

from lightning_robust.attacks import (
    L1,
    L2,
    PGD,
    AffineSpace,
    Attack,
    Box,
    LatentSpace,
    Linf,
    PixelSpace,
    Threat,
    worst_of,
)
from lightning_robust.attacks.attack import NO_CONTEXT, Outcome, as_attack
from lightning_robust.evaluation._suspicions import (
    Suspicions,
    check_result,
    constant,
    declared,
    guesses,
    surer_of,
    texts,
)
from lightning_robust.interop import from_torchattacks

CPU = torch.device("cpu")


def images(n=12, side=4, seed=0):
    return torch.rand(n, 1, side, side, generator=torch.Generator().manual_seed(seed))


class Moves(Attack):
    """Adds a number to every pixel, and claims to stay in a threat."""

    def __init__(self, by, threat=None):
        self.by, self.threat = by, threat

    def run(self, model, x, y, context=NO_CONTEXT):
        return Outcome(x + self.by)


def checked(attack, x, outcome=None, name="a"):
    y = torch.zeros(len(x)).long()
    check_result(name, attack, x, y, attack.run(None, x, y) if outcome is None else outcome, NO_CONTEXT)


# Results of attacks


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize(
    "threat",
    [
        Linf(8 / 255),
        L2(0.5),
        L1(2.0),
        Box(torch.full((1, 4, 4), 0.1)),
        Threat(Linf(8.0), PixelSpace(0, 255)),
        Threat(Linf(8 / 255), PixelSpace(mean=0.45, std=0.22)),
        Threat(L2(20.0), PixelSpace(0, 255, mean=120.0, std=60.0)),
        Linf(torch.linspace(0.0, 0.2, 12)),
    ],
    ids=str,
)
def test_what_our_attacks_return_is_admitted_in_every_type(threat, dtype):
    space = threat.space if isinstance(threat, Threat) else PixelSpace()
    x = images() * (space.high - space.low) + space.low
    x[:2], x[2:4] = space.low, space.high
    x = x if space.mean is None else (x - space.mean) / space.std
    x, y = x.to(dtype), torch.arange(12) % 3
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).to(dtype)
    attack = PGD(threat, 3, restarts=2)
    check_result("a", attack, x, y, attack.run(net, x, y), NO_CONTEXT)
    if dtype == torch.float32:  # and twice the radius is not, where there is any
        wide = attack.scaled(2.0).run(net, x, y)
        with pytest.raises(ValueError, match="`a` to stay in the set"):
            check_result("a", attack, x, y, wide, NO_CONTEXT)


def test_a_result_by_hand_may_be_rounded():
    """x + delta leaves the ball by the rounding of a sum; one part in a hundred more is refused."""
    x = images(200) * 0.9 + 0.05
    for eps in (1e-4, 8 / 255):
        checked(Moves(eps, Linf(eps)), x)
        checked(Moves(eps, Linf(eps)), x.bfloat16())
        with pytest.raises(ValueError, match=r"`a` to stay in .*Linf\(eps=.*200 of 200 .* norm of"):
            checked(Moves(1.01 * eps + 1e-6, Linf(eps)), x)


@pytest.mark.parametrize(("dtype", "units"), [(torch.float32, 4), (torch.float16, 1), (torch.bfloat16, 1)])
def test_so_much_rounding_is_forgiven(dtype, units):
    """Units of eps |x|: just beyond 0.5 that is how far a number of the type is from the next, nearly."""
    x, radius, step = torch.full((2, 1, 2, 2), 0.5, dtype=dtype), 1 / 64, torch.finfo(dtype).eps / 2
    checked(Moves(radius + units * step, Linf(radius)), x)
    with pytest.raises(ValueError, match="to stay in"):
        checked(Moves(radius + (units + 1) * step, Linf(radius)), x)


def test_the_range_of_images_is_part_of_the_set():
    with pytest.raises(ValueError, match="to stay in"):
        checked(Moves(0.1, Linf(0.2)), torch.full((3, 1, 2, 2), 0.95))


@pytest.mark.parametrize(
    ("x_adv", "text"),
    [
        (torch.zeros(3, 1, 4, 4), r"`a` to return inputs of shape \(12, 1, 4, 4\), but got \(3, 1, 4, 4\)"),
        (None, "but got NoneType"),
        (images() * math.nan, "`a` to return finite inputs, but 12 of 12"),
        (images() / torch.tensor([0.0] + 11 * [1.0]).reshape(12, 1, 1, 1), "but 1 of 12"),
    ],
)
def test_another_shape_and_what_is_not_finite_are_refused_by_name(x_adv, text):
    for attack in (Moves(0.0), Moves(0.0, Linf(0.1))):
        with pytest.raises(ValueError, match=text):
            checked(attack, images(), Outcome(x_adv))
    with pytest.raises(ValueError, match="Expected the attack to return"):
        checked(attack, images(), Outcome(x_adv), name="")


class Shift(nn.Module):
    bounds = (-1.0, 1.0)

    def encode(self, x, y):
        return torch.zeros(len(x), 2)

    def decode(self, z, y):
        return z.sum(1).reshape(-1, 1, 1, 1).expand(-1, 1, 4, 4) / 10


@pytest.mark.parametrize(("space", "width"), [(LatentSpace(Shift()), 2), (AffineSpace(), 6)])
def test_elsewhere_the_perturbation_is_looked_at(space, width):
    x = images()
    attack = PGD(Threat(Linf(2.0), space), 1)
    for size, fine in ((0.1, True), (1.5, False), (2.5, False)):  # within, outside the bounds, outside the ball
        outcome = Outcome(x, torch.full((12, width), size))
        if fine:
            checked(attack, x, outcome)
        else:
            with pytest.raises(ValueError, match="to stay in"):
                checked(attack, x, outcome)
    checked(attack, x, Outcome(x))  # it does not tell


@pytest.mark.parametrize("radius", [0.5, 2.0])  # within the bounds, which end at 1, and beyond
def test_codes_may_be_rounded_by_a_ten_thousandth(radius):
    x, attack = images(), PGD(Threat(Linf(radius), LatentSpace(Shift())), 1)
    checked(attack, x, Outcome(x, torch.full((12, 2), min(radius, 1.0) * (1 + 9e-5))))
    with pytest.raises(ValueError, match="to stay in"):
        checked(attack, x, Outcome(x, torch.full((12, 2), min(radius, 1.0) * (1 + 1.1e-4))))


def test_a_union_is_held_to_one_of_its_sets():
    union = worst_of(PGD(Linf(0.1)), PGD(L2(1.0)))
    assert len(declared(union)) == 2
    x = torch.full((4, 1, 4, 4), 0.5)
    checked(union, x, Outcome(x + 0.1))
    checked(union, x, Outcome(x + 0.2))  # in L2
    with pytest.raises(ValueError, match=r"Linf\(.* or .*L2\("):
        checked(union, x, Outcome(x + 0.3))
    assert declared(worst_of(PGD(Linf(0.1)), lambda m, x, y: x)) is None


# Over an evaluation


def looked_at(attacks, batches, settled=True):
    """Suspicions after batches of (x, y, output, x_adv by attack, output under attack)."""
    attacks = {name: as_attack(attack) for name, attack in attacks.items()}
    suspicions = Suspicions(attacks, CPU, settled=settled)
    for x, y, output, results in batches:
        right, mask = output.argmax(1) == y, torch.ones(len(x), dtype=torch.bool)
        suspicions.inputs(x, y)
        suspicions.clean(x, y, output, right, mask)
        for name, (x_adv, attacked) in results.items():
            given = {"right": right, "mask": mask, "outputs": (output, attacked)}
            suspicions.result(name, x, y, Outcome(x_adv), NO_CONTEXT, **given)
    return suspicions.doubts, texts(suspicions.counts.tolist(), attacks, settled=settled)


def one_hot(y, classes=4, size=1.0):
    return size * nn.functional.one_hot(y, classes).float()


def test_an_attack_that_returns_the_clean_input_is_reported():
    x, y = images(), torch.arange(12) % 4
    attacks = {"same": Moves(0.0, Linf(0.1)), "moves": Moves(0.0, Linf(0.1)), "none": Moves(0.0, Linf(0.0))}
    one = x.clone()
    one[3] = (one[3] - 0.05).clamp(min=0)
    output = one_hot(y)
    doubts, said = looked_at(
        attacks, [(x, y, output, {"same": (x, output), "moves": (one, output), "none": (x, output)})]
    )
    assert not doubts
    (text,) = said
    assert "under `same` is the clean accuracy" in text
    assert "all 12 samples" in text


def test_a_function_without_a_declared_set_is_reported_once():
    x, y = images(), torch.arange(12) % 4
    step = {"": (x + 0.25, one_hot(y))}
    doubts, said = looked_at({"": lambda m, x, y: x}, [(x, y, one_hot(y), step)] * 3)
    (text,) = doubts
    assert "The attack declares no perturbation set" in text
    assert "Linf norm of up to 0.25 and an L2 norm of up to 1," in text
    assert not said


@pytest.mark.parametrize(
    ("right", "classes", "doubted"), [(15, 10, True), (0, 10, True), (40, 10, False), (60, 2, True)]
)
def test_chance_accuracy_is_doubted(right, classes, doubted):
    x, y = images(100), torch.arange(100) % classes
    predicted = torch.where(torch.arange(100) < right, y, (y + 1) % classes)
    batches = [(x[rows], y[rows], one_hot(predicted[rows], classes), {}) for rows in (slice(0, 30), slice(30, 100))]
    _, said = looked_at({"a": Moves(0.0)}, batches)
    assert [f"{right} of 100" in text for text in said if "guessing" in text] == [True] * doubted
    assert not looked_at({"a": Moves(0.0)}, batches, settled=False)[1]  # a model in training may guess


@pytest.mark.parametrize(("n", "right", "doubted"), [(49, 5, False), (50, 5, True), (50, 33, True), (50, 34, False)])
def test_chance_accuracy_of_enough_samples(n, right, doubted):
    """Among two classes; of 50 guesses 33 and more are right with a probability of 1.6 %, 34 and more with 0.8 %."""
    x, y = images(n), torch.arange(n) % 2
    batch = (x, y, one_hot(torch.where(torch.arange(n) < right, y, 1 - y), 2), {})
    assert ["guessing" in text for text in looked_at({"a": Moves(0.0)}, [batch])[1]] == [True] * doubted


@pytest.mark.parametrize(("right", "n", "classes"), [(3, 20, 10), (30, 50, 2), (34, 50, 2), (0, 60, 4), (200, 1000, 5)])
def test_the_probability_of_a_guess(right, n, classes):
    chance = binom.sf(right - 1, n, 1 / classes)
    assert guesses(right, n, classes, level=chance * 0.999)
    assert not guesses(right, n, classes, level=chance * 1.001)


def test_a_model_that_answers_the_same_to_all_is_refused():
    x, y = images(16), torch.arange(16) % 4
    same = torch.tensor([[0.1, 0.5, 0.2, 0.0]]).expand(16, 4)
    parts = [slice(0, 3), slice(3, 16)]
    with pytest.raises(ValueError, match=r"output depends on its input.*first 16 samples"):
        looked_at({}, [(x[rows], y[rows], same[rows], {}) for rows in parts])
    looked_at({}, [(x, y, same, {})], settled=False)
    hard = one_hot(y.sort()[0])  # data in the order of its classes, and a model that answers by classes
    looked_at({}, [(x[i : i + 2], y.sort()[0][i : i + 2], hard[i : i + 2], {}) for i in range(0, 16, 2)])


@pytest.mark.parametrize("settled", [True, False])
def test_a_model_that_answers_the_same_to_all_is_counted_where_it_is_not_refused(settled):
    """In several processes: in all of them, of the samples that count."""
    x, y, same = images(16), torch.arange(16) % 4, torch.tensor([[0.1, 0.5, 0.2, 0.0]]).expand(16, 4)

    def doubt(outputs, labels=y, last=16):
        total = torch.zeros(2, dtype=torch.int64)
        for rows in (slice(0, 8), slice(8, 16)):
            suspicions = Suspicions({}, CPU, settled=settled, refuse=False)
            for part in (slice(rows.start, rows.start + 3), slice(rows.start + 3, rows.stop)):
                right, mask = torch.zeros(len(x[part]), dtype=torch.bool), torch.arange(16)[part] < last
                suspicions.clean(x[part], labels[part], outputs[part], right, mask)
            total += suspicions.alike
        return constant(last, *total.tolist())

    assert ["depends on its input" in text for text in doubt(same)] == [True]
    assert "all 15 samples" in doubt(same, last=15)[0]
    assert doubt(same, torch.zeros(16).long()) == doubt(same, last=7) == []
    assert doubt(torch.cat([same[:9], one_hot(y)[9:]])) == []


@pytest.mark.parametrize("factor", [255.0, 1 / 255])
def test_a_later_batch_in_another_range_is_refused(factor):
    x, y = images(16), torch.arange(16) % 4
    later = Suspicions({"a": as_attack(lambda m, x, y: x)}, CPU)
    later.inputs(x[:8], y[:8])
    later.inputs(x[8:9] * 0, y[8:9])  # one black image
    later.inputs(x[8:] * 0.1, y[8:])  # dark ones
    with pytest.raises(ValueError, match="in one range"):
        later.inputs(x[8:] * factor, y[8:])


@pytest.mark.parametrize(("factor", "fine"), [(99, True), (1 / 99, True), (101, False), (1 / 101, False)])
def test_ranges_of_batches_may_differ_by_a_factor_of_a_hundred(factor, fine):
    x = torch.linspace(0, 1, 32).reshape(8, 1, 2, 2)
    suspicions = Suspicions({}, CPU)
    suspicions.inputs(x, None)
    with nullcontext() if fine else pytest.raises(ValueError, match="in one range"):
        suspicions.inputs(x * factor, None)


@pytest.mark.parametrize("ball", [Linf, L2, L1])
@pytest.mark.parametrize("high", [255, 1])
def test_a_radius_in_units_of_another_range_is_doubted(ball, high):
    suspicions = Suspicions({"a": PGD(Threat(ball(8 / 255), PixelSpace(0, high)))}, CPU)
    suspicions.inputs(images() * high, torch.zeros(12).long())
    assert ["does nothing" in text for text in suspicions.doubts] == [True] * (high == 255)


def test_a_radius_beyond_the_range_is_doubted():
    suspicions = Suspicions({"a": PGD(Linf(8.0))}, CPU)
    suspicions.inputs(images(), torch.zeros(12).long())
    assert "covers the whole range" in suspicions.doubts[0]


def test_a_gain_of_the_wrong_sign_is_doubted():
    """The attack makes the model surer of the truth; noise does so for half of the samples, and is not doubted."""
    x, y = images(40), torch.arange(40) % 4
    output, noise = one_hot(y), torch.randn(40, 4, generator=torch.Generator().manual_seed(0)) / 10
    results = {"falls": (x + 0.01, 2 * output), "noise": (x + 0.01, output + noise), "rises": (x + 0.01, output / 2)}
    attacks = {name: Moves(0.01, Threat(Linf(0.1), PixelSpace(-1, 2))) for name in results}
    (text,) = looked_at(attacks, [(x, y, output, results)])[1]
    assert "`falls`" in text
    assert "40 of 40" in text
    assert not surer_of(output, 2 * output, y.float()).any()  # labels of another kind


@pytest.mark.parametrize(("right", "surer", "doubted"), [(19, 19, False), (20, 16, True), (20, 15, False)])
def test_three_quarters_of_twenty_samples_are_surer(right, surer, doubted):
    assert bool(texts([right, right, 4, right, 0, surer, 0, 0], {"a": Moves(0.0)})) == doubted


@pytest.mark.parametrize(("rise", "surer"), [(5e-7, False), (2e-6, True)])
def test_rounding_makes_nothing_surer(rise, surer):
    y = torch.arange(12) % 4
    assert surer_of(one_hot(y), one_hot(y, size=1 + rise), y).tolist() == [surer] * 12


def test_counts_of_several_processes_are_summed():
    x, y = images(40), torch.arange(40) % 4
    attacks = {"a": Moves(0.0, Linf(0.1))}
    counts = torch.zeros(8, dtype=torch.int64)
    for rows, x_adv in ((slice(0, 20), x[:20]), (slice(20, 40), x[20:])):
        suspicions, right = Suspicions(attacks, CPU), torch.ones(20, dtype=torch.bool)
        suspicions.clean(x[rows], y[rows], one_hot(y[rows]), right, right)
        suspicions.result("a", x[rows], y[rows], Outcome(x_adv), NO_CONTEXT, right=right, mask=right)
        counts += suspicions.counts
    assert "all 40 samples" in texts(counts.tolist(), attacks)[0]


def test_a_ball_of_radius_zero_holds_nothing_but_the_clean_input():
    attacks = {name: PGD(Linf(eps), steps=1) for name, eps in (("point", 0.0), ("ball", 0.1))}
    suspicions, x, every = Suspicions(attacks, CPU), images(8), torch.ones(8, dtype=torch.bool)
    for name in attacks:
        outcome = Outcome(x.clone(), torch.zeros_like(x))
        suspicions.result(name, x, torch.arange(8) % 2, outcome, NO_CONTEXT, right=every, mask=every)
    (said,) = (text for text in texts(suspicions.counts.tolist(), attacks) if "returned the clean input" in text)
    assert "`ball`" in said


@pytest.mark.parametrize(("right", "said"), [(1, False), (49, False), (50, True)])
def test_an_attack_that_gives_back_clean_inputs_is_doubted_where_it_breaks_none_of_many(right, said):
    """AutoAttack returns the clean input where it fails: for few samples no wonder, for many it is."""
    torchattacks = pytest.importorskip("torchattacks")
    attack = from_torchattacks(torchattacks.APGD, {"eps": 0.1})
    assert attack.gives_back
    counts = [right, right, 0, right, right, 0, 0, 0]
    assert bool(texts(counts, {"a": attack})) == said
    assert texts(counts, {"a": PGD(Linf(0.1))}), "of our own attacks that leave the input as it is each is one too many"
