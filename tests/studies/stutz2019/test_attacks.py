import pytest
import torch

from lightning_robust import PGD, Linf
from lightning_robust.models import RobustClassifier
from lightning_robust_studies.stutz2019.attacks import (
    Attacked,
    attacked,
    class_rows,
    effort_rows,
    mean_row,
    success_rows,
)

RIGHT = torch.tensor([True, True, True, False, True])
FOOLED = torch.tensor([[True, False, True, True, False], [True, False, False, True, True]])


def _found(**changes):
    n = len(RIGHT)
    values = {
        "x": torch.zeros(n, 1, 2, 2),
        "y": torch.tensor([0, 0, 1, 1, 1]),
        "x_adv": torch.full((n, 1, 2, 2), 0.5),
        "delta": torch.tensor([3.0, 4.0]).expand(n, 2),
        "right": RIGHT,
        "fooled": FOOLED,
        "first": torch.where(FOOLED, 4, -1),
    }
    return Attacked(**{**values, **changes})


def _values(rows):
    return {row["metric"]: row["value"] for row in rows}


def test_the_rate_is_over_images_that_were_read_correctly():
    # Attempts on the images 0, 1, 2, 4: two, none, one and one of two succeed.
    found = _values(success_rows("success", _found()))
    assert found == {"success": pytest.approx(4 / 8), "success, worst attempt": pytest.approx(3 / 4)}


def test_a_filter_acts_on_both_sides_of_the_fraction_and_in_the_papers_count_on_one():
    kept = torch.tensor([True, True, False, True, False])
    found = _values(success_rows("success", _found(), kept))
    assert found["success"] == pytest.approx(2 / 4)
    assert found["success, worst attempt"] == pytest.approx(1 / 2)
    assert found["success, the paper's count"] == pytest.approx(2 / 8)


def test_classes_are_counted_apart():
    found = _values(class_rows("success", _found(), ("A", "B")))
    assert found == {"success in class A": pytest.approx(2 / 4), "success in class B": pytest.approx(2 / 4)}


def test_a_class_that_is_never_read_correctly_has_no_rate():
    assert _values(class_rows("s", _found(right=torch.tensor([True, True, False, False, False])), ("A", "B"))) == {
        "s in class A": pytest.approx(2 / 4)
    }


def test_distances_are_those_of_successful_examples():
    found = _values(effort_rows("success", _found(), latent=True))
    assert found == {
        "success, L1 distance": pytest.approx(2.0),
        "success, L2 distance": pytest.approx(1.0),
        "success, Linf distance": pytest.approx(0.5),
        "success, L1 of codes": pytest.approx(7.0),
        "success, L2 of codes": pytest.approx(5.0),
        "success, Linf of codes": pytest.approx(4.0),
        "success, first success after steps": pytest.approx(4.0),
    }
    assert effort_rows("success", _found(fooled=torch.zeros(2, 5, dtype=torch.bool)), latent=True) == []


def test_means_leave_out_what_is_not_defined():
    row = mean_row("angle", torch.tensor([1.0, torch.nan, 3.0]))
    assert (row["value"], row["count"]) == (2.0, 2)
    assert row["high"] - row["value"] == pytest.approx(1.96 * 2**0.5 / 2**0.5)


def test_batches_are_put_together_as_one():
    torch.manual_seed(0)
    model = RobustClassifier(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))).eval()
    x, y = torch.rand(7, 1, 2, 2), torch.arange(7) % 3
    attack = PGD(Linf(0.2), 3, restarts=2, keep="best")
    one, parts = attacked(model, attack, x, y), attacked(model, attack, x, y, size=3)
    assert one.fooled.shape == one.first.shape == (2, 7)
    for name in ("x_adv", "delta", "right", "fooled", "first"):
        torch.testing.assert_close(getattr(one, name), getattr(parts, name))
