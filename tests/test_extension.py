"""A ball, a space, a gain, a rule and a manifold are written without touching the package, and lose nothing by it.

Those of `tests/outsider.py` are in the lists that `tests/test_laws.py` and `tests/attacks` run over. Here: they are
written with public names alone, no law leaves them out, and they reach the optimum.
"""

import ast
from pathlib import Path

import pytest
import torch
from torch import nn

import lightning_robust.attacks as attacks
from lightning_robust.attacks import PGD, GridSearch, LatentSpace, RandomSearch, Threat, margin, worst_of
from tests import helpers, outsider, test_laws
from tests.helpers import BALLS, SHAPE, Linear, batch, images, threat_of


def test_they_are_written_with_public_names():
    tree = ast.parse(Path(outsider.__file__).read_text("utf-8"))
    imported = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    ours = [node for node in imported if (getattr(node, "module", None) or "").startswith("lightning_robust")]
    assert [node.module for node in ours] == ["lightning_robust.attacks"]
    assert {alias.name for alias in ours[0].names} <= set(attacks.__all__)
    read = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    assert {name for name in read if name.startswith("_")} <= {"_parts"}, "its own method"


@pytest.mark.parametrize("law", [name for name in vars(test_laws) if name.startswith("test_")])
def test_no_law_leaves_them_out(law):
    marks = {
        m.args[0]: m.args[1] for m in getattr(getattr(test_laws, law), "pytestmark", []) if m.name == "parametrize"
    }
    cases = set(marks.get("name", ()))
    if cases >= {"fgsm", "latent-L2"}:
        assert cases >= {"pixels-Halves", "directions-Linf", "line-L2", "gain_mean_gap", "halving"}
    elif "latent-L2" in cases:
        assert cases >= {"directions-Halves", "line-L2"}
    if set(marks.get("ball", ())) >= {"Linf", "L2", "L1", "Box"}:
        assert "Halves" in marks["ball"]
    if "margin" in (gains := set(marks.get("gain", ()))) and len(gains) > 3:
        assert "mean_gap" in gains


@pytest.mark.parametrize("ball", BALLS)
def test_the_rule_reaches_the_optimum_of_a_linear_model(ball):
    """Half a step, back to the best: in every ball, with and without a random start."""
    x, w, y = 0.5 + 0.01 * images(16), torch.randn(SHAPE), torch.zeros(16).long()
    best = 0.1 * BALLS[ball].dual(w[None])
    for start in (True, False):
        attack = PGD(threat_of(ball, "pixels"), steps=40, rule=outsider.Halving(), random_start=start, keep="best")
        reached = ((attack(Linear(w), x, y) - x) * w).flatten(1).sum(1)
        assert (reached <= best * (1 + 1e-6)).all()
        assert (reached / best).min() > 0.999


@pytest.mark.parametrize("space", ["directions", "line"])
def test_attacks_without_gradients_take_them_too(space):
    """In a space of few dimensions a grid and random points come close to the optimum, in a ball of one's own."""
    (x, _, code), y, threat = batch(space, 8), torch.zeros(8).long(), threat_of("Halves", space)
    linear = Linear(torch.randn(SHAPE))

    def model(x):
        return linear(x) + torch.tensor([100.0, 0.0])  # far from every boundary

    chart = threat.space.chart(x, y, code)
    start = margin(model(chart.decode(chart.zero)), y)
    exact = margin(model(PGD(threat, 40, rel_step_size=0.25)(model, x, y, code=code)), y)
    for attack in (GridSearch(threat, points=5), RandomSearch(threat, 300)):
        reached = margin(model(attack(model, x, y, code=code)), y)
        assert ((reached - start) / (exact - start)).min() > 0.7, attack


def test_the_network_of_a_space_is_left_as_it_was_and_does_not_mix_samples():
    x, y, _ = batch("directions", 6)
    space, model = outsider.Directions(4, SHAPE[0] * SHAPE[1] * SHAPE[2]), helpers.net()
    attack = PGD(Threat(attacks.Linf(0.5), space), steps=3)
    with helpers.unchanged(model, space.net):
        whole = attack(model, x, y)
    torch.testing.assert_close(attack(model, x[:2], y[:2]), whole[:2])
    assert space.net[1].num_batches_tracked == 0
    assert space.net.training


def test_a_union_of_ours_and_theirs():
    x, y, _ = batch("pixels", 6)
    listed, own = PGD(threat_of("Linf", "pixels")), PGD(threat_of("Halves", "pixels"), gain=outsider.mean_gap)
    along = PGD(Threat(attacks.Linf(0.5), LatentSpace(outsider.Line(SHAPE))), rule=outsider.Halving())
    x_adv = worst_of(listed, own, along).thorough()(nn.Sequential(nn.Flatten(), nn.Linear(108, 5)), x, y)
    assert x_adv.shape == x.shape
    assert not torch.equal(x_adv, x)
