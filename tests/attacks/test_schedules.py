import math
import pickle

import pytest

from lightning_robust.attacks import L2, PGD, Linf, WarmUp, fgsm, on_fraction, worst_of


@pytest.mark.parametrize(("epoch", "share"), [(0, 0.0), (0.5, 0.125), (1, 0.25), (3.9, 0.975), (4, 1.0), (100, 1.0)])
def test_the_radius_grows_linearly(epoch, share):
    attack = PGD(Linf(0.3))
    assert WarmUp(4)(attack, epoch).threat.ball.eps == pytest.approx(0.3 * share)
    assert WarmUp(4, start=0.5)(attack, epoch).threat.ball.eps == pytest.approx(0.3 * (0.5 + 0.5 * share))


def test_nothing_else_changes():
    attack = PGD(Linf(0.3), steps=7, seed=3)
    assert WarmUp(4)(attack, 4) is attack
    assert WarmUp(4)(attack, 2) == PGD(Linf(0.15), steps=7, seed=3)


def test_combinators_are_scaled_too():
    attack = on_fraction(worst_of(PGD(Linf(0.3)), fgsm(L2(1.0))), 0.5)
    radii = [a.threat.ball.radius for a in WarmUp(2)(attack, 1).attack.attacks]
    assert radii == [0.15, 0.5]


@pytest.mark.parametrize("epochs", [0, -1, math.nan])
def test_wrong_epochs(epochs):
    with pytest.raises(ValueError, match=rf"`epochs` to be positive, but got {epochs}"):
        WarmUp(epochs)


@pytest.mark.parametrize("start", [-0.1, 1.1, math.nan])
def test_wrong_start(start):
    with pytest.raises(ValueError, match=r"`start` to be in \[0, 1\], but got"):
        WarmUp(2, start)


def test_pickles():
    assert pickle.loads(pickle.dumps(WarmUp(3, 0.1))) == WarmUp(3, 0.1)
