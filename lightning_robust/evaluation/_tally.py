"""The counts of an evaluation, as integers, and what they say."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from lightning_robust import _nested
from lightning_robust.metrics.attack_success import success_counts
from lightning_robust.metrics.intervals import clustered_interval, wilson_interval

Interval = tuple[float, float]
_Attacked = tuple[Tensor, Tensor, Tensor]

_OF_ALL = ("n", "clean", "robust", "broken", "probabilities")
_OF_ONE = ("right", "hits", "squares", "fooled", "stuck")


class Tally:
    """The counts of one dataloader on one process.

    Args:
        attacks: Number of attacks.
        device: Where to count.
    """

    def __init__(self, attacks: int, device: torch.device) -> None:
        self.counts = torch.zeros(len(_OF_ALL) + len(_OF_ONE) * attacks, dtype=torch.int64, device=device)
        self.seen = 0

    def add(
        self,
        mask: Tensor,
        clean: Tensor,
        broken: Tensor,
        probabilities: Tensor,
        attacked: list[_Attacked],
    ) -> None:
        """Count a batch.

        Args:
            mask: (N,) bool, the samples that count.
            clean: (N,) bool, right when clean.
            broken: (N,) bool, output not finite when clean.
            probabilities: (N,) bool, output a distribution when clean.
            attacked: For each attack: right when clean and under it (N,), fooled (R, N), without a gradient (N,).
        """
        robust, of_one = clean.clone(), []
        for right, fooled, stuck in attacked:
            robust &= right
            hits, squares, any_fooled, _ = success_counts(clean, fooled, mask)
            of_one += [(right & mask).sum(), hits, squares, any_fooled, (stuck & right & mask).sum()]
        sums = [mask.sum(), *((part & mask).sum() for part in (clean, robust, broken, probabilities)), *of_one]
        self.counts += torch.stack([_nested.plain(value).long() for value in sums])


class Summary:
    """What the counts of one dataloader over all processes say.

    Args:
        counts: As `Tally.counts`.
        restarts: R of each attack, by its name; the name "" is that of a single attack, which adds no suffix.
        each: Is the robust accuracy under each attack logged?

    Attributes:
        n: Number of samples.
        logged: `clean_acc`, `robust_acc` and, if `each`, `robust_acc_<name>`.
        more: `success_<name>`, `success_worst_<name>`, `n`, and `robust_acc_<name>` if it is not logged.
        intervals: The 95 % interval of each value but `n`, by the same name.
        shown: The most samples that withstood by any robust accuracy here: where there are none, nothing is too high.
        warnings: Texts to warn the user with.
    """

    def __init__(self, counts: list[int], restarts: Mapping[str, int], *, each: bool = True) -> None:
        of_all = dict(zip(_OF_ALL, counts, strict=False))
        self.n = n = of_all["n"]
        self.logged: dict[str, float] = {}
        self.more: dict[str, float] = {"n": float(n)}
        self.intervals: dict[str, Interval] = {}
        stuck: dict[str, int] = {}
        self._rate(self.logged, "clean_acc", of_all["clean"], n)
        self._rate(self.logged, "robust_acc", of_all["robust"], n)
        self.shown = of_all["robust"]
        for place, (name, number) in enumerate(restarts.items()):
            start = len(_OF_ALL) + place * len(_OF_ONE)
            of_one = dict(zip(_OF_ONE, counts[start : start + len(_OF_ONE)], strict=True))
            if name:
                self._rate(self.logged if each else self.more, f"robust_acc_{name}", of_one["right"], n)
                self.shown = max(self.shown, of_one["right"])
            self._success(f"_{name}" if name else "", of_one, of_all["clean"], number)
            stuck[name] = of_one["stuck"]
        self.warnings = cautions(n, self.shown, stuck, of_all["probabilities"], of_all["broken"])

    def _rate(self, into: dict[str, float], name: str, count: int, of: int) -> None:
        into[name] = count / of if of else math.nan
        low, high = wilson_interval(torch.tensor(count), torch.tensor(of), 0.95)
        self.intervals[name] = float(low), float(high)

    def _success(self, suffix: str, of_one: Mapping[str, int], clean: int, restarts: int) -> None:
        self._rate(self.more, f"success_worst{suffix}", of_one["fooled"], clean)
        self.more[f"success{suffix}"] = of_one["hits"] / (restarts * clean) if clean else math.nan
        sums = (torch.tensor(of_one["hits"]), torch.tensor(of_one["squares"]), torch.tensor(clean))
        low, high = clustered_interval(*sums, restarts, 0.95)
        self.intervals[f"success{suffix}"] = float(low), float(high)


def cautions(n: int, robust: int, stuck: Mapping[str, int], probabilities: int, broken: int) -> list[str]:
    """Texts to warn the user with.

    Args:
        n: Number of samples.
        robust: The most that withstood by any figure that is shown; where there are none, nothing is too high.
        stuck: By the name of an attack, the number of samples that withstood it without a gradient; "": of all.
        probabilities: Number of samples whose output is a distribution without an attack.
        broken: Number of samples whose output is NaN or infinite without an attack.
    """
    texts = [
        f"Robust accuracy{f' under `{name}`' if name else ''} may be too high: {number} of {n} samples withstood only "
        "because their gradient is zero. Try another gain (`margin`, `dlr`), another precision, or an attack without "
        "gradients (`RandomSearch`)."
        for name, number in stuck.items()
        if number > 0.01 * n
    ]
    if robust and probabilities == n:
        texts.append(
            "Robust accuracy may be too high: the model's outputs are probabilities, whose gradient vanishes where it "
            "is confident, and which are never negative as the logit of a no is. Return logits from `forward`, without "
            "the softmax or sigmoid, or say how to get them: forward=..."
        )
    if broken:
        texts.append(
            f"{broken} of {n} samples have outputs that are NaN or infinite without an attack; they count as wrong. A "
            "class that is masked out should have a large negative logit, not minus infinity."
        )
    return texts


def are_probabilities(output: Tensor, yes_no: bool = False) -> Tensor:
    """(N,) bool: is the output of a sample a distribution over classes? With `yes_no`: is it all in [0, 1]?"""
    if yes_no:
        flat = output.reshape(len(output), -1)
        return ((flat >= 0) & (flat <= 1)).all(1)
    if output.ndim != 2 or output.shape[1] < 2:
        return torch.zeros(len(output), dtype=torch.bool, device=output.device)
    output = output.float()
    return (output >= 0).all(1) & ((output.sum(1) - 1).abs() < 1e-3)
