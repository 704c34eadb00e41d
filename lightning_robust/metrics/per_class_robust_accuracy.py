"""Clean and robust accuracy of each class, and the class that is worst off."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_robust._checks import count
from lightning_robust.metrics._checks import check_bool, check_labels, counted, coverage
from lightning_robust.metrics._sums import SummedMetric
from lightning_robust.metrics.intervals import wilson_interval


class ClassCounts(NamedTuple):
    """Numbers of samples of each class, int64 (K,): correct in view 0, correct in all views, counted."""

    correct: Tensor
    robust: Tensor
    total: Tensor


def class_counts(correct: Tensor, y: Tensor, num_classes: int, mask: Tensor | None = None) -> ClassCounts:
    """Count for each class the samples that are correct in view 0, and those that are correct in all views.

    Args:
        correct: Whether view v of sample n is classified correctly, bool (V, N) with V of at least 1.
        y: True labels, integer (N,).
        num_classes: Number K of classes.
        mask: The samples to count, bool (N,); all by default.
    """
    check_bool("correct", correct, ("V", "N"))
    if correct.shape[0] == 0:
        raise ValueError("Expected argument `correct` to hold at least one view, the clean one, but got none.")
    check_labels("y", y, correct.shape[1], num_classes)
    kept = counted(mask, correct.shape[1], correct.device)

    def per_class(flags: Tensor) -> Tensor:
        return torch.zeros(num_classes, dtype=torch.int64, device=y.device).index_add(0, y.long(), flags.long())

    return ClassCounts(per_class(correct[0] & kept), per_class(correct.all(0) & kept), per_class(kept))


class PerClassRobustAccuracy(SummedMetric):
    r"""Clean and robust accuracy of each class, and the class whose robust accuracy is lowest.

    As :class:`~lightning_robust.metrics.RobustAccuracy`, with the samples of one class at a time: for class k

    .. math:: \text{robust\_acc}_k = \frac{\sum_n [y_n = k] \min_v c_{vn}}{\sum_n [y_n = k]} .

    An average hides how unevenly adversarial training serves the classes.

    ``update`` takes

    - ``correct`` bool (V, N): view 0 the clean input, the others its adversarial examples, in any number.
    - ``y`` integer (N,): the true labels, from 0 to K - 1.
    - ``mask`` bool (N,), optional: the samples to count.

    ``compute`` returns a dictionary with

    - ``class_acc``, ``class_robust_acc`` float32 (K,): NaN for a class without a counted sample.
    - ``class_robust_acc_low``, ``class_robust_acc_high`` float32 (K,): Wilson score interval of each class by itself;
      (0, 1) for a class without a counted sample.
    - ``class_count`` int64 (K,): the counted samples.
    - ``worst_class`` int64 (): the class of lowest robust accuracy among those with samples, the first one in a tie;
      -1 where nothing was counted.
    - ``worst_class_acc`` float32 (): the robust accuracy of that class; NaN where nothing was counted. The lowest of K
      estimates is biased downwards: with few samples per class read it with the intervals.

    Args:
        num_classes: Number K of classes, at least 2.
        confidence: Nominal coverage of the intervals.
        kwargs: Arguments of :class:`torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> from lightning_robust.metrics import PerClassRobustAccuracy
        >>> metric = PerClassRobustAccuracy(num_classes=3)
        >>> clean = torch.tensor([True, True, True, True])
        >>> pgd = torch.tensor([True, False, False, False])
        >>> metric.update(torch.stack([clean, pgd]), torch.tensor([0, 0, 2, 2]))
        >>> result = metric.compute()
        >>> result["class_robust_acc"]
        tensor([0.5000,    nan, 0.0000])
        >>> result["worst_class"], result["worst_class_acc"]
        (tensor(2), tensor(0.))
    """

    higher_is_better = True

    correct: Tensor
    robust: Tensor
    total: Tensor

    def __init__(self, num_classes: int, confidence: float = 0.95, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.num_classes = count("num_classes", num_classes, 2)
        self.confidence = coverage(confidence)
        self.add_sums(**{name: torch.zeros(self.num_classes, dtype=torch.int64) for name in ClassCounts._fields})

    def update(self, correct: Tensor, y: Tensor, mask: Tensor | None = None) -> None:
        """Count a batch: ``correct`` bool (V, N), ``y`` integer (N,), ``mask`` bool (N,)."""
        self.accumulate(**class_counts(correct, y, self.num_classes, mask)._asdict())

    def compute(self) -> dict[str, Tensor]:
        """The accuracies by class (K,), and the worst class."""
        total = self.total
        robust_acc = self.robust.float() / total.float()
        low, high = wilson_interval(self.robust.cpu(), total.cpu(), self.confidence)
        worst = torch.where(total > 0, robust_acc, torch.inf).argmin()
        return {
            "class_acc": self.correct.float() / total.float(),
            "class_robust_acc": robust_acc,
            "class_robust_acc_low": low.to(robust_acc),
            "class_robust_acc_high": high.to(robust_acc),
            "class_count": total,
            "worst_class": torch.where(total.sum() > 0, worst, -1),
            "worst_class_acc": robust_acc[worst],
        }
