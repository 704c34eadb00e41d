import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from lightning_robust.metrics import AttackSuccessRate, RobustAccuracy, clustered_interval


def data(restarts=5, n=240, seed=0):
    rng = np.random.default_rng(seed)
    difficulty = rng.beta(0.5, 0.5, n)
    return torch.from_numpy(rng.random(n) < 0.8), torch.from_numpy(rng.random((restarts, n)) < difficulty)


def test_agrees_with_a_loop():
    correct_clean, fooled = data()
    metric = AttackSuccessRate(5)
    for part, restarts in zip(correct_clean.split(100), fooled.split(100, dim=1), strict=True):
        metric.update(part, restarts)
    hits, worst, total = [], 0, 0
    for n in range(240):
        if correct_clean[n]:
            hits.append(sum(bool(fooled[a, n]) for a in range(5)))
            worst += hits[-1] > 0
            total += 1
    result = metric.compute()
    assert result["success_count"] == total
    assert result["success_mean"].item() == pytest.approx(sum(hits) / (5 * total), rel=1e-6)
    assert result["success_worst"].item() == pytest.approx(worst / total, rel=1e-6)
    interval = binomtest(worst, total).proportion_ci(method="wilson")
    assert result["success_worst_low"].item() == pytest.approx(interval.low, rel=1e-6)
    assert result["success_worst_high"].item() == pytest.approx(interval.high, rel=1e-6)
    low, high = clustered_interval(sum(hits), sum(k * k for k in hits), total, 5)
    assert result["success_mean_low"].item() == pytest.approx(low.item(), rel=1e-6)
    assert result["success_mean_high"].item() == pytest.approx(high.item(), rel=1e-6)


def test_with_the_clean_accuracy_it_gives_the_robust_accuracy():
    correct_clean, fooled = data()
    success, robust = AttackSuccessRate(5), RobustAccuracy(["a", "b", "c", "d", "e"])
    success.update(correct_clean, fooled)
    robust.update(torch.cat([correct_clean[None], ~fooled]))
    accuracy = robust.compute()
    expected = accuracy["acc"] * (1 - success.compute()["success_worst"])
    torch.testing.assert_close(accuracy["robust_acc"], expected)


def test_samples_that_were_wrong_before_do_not_matter():
    correct_clean, fooled = data()
    one, other = AttackSuccessRate(5), AttackSuccessRate(5)
    one.update(correct_clean, fooled)
    other.update(correct_clean, fooled ^ ~correct_clean)
    assert one.compute() == other.compute()


def test_with_one_restart_mean_and_worst_are_the_same():
    correct_clean, fooled = data(restarts=1)
    metric = AttackSuccessRate(1)
    metric.update(correct_clean, fooled)
    result = metric.compute()
    for end in ("", "_low", "_high"):
        assert result[f"success_mean{end}"] == result[f"success_worst{end}"]


def test_the_order_of_the_restarts_does_not_matter():
    correct_clean, fooled = data()
    one, other = AttackSuccessRate(5), AttackSuccessRate(5)
    one.update(correct_clean, fooled)
    other.update(correct_clean, fooled.flip(0))
    assert one.compute() == other.compute()


@pytest.mark.parametrize(
    ("correct_clean", "fooled", "message"),
    [
        (torch.ones(3), torch.ones(2, 3, dtype=torch.bool), "`correct_clean` to be a boolean tensor .* float32"),
        (torch.ones(3, dtype=torch.bool), torch.ones(2, 3), "`fooled` to be a boolean tensor .* float32"),
        (torch.ones(3, dtype=torch.bool), torch.ones(3, 3, dtype=torch.bool), r"`fooled` .* \(2, N\), .* \(3, 3\)"),
        (torch.ones(3, dtype=torch.bool), torch.ones(2, 4, dtype=torch.bool), r"`fooled` .* \(A, 3\), .* \(2, 4\)"),
    ],
)
def test_wrong_data_names_the_argument(correct_clean, fooled, message):
    with pytest.raises(ValueError, match=message):
        AttackSuccessRate(2).update(correct_clean, fooled)
