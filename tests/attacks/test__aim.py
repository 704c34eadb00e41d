"""What gains ask for."""

from dataclasses import dataclass

import pytest

from lightning_robust.attacks import (
    Anchored,
    binary_margin,
    confident_margin,
    cross_entropy,
    dense,
    divergence,
    dlr,
    log_odds,
    margin,
    normalized,
    of_classes,
    runner_up,
    targeted,
    targeted_binary,
    targeted_dlr,
    targeted_margin,
)
from lightning_robust.attacks._aim import aim_of, targets_among
from lightning_robust.evaluation import standard
from tests.evaluation import zoo

ANOTHER = (log_odds, cross_entropy, margin, dlr, confident_margin(3.0), normalized(log_odds), divergence)
TARGET = (targeted_margin(2), targeted_dlr(1), targeted(margin), targeted(cross_entropy, to=3))


@of_classes
def own(logits, y):
    return -margin(logits, y)


@dataclass
class To:
    """A target that cannot be hashed."""

    place: int

    def __call__(self, logits, y):
        return y * 0 + self.place


def test_what_gains_of_this_package_ask_for_is_known_and_of_no_others():
    assert [aim_of(gain) for gain in ANOTHER] == ["another"] * len(ANOTHER)
    assert [aim_of(gain) for gain in TARGET] == ["target"] * len(TARGET)
    others = (
        own,
        Anchored(own, runner_up),
        binary_margin,
        targeted_binary(1),
        dense(margin),
        lambda z, y: margin(z, y),
    )
    assert [aim_of(gain) for gain in others] == [None] * len(others)


def test_all_of_the_standard_is_known():
    for attack in standard(zoo.THREAT).attacks.values():
        gains = getattr(attack, "gain", ())
        assert None not in map(aim_of, gains if isinstance(gains, tuple) else (gains,))


@pytest.mark.parametrize(
    ("gains", "number"),
    [
        ([targeted_margin(9)], 0),
        ([targeted_margin(1), targeted_margin(1), targeted_dlr(2), targeted_margin(4)], 2),
        ([targeted(margin, to=1), targeted(log_odds, to=1), targeted(margin, to=2)], 2),
        ([targeted(margin, To(1)), targeted(margin, To(1)), targeted_margin(1)], 2),
        ([targeted_margin(1), margin], None),
        ([None], None),
    ],
)
def test_targets_are_counted_once_and_of_the_nearest_without_a_gap(gains, number):
    assert targets_among(gains) == number
