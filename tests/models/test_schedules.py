import copy

import pytest
import torch

from lightning_robust.models import ExponentialDecay


def _optimizer(*rates):
    groups = [{"params": [torch.zeros(1, requires_grad=True)], "lr": rate} for rate in rates]
    return torch.optim.SGD(groups, lr=1.0)


def _run(scheduler, steps):
    rates = []
    for _ in range(steps):
        rates.append(scheduler.get_last_lr())
        scheduler.optimizer.step()
        scheduler.step()
    return rates


def test_follows_the_formula():
    rates = _run(ExponentialDecay(_optimizer(0.01), steps_per_epoch=4), steps=12)
    expected = [0.01 * 0.95 ** (t // 4 + 1 + t % 4 / 4) for t in range(12)]
    assert [r for (r,) in rates] == pytest.approx(expected)


def test_the_floor_is_a_learning_rate_whatever_the_group():
    rates = _run(ExponentialDecay(_optimizer(1.0, 0.1, 0.0), steps_per_epoch=1, decay=0.1, floor=1e-3), steps=6)
    assert rates[-1] == pytest.approx([1e-3, 1e-3, 0.0])
    assert rates[0] == pytest.approx([0.1, 0.01, 0.0])


def test_resumes(tmp_path):
    scheduler = ExponentialDecay(_optimizer(0.01), steps_per_epoch=3, decay=0.5)
    _run(scheduler, 4)
    torch.save(
        {"s": copy.deepcopy(scheduler.state_dict()), "o": scheduler.optimizer.state_dict()}, tmp_path / "state.pt"
    )
    state = torch.load(tmp_path / "state.pt", weights_only=True)
    again = ExponentialDecay(_optimizer(0.01), steps_per_epoch=3, decay=0.5)
    again.optimizer.load_state_dict(state["o"])
    again.load_state_dict(state["s"])
    assert _run(again, 5) == _run(scheduler, 5)
