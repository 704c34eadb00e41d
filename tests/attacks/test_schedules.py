import pickle

import jsonargparse
import pytest

from lightning_robust.attacks import L2, PGD, Linf, WarmUp, fgsm, on_fraction, worst_of
from lightning_robust.attacks.schedules import Progress, Schedule


def at(epoch, step=0):
    return Progress(epoch=epoch, step=step)


@pytest.mark.parametrize(("done", "share"), [(0, 0.0), (1, 0.125), (2, 0.25), (7, 0.875), (8, 1.0), (100, 1.0)])
def test_the_radius_grows_linearly(done, share):
    """In epochs and in batches alike, four batches to an epoch; the other of the two is not looked at."""
    attack = PGD(Linf(0.3))
    for warm_up, moment in ((WarmUp(2), at(done / 4, 99)), (WarmUp(steps=8), at(None, done))):
        assert warm_up(attack, moment).threat.ball.eps == pytest.approx(0.3 * share)
    half = WarmUp(steps=8, start=0.5)(attack, at(None, done))
    assert half.threat.ball.eps == pytest.approx(0.3 * (0.5 + 0.5 * share))


def test_nothing_else_changes():
    attack = PGD(Linf(0.3), steps=7, seed=3)
    assert WarmUp(4)(attack, at(4.0)) is attack
    assert WarmUp(4)(attack, at(2.0)) == PGD(Linf(0.15), steps=7, seed=3)


def test_combinators_are_scaled_too():
    attack = on_fraction(worst_of(PGD(Linf(0.3)), fgsm(L2(1.0))), 0.5)
    radii = [a.threat.ball.radius for a in WarmUp(2)(attack, at(1.0)).attack.attacks]
    assert radii == [0.15, 0.5]


def test_epochs_of_a_loader_without_length_are_refused_with_the_remedy():
    with pytest.raises(ValueError, match=r"WarmUp\(epochs=2\).*WarmUp\(steps=\.\.\.\)"):
        WarmUp(2)(PGD(Linf(0.3)), at(None, 5))


@pytest.mark.parametrize("arguments", [{}, {"epochs": 2, "steps": 10}])
def test_one_of_epochs_and_steps(arguments):
    with pytest.raises(ValueError, match="exactly one of the arguments `epochs` and `steps`, but got epochs="):
        WarmUp(**arguments)


def test_a_start_is_a_share():
    with pytest.raises(ValueError, match=r"`start` to be a number in \[0, 1\], but got 1.1"):
        WarmUp(2, start=1.1)


def test_pickles():
    assert pickle.loads(pickle.dumps(WarmUp(3, start=0.1))) == WarmUp(3, start=0.1)


def halved(attack, progress):
    return attack.scaled(0.5)


@pytest.mark.parametrize("name", ["WarmUp", "lightning_robust.attacks.WarmUp", "lightning_robust.WarmUp"])
@pytest.mark.parametrize("settings", [{"epochs": 1.5}, {"steps": 3, "start": 0.25}])
def test_configuration_files_know_it_by_its_name(name, settings):
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--schedule", type=Schedule | None)
    config = parser.parse_object({"schedule": {"class_path": name, "init_args": settings}})
    assert parser.instantiate_classes(parser.parse_string(parser.dump(config))).schedule == WarmUp(**settings)
    assert "WarmUp" in parser.format_help()


def test_configuration_files_know_functions_by_their_paths():
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--schedule", type=Schedule | None)
    config = parser.parse_object({"schedule": f"{__name__}.halved"})
    assert parser.instantiate_classes(config).schedule is halved
