import pytest
import torch

from lightning_robust.attacks import Context, PixelSpace, divergence, margin
from lightning_robust.attacks._gain import check_plain_gain
from lightning_robust.attacks._queries import Search
from lightning_robust.attacks.threats import Batch

CENTER, Y = torch.full((3, 2), 0.5), torch.zeros(3, dtype=torch.long)


def model(x):
    """Class 1 where the first coordinate exceeds 0.7."""
    return torch.stack([torch.full((len(x),), 0.7), x[:, 0]], 1)


def searching(model, gain=margin):
    return Search(Batch(model, CENTER, Y, PixelSpace().chart(CENTER, Y)), gain, Context())


def delta(*values):
    return torch.stack([torch.tensor(values), torch.zeros(3)], 1)


def test_the_best_is_kept_and_what_is_misclassified_stays():
    search = searching(model)
    search.ask(delta(0.1, 0.3, -0.2))
    assert not search.over()
    search.ask(delta(0.05, 0.4, -0.1))  # worse; better, but it was over; better
    search.ask(delta(0.0, 0.0, 0.25))
    outcome = search.outcome()
    assert torch.equal(outcome.delta, delta(0.1, 0.3, 0.25))
    assert outcome.fooled.tolist() == [[False, True, True]]
    assert outcome.first.tolist() == [[-1, 0, 2]]
    torch.testing.assert_close(outcome.x_adv, CENTER + outcome.delta)
    search.ask(delta(0.3, 0.0, 0.0))
    assert search.over()


def test_scores_that_are_no_numbers_are_a_success():
    search = searching(lambda x: model(x).log().sub(1).sqrt())
    search.ask(delta(0.1, 0.1, 0.1))
    assert search.outcome().fooled.all()


def test_all_processes_make_as_many_forwards(monkeypatch):
    search = searching(model)
    search.ask(delta(0.3, 0.3, 0.3))
    assert search.over()
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    assert not search.over()


def test_gains_in_half_precision_are_computed_in_single():
    seen = []

    def gain(logits, y):
        seen.append(logits.dtype)
        return margin(logits, y)

    searching(lambda x: model(x).bfloat16(), gain).ask(delta(0.0, 0.0, 0.0))
    assert seen == [torch.float32]


def test_checks():
    assert check_plain_gain(margin) is margin
    for wrong in (divergence, "margin"):
        with pytest.raises(TypeError, match="`gain` to be a function"):
            check_plain_gain(wrong)
