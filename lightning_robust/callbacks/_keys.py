"""The keys under which an evaluation logs: they are its own, in the log and in warnings."""

import math
import re
import warnings
from collections.abc import Iterable, Mapping
from typing import Any


class Keys:
    """`<prefix><stage>/<name>`, the stage being `val` or `test`.

    Args:
        prefix: Before every key.
        attacks: Names of the attacks that have a key of their own.
    """

    def __init__(self, prefix: str, attacks: Iterable[str]) -> None:
        self._prefix = prefix
        self._names = {"clean_acc", "robust_acc", "suspicious", *(f"robust_acc_{name}" for name in attacks)}
        self._allowed: set[str] = set()
        self._filter: Any = None

    def of(self, stage: str, name: str = "", suffix: str = "") -> str:
        """The key of a name; without a name, what all keys of the stage begin with."""
        return f"{self._prefix}{stage}/{name}{suffix}"

    def measured(self, key: str, metrics: Iterable[str]) -> bool:
        """Is it the key of a value in validation, of ours or of a metric of the user?"""
        start = self.of("val")
        name = key[len(start) :].split("/dataloader_idx_")[0] if key.startswith(start) else ""
        return name in self._names or any(name == metric or name.startswith(f"{metric}_") for metric in metrics)

    def refuse(self, logged: set[str], stage: str) -> None:
        """Refuse keys of ours among those that the module logs itself."""
        if logged <= self._allowed:
            return
        ours = {self.of(stage, name) for name in self._names}
        if ours & logged:
            raise ValueError(_conflict(min(ours & logged)))
        self._allowed |= logged

    def check(self, values: Mapping[str, float], metrics: Mapping[str, Any]) -> None:
        """Refuse another value under one of our keys: a hook at the end of the epoch may have logged it."""
        for key, value in values.items():
            if key in metrics and not _is_same(float(metrics[key]), value):
                raise ValueError(_conflict(key))

    def silence(self) -> None:
        """From now on Lightning does not advise to reduce our values over processes: they are reduced already."""
        warnings.filterwarnings("ignore", rf".*self\.log\('{re.escape(self._prefix)}(val|test)/.*sync_dist=True.*")
        self._filter = warnings.filters[0]

    def restore(self) -> None:
        """Take back `silence`, and leave the filters of everybody else alone."""
        if self._filter in warnings.filters:
            warnings.filters.remove(self._filter)  # type: ignore[attr-defined]
        self._filter = None


def _is_same(one: float, other: float) -> bool:
    """Up to rounding; a mean over no samples is NaN, and is itself."""
    return math.isclose(one, other, rel_tol=1e-3, abs_tol=1e-6) or (math.isnan(one) and math.isnan(other))


def _conflict(key: str) -> str:
    return (
        f"Expected the module not to log `{key}`, which RobustEvaluation logs. Log it under another name, or say where "
        "this callback shall log: RobustEvaluation(..., prefix='adversarial/')."
    )
