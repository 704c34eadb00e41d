import pytest
import torch
from torch import nn

from lightning_robust import PGD, Linf
from lightning_robust.attacks import RandomPerturbation
from lightning_robust.models import RobustClassifier
from lightning_robust_studies.stutz2019.attacks import (
    AttackedImages,
    attack_images,
    attack_rows,
    class_rows,
    correct,
    effort_rows,
    mean_row,
    success_rows,
)

RIGHT = torch.tensor([True, True, True, False, True])
FOOLED = torch.tensor([[True, False, True, True, False], [True, False, False, True, True]])


def _attacked(**changes):
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
    return AttackedImages(**{**values, **changes})


def _values(rows):
    return {row["metric"]: row["value"] for row in rows}


def test_correct_is_accuracy_sample_by_sample():
    module, x = RobustClassifier(nn.Sequential(nn.Flatten(), nn.Linear(4, 3))).train(), torch.rand(1500, 1, 2, 2)
    with torch.no_grad():
        y = module(x).argmax(1)
    y[::3] = (y[::3] + 1) % 3
    right = correct(module, x, y)
    assert right.tolist() == [i % 3 != 0 for i in range(1500)]


def test_an_image_that_was_misread_before_is_not_hit():
    assert _attacked().hit.tolist() == [True, False, True, False, True]


def test_the_rate_is_over_images_that_were_read_correctly():
    # Restarts on the images 0, 1, 2, 4: two, none, one and one of two succeed.
    values = _values(success_rows("success", _attacked()))
    assert values == {"success": pytest.approx(4 / 8), "success, worst restart": pytest.approx(3 / 4)}


def test_a_filter_acts_on_both_sides_of_the_fraction_and_in_the_papers_count_on_one():
    images = _attacked(valid=torch.tensor([True, True, False, True, False]))
    values = _values(attack_rows("on-pca", images, ("A", "B")))
    assert values["on-pca success"] == pytest.approx(2 / 4)
    assert values["on-pca success, worst restart"] == pytest.approx(1 / 2)
    assert values["on-pca success, the paper's count"] == pytest.approx(2 / 8)
    assert values["on-pca error on reconstructions"] == pytest.approx(1 / 5)
    classes = (values["on-pca success in class A"], "on-pca success in class B" in values)
    assert classes == (pytest.approx(2 / 4), False)


def test_classes_are_counted_apart():
    values = _values(class_rows("success", _attacked(), ("A", "B")))
    assert values == {"success in class A": pytest.approx(2 / 4), "success in class B": pytest.approx(2 / 4)}


def test_a_class_that_is_never_read_correctly_has_no_rate():
    assert _values(class_rows("s", _attacked(right=torch.tensor([True, True, False, False, False])), ("A", "B"))) == {
        "s in class A": pytest.approx(2 / 4)
    }


def test_distances_are_those_of_successful_examples():
    values = _values(effort_rows("success", _attacked()))
    assert values == {
        "success, L1 distance": pytest.approx(2.0),
        "success, L2 distance": pytest.approx(1.0),
        "success, Linf distance": pytest.approx(0.5),
        "success, L1 of codes": pytest.approx(7.0),
        "success, L2 of codes": pytest.approx(5.0),
        "success, Linf of codes": pytest.approx(4.0),
        "success, first success after steps": pytest.approx(4.0),
    }
    assert effort_rows("success", _attacked(fooled=torch.zeros(2, 5, dtype=torch.bool))) == []


def test_a_perturbation_in_pixels_has_no_size_in_codes():
    pixels = _attacked(delta=torch.full((5, 1, 2, 2), 0.5))
    assert not any("codes" in metric for metric in _values(effort_rows("success", pixels)))


def test_means_leave_out_what_is_not_defined():
    row = mean_row("angle", torch.tensor([1.0, torch.nan, 3.0]))
    assert (row["value"], row["count"]) == (2.0, 2)
    assert row["high"] - row["value"] == pytest.approx(1.96 * 2**0.5 / 2**0.5)


def test_batches_are_put_together_as_one():
    torch.manual_seed(0)
    model = RobustClassifier(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))).eval()
    x, y = torch.rand(7, 1, 2, 2), torch.arange(7) % 3
    attack = PGD(Linf(0.2), 3, restarts=2, keep="best")
    one, parts = attack_images(model, attack, x, y), attack_images(model, attack, x, y, batch_size=3)
    assert one.fooled.shape == one.first.shape == (2, 7)
    for name in ("x_adv", "delta", "right", "fooled", "first"):
        torch.testing.assert_close(getattr(one, name), getattr(parts, name))


def test_an_attack_that_does_not_tell_what_its_restarts_did_is_refused():
    model = RobustClassifier(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 3))).eval()
    with pytest.raises(ValueError, match='Pass a PGD with `keep="best"`'):
        attack_images(model, RandomPerturbation(Linf(0.2)), torch.rand(3, 1, 2, 2), torch.arange(3))
