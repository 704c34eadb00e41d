"""Accuracy on clean inputs, under each attack, and under the worst of them."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_robust._checks import sequence, text
from lightning_robust.metrics._checks import check_bool, counted, coverage
from lightning_robust.metrics._sums import SummedMetric
from lightning_robust.metrics.intervals import wilson_interval


class RobustCounts(NamedTuple):
    """Numbers of samples, int64: correct in each view (V,), robust (), counted ()."""

    correct: Tensor
    robust: Tensor
    total: Tensor


def robust_counts(correct: Tensor, mask: Tensor | None = None) -> RobustCounts:
    """Count the samples that are correct in each view, and those that are correct in all views.

    Args:
        correct: Whether view v of sample n is classified correctly, bool (V, N).
        mask: The samples to count, bool (N,); all by default.
    """
    check_bool("correct", correct, ("V", "N"))
    kept = counted(mask, correct.shape[1], correct.device)
    return RobustCounts((correct & kept).sum(1), (correct.all(0) & kept).sum(), kept.sum())


class RobustAccuracy(SummedMetric):
    r"""Accuracy per view and the robust accuracy, the share of samples that withstand everything.

    The views of a sample are its clean input (view 0) and its adversarial examples, one from each attack. With
    :math:`c_{vn}` true where view v of sample n is classified correctly,

    .. math::
        \text{acc}_v = \frac1N \sum_n c_{vn}, \qquad
        \text{robust\_acc} = \frac1N \sum_n \min_v c_{vn} \le \min_v \text{acc}_v .

    The worst case is taken per sample, and the clean input counts as a view: a sample that is misclassified without an
    attack is not robust. More attacks never raise the robust accuracy.

    ``update`` takes

    - ``correct`` bool (V, N): view 0 the clean input, then one view for each of ``names``, in this order.
    - ``mask`` bool (N,), optional: the samples to count. Leave out what a sampler has repeated to pad the last batch.

    ``compute`` returns a dictionary of float32 scalars, ready for ``log_dict``

    - ``acc``: accuracy on clean inputs.
    - ``acc_<name>``: accuracy under each attack.
    - ``robust_acc``: robust accuracy.
    - ``robust_n``: the number of samples counted.
    - ``robust_acc_low``, ``robust_acc_high``: its Wilson score interval, for the draw of the samples
      (:func:`~lightning_robust.metrics.wilson_interval`). A stronger attack may still lead below it.

    Without a counted sample the accuracies are NaN and the interval is (0, 1).

    Args:
        names: One name for each attack, distinct and not empty.
        confidence: Nominal coverage of the interval.
        kwargs: Arguments of :class:`torchmetrics.Metric`, such as ``sync_on_compute``.

    Example:
        >>> import torch
        >>> from lightning_robust.metrics import RobustAccuracy
        >>> metric = RobustAccuracy(names=["fgsm", "pgd"])
        >>> clean = torch.tensor([True, True, True, False])
        >>> fgsm = torch.tensor([True, True, False, False])
        >>> pgd = torch.tensor([False, True, True, False])
        >>> metric.update(torch.stack([clean, fgsm, pgd]))
        >>> for name, value in metric.compute().items():
        ...     print(f"{name} {value:.2f}")
        acc 0.75
        acc_fgsm 0.50
        acc_pgd 0.50
        robust_acc 0.25
        robust_acc_low 0.05
        robust_acc_high 0.70
        robust_n 4.00
    """

    higher_is_better = True

    correct: Tensor
    robust: Tensor
    total: Tensor

    def __init__(self, names: Sequence[str], confidence: float = 0.95, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        given = sequence("names", names, "a sequence of one name per attack")
        self.names = tuple(text(f"names[{i}]", name) for i, name in enumerate(given))
        if not given or len(set(given)) < len(given):
            raise ValueError(f"Expected argument `names` to be distinct names, one per attack, but got {names!r}.")
        self.confidence = coverage(confidence)
        views = torch.zeros(1 + len(given), dtype=torch.int64)
        self.add_sums(correct=views, robust=torch.tensor(0), total=torch.tensor(0))

    def update(self, correct: Tensor, mask: Tensor | None = None) -> None:
        """Count a batch: ``correct`` bool (V, N), ``mask`` bool (N,)."""
        check_bool("correct", correct, (1 + len(self.names), "N"))
        self.accumulate(**robust_counts(correct, mask)._asdict())

    def compute(self) -> dict[str, Tensor]:
        """The accuracies, float32 scalars by name."""
        acc = self.correct.float() / self.total.float()
        robust_acc = self.robust.float() / self.total.float()
        low, high = wilson_interval(self.robust.cpu(), self.total.cpu(), self.confidence)
        return {
            "acc": acc[0],
            **{f"acc_{name}": value for name, value in zip(self.names, acc[1:], strict=True)},
            "robust_acc": robust_acc,
            "robust_acc_low": low.to(robust_acc),
            "robust_acc_high": high.to(robust_acc),
            "robust_n": self.total.float(),
        }
