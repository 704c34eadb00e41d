from dataclasses import replace
from types import MappingProxyType, SimpleNamespace

import jsonargparse
import pytest

from lightning_robust import PGD, Linf, RobustEvaluation
from lightning_robust.attacks import worst_of
from lightning_robust.evaluation._plan import Plan, is_plan, stages_of

ATTACK = PGD(Linf(0.1), keep="last")


class OwnPlan:
    """A class that knows nothing of this package."""

    @property
    def attacks(self):
        return MappingProxyType({"strong": ATTACK, "weak": lambda model, x, y: x})


class NamedPlan(Plan):
    """For configuration files."""

    def __init__(self, eps: float = 0.1):
        self.eps = eps

    @property
    def attacks(self):
        return {"strong": replace(ATTACK, threat=Linf(self.eps)), "weak": ATTACK}


def test_a_configuration_names_a_plan():
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(RobustEvaluation, "evaluation")
    plan = {"class_path": f"{__name__}.NamedPlan", "init_args": {"eps": 0.25}}
    evaluation = parser.instantiate_classes(parser.parse_object({"evaluation": {"attacks": plan}})).evaluation
    assert evaluation.attacks["strong"].threat.ball.eps == 0.25


@pytest.mark.parametrize("plan", [OwnPlan(), NamedPlan(), SimpleNamespace(attacks={"strong": ATTACK, "weak": ATTACK})])
def test_whatever_has_a_mapping_of_attacks_is_a_plan(plan):
    assert is_plan(plan)
    stages = stages_of(plan)
    assert list(stages) == ["strong", "weak"]
    assert stages["strong"].attack.keep == "best"


@pytest.mark.parametrize("other", [ATTACK, worst_of(ATTACK), {"a": ATTACK}, OwnPlan, SimpleNamespace(attacks=[ATTACK])])
def test_other_things_are_none(other):
    assert not is_plan(other)


def test_one_attack_has_no_name_and_all_are_thorough():
    last = worst_of(ATTACK, ATTACK)
    assert [attack.keep for attack in stages_of(last)[""].attack.attacks] == ["best", "best"]
    assert ATTACK.keep == "last"
    assert stages_of({"b": ATTACK, "a": ATTACK}).keys() == {"a": 1, "b": 2}.keys()


@pytest.mark.parametrize(
    ("attacks", "error", "message"),
    [
        ({}, ValueError, "`attacks` to hold at least one attack"),
        (SimpleNamespace(attacks={}), ValueError, "`attacks` to hold at least one attack"),
        (3, TypeError, r"`attacks` to be an attack, a callable \(model, x, y\) -> x_adv .*3"),
        (OwnPlan, TypeError, "OwnPlan is a class"),
        ({3: ATTACK}, TypeError, "`attacks` to have names .* got 3"),
        ({"": ATTACK}, TypeError, "`attacks` to have names .* got ''"),
        ({"a": 3}, TypeError, r"`attacks\['a'\]` to be an attack"),
    ],
)
def test_what_cannot_be_meant_is_refused(attacks, error, message):
    with pytest.raises(error, match=message):
        stages_of(attacks)


def test_names_whose_results_would_collide_are_refused():
    with pytest.raises(ValueError, match=r"no attack of the name 'worst_x' beside 'x'"):
        stages_of({"x": PGD(Linf(0.1), 1), "worst_x": PGD(Linf(0.2), 1)})
    assert list(stages_of({"y": PGD(Linf(0.1), 1), "worst_x": PGD(Linf(0.2), 1)})) == ["y", "worst_x"]
