import pytest
import torch
from scipy.stats import binomtest

from lightning_robust.metrics import RobustAccuracy


def flags(views=3, n=200, seed=0):
    return torch.rand(views, n, generator=torch.Generator().manual_seed(seed)) < 0.7


def test_agrees_with_numpy():
    correct, metric = flags(), RobustAccuracy(["fgsm", "pgd"])
    for part in correct.split(64, dim=1):
        metric.update(part)
    array = correct.numpy()
    robust = array.min(axis=0)
    interval = binomtest(int(robust.sum()), 200).proportion_ci(method="wilson")
    expected = {
        "acc": array[0].mean(),
        "acc_fgsm": array[1].mean(),
        "acc_pgd": array[2].mean(),
        "robust_acc": robust.mean(),
        "robust_acc_low": interval.low,
        "robust_acc_high": interval.high,
        "robust_n": 200,
    }
    result = metric.compute()
    assert list(result) == list(expected)
    assert all(value.dtype == torch.float32 and value.shape == () for value in result.values())
    assert {name: value.item() for name, value in result.items()} == pytest.approx(expected, rel=1e-6)


def test_a_sample_that_is_wrong_without_attack_is_not_robust():
    metric = RobustAccuracy(["a"])
    metric.update(torch.tensor([[False, True], [True, True]]))
    assert metric.compute()["robust_acc"] == 0.5


def test_more_attacks_never_raise_the_robust_accuracy():
    correct = flags(views=6)
    rates = []
    for attacks in range(1, 6):
        metric = RobustAccuracy([f"a{i}" for i in range(attacks)])
        metric.update(correct[: 1 + attacks])
        result = metric.compute()
        rates.append(result["robust_acc"].item())
        assert rates[-1] <= min(result[name].item() for name in result if name.startswith("acc"))
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < rates[0]


def test_results_are_float32_whatever_the_default_dtype():
    metric = RobustAccuracy(["a"])
    metric.update(torch.tensor([[True] * 1000, [True] * 999 + [False]]))
    torch.set_default_dtype(torch.bfloat16)
    try:
        result = metric.compute()
    finally:
        torch.set_default_dtype(torch.float32)
    assert result["robust_acc"].dtype == torch.float32
    assert result["robust_acc"].item() == pytest.approx(0.999)


@pytest.mark.parametrize(
    ("correct", "mask", "message"),
    [
        (torch.ones(2, 4), None, r"`correct` to be a boolean tensor of shape \(2, N\), but got a float32 tensor"),
        (torch.ones(2, 4, dtype=torch.int64), None, "`correct` to be a boolean tensor .*, but got a int64 tensor"),
        (torch.ones(3, 4, dtype=torch.bool), None, r"`correct` .* \(2, N\), but got a bool tensor of shape \(3, 4\)"),
        (torch.ones(4, dtype=torch.bool), None, r"`correct` .* \(4,\)"),
        ([[True], [True]], None, r"`correct` .*, but got list \[\[True\], \[True\]\]"),
        (torch.ones(2, 4, dtype=torch.bool), torch.ones(4), r"`mask` to be a boolean tensor of shape \(4,\)"),
        (torch.ones(2, 4, dtype=torch.bool), torch.ones(3, dtype=torch.bool), r"`mask` .* \(4,\), but got .* \(3,\)"),
    ],
)
def test_wrong_data_names_the_argument(correct, mask, message):
    with pytest.raises(ValueError, match=message):
        RobustAccuracy(["a"]).update(correct, mask)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("pgd", "`names` to be a sequence of one name per attack, but got 'pgd'"),
        ([], r"`names` .* but got \[\]"),
        ([""], r"`names\[0\]` .* but got ''"),
        ([3], r"`names\[0\]` .* but got 3"),
        (["a", "a"], r"`names` to be distinct names, .* but got \['a', 'a'\]"),
    ],
)
def test_wrong_names(names, message):
    with pytest.raises((TypeError, ValueError), match=message):
        RobustAccuracy(names)
