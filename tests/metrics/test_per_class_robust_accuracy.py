import numpy as np
import pytest
import torch

from lightning_robust.metrics import PerClassRobustAccuracy, RobustAccuracy


def data(n=300, classes=4, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    return torch.from_numpy(rng.random((3, n)) < 0.95 - 0.1 * y), torch.from_numpy(y)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_each_class_agrees_with_the_metric_of_its_samples_alone(dtype):
    correct, y = data()
    metric = PerClassRobustAccuracy(4)
    for part, labels in zip(correct.split(100, dim=1), y.to(dtype).split(100), strict=True):
        metric.update(part, labels)
    result = metric.compute()
    for k in range(4):
        alone = RobustAccuracy(["a", "b"])
        alone.update(correct[:, y == k])
        expected = alone.compute()
        assert result["class_acc"][k] == expected["acc"]
        assert result["class_robust_acc"][k] == expected["robust_acc"]
        assert result["class_robust_acc_low"][k] == expected["robust_acc_low"]
        assert result["class_robust_acc_high"][k] == expected["robust_acc_high"]
        assert result["class_count"][k] == (y == k).sum()
    assert result["worst_class"] == result["class_robust_acc"].argmin() == 3
    assert result["worst_class_acc"] == result["class_robust_acc"].min()


def test_a_class_without_samples_is_not_the_worst():
    metric = PerClassRobustAccuracy(3)
    metric.update(torch.tensor([[True, True, True], [True, False, True]]), torch.tensor([1, 1, 2]))
    result = metric.compute()
    assert result["class_robust_acc"].isnan().tolist() == [True, False, False]
    assert (result["class_robust_acc_low"][0], result["class_robust_acc_high"][0]) == (0, 1)
    assert (result["worst_class"], result["worst_class_acc"]) == (1, 0.5)


YES = torch.ones(2, 3, dtype=torch.bool)


@pytest.mark.parametrize(
    ("correct", "y", "message"),
    [
        (YES.float(), torch.tensor([0, 1, 2]), "`correct` to be a boolean tensor"),
        (YES[:0], torch.tensor([0, 1, 2]), "`correct` to hold at least one view"),
        (YES, torch.tensor([0.0, 1.0, 2.0]), r"`y` to be an integer tensor of shape \(3,\), but got a float32 tensor"),
        (
            YES,
            torch.tensor([0, 1]),
            r"`y` to be an integer tensor of shape \(3,\), but got a int64 tensor of shape \(2,\)",
        ),
        (YES, torch.tensor([0, 1, 4]), "`y` to hold labels from 0 to 3, but got labels from 0 to 4"),
        (YES, torch.tensor([0, -1, 3]), "`y` to hold labels from 0 to 3, but got labels from -1 to 3"),
    ],
)
def test_wrong_data_names_the_argument(correct, y, message):
    with pytest.raises(ValueError, match=message):
        PerClassRobustAccuracy(4).update(correct, y)
