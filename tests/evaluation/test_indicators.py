"""Indicators: the zoo of masked and honest networks, closed forms of what is measured, and what is refused."""

import pytest
import torch

from lightning_robust.attacks import (
    PGD,
    RandomSearch,
    margin,
)
from lightning_robust.attacks.attack import Context
from lightning_robust.attacks.labels import judged
from lightning_robust.evaluation import indicators
from lightning_robust.evaluation._indicator import KINDS
from tests.evaluation import zoo

QUERIES = 50
POINTS = 0.05


@pytest.fixture(scope="module")
def networks():
    return zoo.seeded(0, zoo.network), zoo.seeded(1, zoo.network)


@pytest.fixture(scope="module")
def truth(networks):
    """The robust accuracy of the bare network."""
    _, _, x, y = zoo.digits()
    net = networks[0]
    attack = PGD(zoo.THREAT, steps=50, restarts=3, gain=margin, keep="best")
    return float(right(net, attack(net, x, y), y).double().mean())


def right(model, x, y, correct=None):
    with torch.no_grad():
        return judged(correct, model(x.clone()), y)


def evaluated(model, gain=margin, correct=None):
    """The robust accuracy under 20 steps of PGD, and the names of what is flagged."""
    _, _, x, y = zoo.digits()
    found = indicators.probe(model, x, y, zoo.THREAT, gain=gain, correct=correct)
    attack = PGD(zoo.THREAT, steps=20, gain=gain, keep="best")
    outcome = attack.run(model, x, y, Context(correct=correct))
    clean = right(model, x, y, correct)
    withstood = clean & right(model, outcome.x_adv, y, correct)
    rows = withstood.nonzero().flatten()
    found += indicators.from_signs(outcome.signs.take(rows), len(x))
    found += indicators.radius_used(zoo.THREAT.ball.norm(outcome.delta[rows]), zoo.EPS)
    found += indicators.unbounded(model, x, y, zoo.THREAT, gain=gain, correct=correct)
    if len(rows):
        searched = RandomSearch(zoo.THREAT, QUERIES)(model, x[rows], y[rows], correct=correct)
        broken = int((~right(model, searched, y[rows], correct)).sum())
        found.append(indicators.search_beats_gradients(int((clean & ~withstood).sum()), broken, len(x)))
    return float(withstood.double().mean()), {one.name for one in found if one.flagged}


# -------------------------------------------------------------------------------------------------- the zoo


@pytest.mark.parametrize("name", zoo.MASKS)
def test_a_mask_that_inflates_is_flagged_by_what_is_meant_for_it(name, networks, truth):
    mask = zoo.MASKS[name]
    model, meant = mask.make(*networks), set(mask.meant.split())
    assert meant - {"refused"} <= KINDS.keys()
    if "refused" in meant:
        with pytest.raises(RuntimeError, match="differentiably"):
            evaluated(model, mask.gain, mask.correct)
        return
    accuracy, flagged = evaluated(model, mask.gain, mask.correct)
    assert flagged & meant or accuracy <= truth + POINTS, (accuracy, truth, flagged)
    assert (accuracy > truth + POINTS) == mask.inflates, (accuracy, truth)


@pytest.mark.parametrize("name", zoo.HONEST)
def test_no_honest_network_is_flagged(name, networks):
    _, flagged = evaluated(zoo.HONEST[name].make(networks[0]))
    assert not flagged
