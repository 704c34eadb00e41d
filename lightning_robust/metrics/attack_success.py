"""The success rate of an attack over the samples that were classified correctly before it."""

from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_robust._checks import count
from lightning_robust.metrics._checks import check_bool, counted, coverage
from lightning_robust.metrics._sums import SummedMetric
from lightning_robust.metrics.intervals import clustered_interval, wilson_interval


class SuccessCounts(NamedTuple):
    """Sums over the originally correct samples, int64 (): of k_i, of k_i squared, of [k_i > 0], and of 1."""

    hits: Tensor
    squares: Tensor
    fooled: Tensor
    total: Tensor


def success_counts(correct_clean: Tensor, fooled: Tensor, mask: Tensor | None = None) -> SuccessCounts:
    """Count the successful restarts k_i of each originally correct sample i, and sum up.

    Args:
        correct_clean: Whether the clean sample is classified correctly, bool (N,).
        fooled: Whether restart a makes the model misclassify sample n, bool (A, N).
        mask: The samples to count, bool (N,); all by default.
    """
    check_bool("correct_clean", correct_clean, ("N",))
    check_bool("fooled", fooled, ("A", correct_clean.shape[0]))
    kept = correct_clean & counted(mask, correct_clean.shape[0], correct_clean.device)
    k = (fooled & kept).sum(0)
    return SuccessCounts(k.sum(), k.square().sum(), (k > 0).sum(), kept.sum())


class AttackSuccessRate(SummedMetric):
    r"""Success rate of an attack over several restarts, counted over the originally correct samples only.

    With :math:`o_n` true where the clean sample n is classified correctly and :math:`f_{an}` true where restart a fools
    the model on it,

    .. math::
        \text{success\_mean} = \frac{\sum_{a, n} o_n f_{an}}{A \sum_n o_n}, \qquad
        \text{success\_worst} = \frac{\sum_n o_n \max_a f_{an}}{\sum_n o_n} .

    The mean over the restarts is the success rate of Stutz et al., 2019. It says how often one restart succeeds and so
    flatters the model; ``success_worst`` is the attacker's best of A. The robust accuracy is ``acc * (1 -
    success_worst)`` with the clean accuracy ``acc``. How far a restart moves a sample is a matter of
    :class:`~lightning_robust.metrics.PerturbationNorm`.

    ``update`` takes

    - ``correct_clean`` bool (N,): whether the clean sample is classified correctly.
    - ``fooled`` bool (A, N): whether each restart is misclassified; ignored where the clean sample is wrong.
    - ``mask`` bool (N,), optional: the samples to count.

    ``compute`` returns a dictionary of scalars, float32 but for the count

    - ``success_mean``: with ``success_mean_low``, ``success_mean_high``. The restarts at one sample are correlated, so
      the sample is the unit: Wilson's interval with the effective sample size
      (:func:`~lightning_robust.metrics.clustered_interval`).
    - ``success_worst``: with ``success_worst_low``, ``success_worst_high``, Wilson's interval over the samples.
    - ``success_count`` int64: the originally correct samples.

    Without an originally correct sample the rates are NaN and the intervals are (0, 1). ``higher_is_better`` is False:
    the better model has the lower rate.

    Args:
        restarts: Number A of restarts at each sample.
        confidence: Nominal coverage of the intervals.
        kwargs: Arguments of :class:`torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> from lightning_robust.metrics import AttackSuccessRate
        >>> metric = AttackSuccessRate(restarts=2)
        >>> correct_clean = torch.tensor([True, True, True, True, False])
        >>> fooled = torch.tensor([[True, True, False, False, True], [True, False, False, False, True]])
        >>> metric.update(correct_clean, fooled)
        >>> result = metric.compute()
        >>> result["success_mean"], result["success_worst"], result["success_count"]
        (tensor(0.3750), tensor(0.5000), tensor(4))

    References:
        D. Stutz, M. Hein, B. Schiele, Disentangling adversarial robustness and generalization, CVPR 2019,
        arXiv 1812.00740.
    """

    higher_is_better = False

    hits: Tensor
    squares: Tensor
    fooled: Tensor
    total: Tensor

    def __init__(self, restarts: int, confidence: float = 0.95, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.restarts = count("restarts", restarts)
        self.confidence = coverage(confidence)
        self.add_sums(**{name: torch.tensor(0) for name in SuccessCounts._fields})

    def update(self, correct_clean: Tensor, fooled: Tensor, mask: Tensor | None = None) -> None:
        """Count a batch: ``correct_clean`` bool (N,), ``fooled`` bool (A, N), ``mask`` bool (N,)."""
        check_bool("fooled", fooled, (self.restarts, "N"))
        self.accumulate(**success_counts(correct_clean, fooled, mask)._asdict())

    def compute(self) -> dict[str, Tensor]:
        """The success rates with their intervals, and the count."""
        mean = self.hits.float() / (self.restarts * self.total).float()
        worst = self.fooled.float() / self.total.float()
        hits, squares, fooled, total = (state.cpu() for state in (self.hits, self.squares, self.fooled, self.total))
        mean_low, mean_high = clustered_interval(hits, squares, total, self.restarts, self.confidence)
        worst_low, worst_high = wilson_interval(fooled, total, self.confidence)
        return {
            "success_mean": mean,
            "success_mean_low": mean_low.to(mean),
            "success_mean_high": mean_high.to(mean),
            "success_worst": worst,
            "success_worst_low": worst_low.to(worst),
            "success_worst_high": worst_high.to(worst),
            "success_count": self.total,
        }
