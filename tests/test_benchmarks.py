"""The comparison of verdicts: its measures, its counts, and all judges on a model whose answer is known."""

import pytest
import torch
from torch import nn

from benchmarks.evaluation.oracles import Counted, _broken, adv_lib, autoattack
from benchmarks.evaluation.ours import linear
from benchmarks.evaluation.radii import optimality
from benchmarks.evaluation.tables import Verdict, curves, differences, linear_models, optimalities, verdicts
from benchmarks.memory_and_data import peak
from lightning_robust import evaluate
from lightning_robust.attacks import PGD, Linf, margin
from lightning_robust.evaluation import standard


def test_optimality_is_the_share_of_the_area_between_the_clean_and_the_best_curve():
    best = torch.tensor([0.1, 0.2, 0.4, 9.0])
    clean = torch.tensor([True, True, True, False])
    assert optimality(best, best, clean) == 1
    assert optimality(torch.full((4,), torch.inf), best, clean) == 0
    assert optimality(torch.tensor([0.2, 0.2, 0.5, 0.0]), best, clean) == pytest.approx((0.2 + 0.2) / (0.3 + 0.2))


def test_the_peak_is_what_is_held_at_one_time():
    def work():
        one = torch.ones(2**18)
        two = one + 1
        del one
        return two + torch.ones(2**18)

    assert 3 * 2**20 <= peak(work) < 3.1 * 2**20


def test_passes_are_counted_inside_and_outside_of_attacks():
    counted, x, y = Counted(nn.Linear(3, 2)), torch.rand(5, 3), torch.zeros(5, dtype=torch.int64)
    loss = counted(x.requires_grad_()).square().sum()
    assert counted.passes == 5
    torch.autograd.grad(loss, x)
    assert counted.passes == 10
    PGD(Linf(0.1), steps=4, gain=margin)(counted, x.detach(), y)
    assert counted.passes == 10 + 2 * 4 * 5


@pytest.mark.parametrize("classes", [4, 10])
def test_all_judges_agree_with_the_exact_verdict_on_a_linear_model(classes):
    pytest.importorskip("pyautoattack")
    pytest.importorskip("adv_lib")
    model, x, y, radius = linear(classes, 40, 0)
    ball = Linf(float(radius.sort().values[19:21].mean()))
    exact = radius > ball.radius
    judges = [adv_lib, autoattack] if classes > 9 else [adv_lib]  # AutoAttack takes nine targets
    for judge in judges:
        attacks = {"apgd-t": judge("Linf", ball.radius, 0)["apgd-t"]}
        right, found = _broken(Counted(model), x, y, attacks, ball)
        assert right.all()
        assert [not name for name in found["by"]] == exact.tolist()
        assert found["passes"]["apgd-t"] > 0
    assert torch.equal(evaluate(model, (x, y), standard(ball), progress=False).robust, exact)


def test_tables():
    name = "fonts TRADES"
    ours = [
        {
            "model": name,
            "radii": False,
            "image": i,
            "clean": i < 3,
            "attack": "",
            "radius": -1.0,
            "counted": 50.0,
        }
        for i in range(4)
    ]
    oracles = [
        {"model": name, "oracle": oracle, "image": i, "clean": i < 3, "attack": "apgd-ce" if i == 1 else ""}
        for oracle in ("autoattack", "adv-lib")
        for i in range(4)
    ] + [
        {"model": name, "oracle": oracle, "image": -1, "attack": "apgd-ce", "passes": 400}
        for oracle in ("autoattack", "adv-lib")
    ]
    own = [{**row, "passes": 10 * row["image"]} for row in ours]
    assert Verdict(own).total == 200
    assert Verdict(own).only({0, 1}).total == 10 + 0.5 * (200 - 60)
    assert Verdict(oracles[-2:-1] + oracles[:4]).only({0, 1}).total == 200
    table = verdicts(ours, oracles)
    assert "| fonts TRADES, Linf 0.1 | 4 | 75.0 |" in table
    assert "| 1 / 0 | 1 / 0 | 100 | 100 | 50 | 50 | 50 |" in table
    assert "| fonts TRADES | 1 | autoattack | apgd-ce |" in differences(ours, oracles)
    assert differences(ours[:1], oracles) == "None.\n"
    row = {"classes": 3, "scale": 1.0, "count": 10, "robust": 4, "exact": 3, "agree": 9, "passes": 7.0}
    assert "| 3 | 10 | 30.0 | 1: +1 | 1 | 7 |" in linear_models([row])
    others = [
        {"model": name, "attack": attack, "image": i, "radius": radius, "passes": 2000.0}
        for attack, radius in (("a", 0.1), ("b", 0.2))
        for i in range(2)
    ]
    others[0]["radius"] = 0.3
    assert "| fonts TRADES | a | 2 | 1.000 | 1 | 2,000 |" in optimalities([], others)
    assert "| fonts TRADES | b | 2 | 0.000 | 1 | 2,000 |" in optimalities([], others)
    with_radii = [{**row, "radii": True, "radius": 0.05, "counted": 20.0} for row in ours]
    fixed = [{"model": name, "fraction": 0.2, "count": 4, "robust": 3, "passes": 10.0}]
    for own in (with_radii, with_radii + with_radii[:2]):  # two cells with the same images
        assert "| fonts TRADES | 0.02 | 4 | 75.0 | 75.0 [30.1, 95.4] | yes | 20 / 10 |" in curves(own, fixed)
