"""Metrics that a user hands to an evaluation: fed batch by batch, computed at the end."""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torchmetrics import BootStrapper, Metric, MinMaxMetric, MultioutputWrapper
from torchmetrics.metric import CompositionalMetric

from lightning_robust import _checks

_OFFERED = {
    "x": "(N, ...) clean inputs",
    "x_adv": "(N, ...) adversarial inputs, the worst for each sample",
    "y": "labels",
    "target": "labels",
    "preds": "outputs for `x_adv`",
    "correct": "(V, N) bool, right when clean and under each attack",
    "correct_clean": "(N,) bool, right when clean",
    "fooled": "(A, N) bool, the success of each attempt of each attack",
}
"""What `update` is called with, as far as it takes it; and `mask`, the samples that count."""

_ALONG_THE_SECOND = ("correct", "fooled")
"""Those of them whose samples are in the second dimension."""

_OWN = ("clean_acc", "robust_acc", "suspicious", "n", "success", "success_worst")


def check_metrics(metrics: Mapping[str, Metric] | None) -> dict[str, Metric]:
    """Metrics by name; those that need what an evaluation does not know are refused."""
    given = {} if metrics is None else _checks.instance("metrics", metrics, Mapping, "a mapping from names to metrics")
    for name, metric in given.items():
        called = f"metrics[{name!r}]"
        if not isinstance(name, str) or not name:
            raise TypeError(f"Expected argument `metrics` to have names that are not empty as keys, but got {name!r}.")
        if name in _OWN or name.startswith(("robust_acc_", "success_")):
            raise ValueError(
                f"Expected argument `metrics` to have no name of a value that is logged anyway, but got {name!r}. "
                "Give it another name."
            )
        _checks.instance(called, metric, Metric, "a metric of lightning_robust.metrics or of torchmetrics")
        takes = _takes(metric).items()
        unknown = ", ".join(f"`{p}`" for p, required in takes if required and p not in (*_OFFERED, "mask"))
        if unknown:
            offered = "; ".join(f"`{key}`, {text}" for key, text in _OFFERED.items())
            raise ValueError(
                f"Expected argument `{called}` to be a metric whose `update` takes what an evaluation knows "
                f"({offered}), but {type(metric).__name__} needs {unknown}. Write a subclass whose `update` makes it "
                "of these."
            )
        _check_wrapper(called, metric)
    return dict(given)


def _check_wrapper(called: str, metric: Metric) -> None:
    """Refuse wrappers that do not say what they need, or mean something else where copies are fed sample by sample."""
    kind = type(metric).__name__
    if _is_open(metric) and not _takes(metric):
        raise ValueError(
            f"Expected argument `{called}` to be a metric whose `update` names what it takes "
            f"({', '.join(f'`{key}`' for key in _OFFERED)}), but that of {kind} takes anything. Write a subclass with "
            "an `update` that names it, such as update(self, preds, target)."
        )
    parts = [part for part in metric.modules() if isinstance(part, Metric)]
    if any(isinstance(part, MinMaxMetric) for part in parts):
        raise ValueError(
            f"Expected argument `{called}` to be a metric of one evaluation, but MinMaxMetric compares several, and "
            "each evaluation feeds copies of its own. Give the metric inside: a logger shows its least and its highest "
            "value."
        )
    for part in parts:
        if isinstance(part, BootStrapper | MultioutputWrapper) and set(_ALONG_THE_SECOND) & _takes(part).keys():
            raise ValueError(
                f"Expected argument `{called}` to take tensors with the samples in the first dimension, but "
                f"{type(part).__name__} would cut `correct` and `fooled`, which have them in the second. Give the "
                "metric inside: those of lightning_robust.metrics have intervals."
            )


def _parameters(metric: Metric) -> list[inspect.Parameter]:
    return list(inspect.signature(type(metric).update).parameters.values())[1:]


def _is_open(metric: Metric) -> bool:
    """Does `update` take anything, as that of a wrapper does, which hands it on?"""
    kinds = {p.kind for p in _parameters(metric)}
    return bool(kinds) and kinds <= {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}


def _inside(module: nn.Module) -> Iterator[Metric]:
    """The metrics that a wrapper hands on to."""
    for child in module.children():
        if isinstance(child, Metric):
            yield child
        else:
            yield from _inside(child)


def _takes(metric: Metric) -> dict[str, bool]:
    """The parameters of `update` by name: is each of them required? Of a wrapper those of the metrics inside."""
    if not _is_open(metric):
        kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        return {p.name: p.default is p.empty for p in _parameters(metric) if p.kind in kinds}
    each = [_takes(one) for one in _inside(metric)]
    names = dict.fromkeys(name for takes in each for name in takes)
    # Samples that do not count are left out where one of them takes no mask.
    return {
        name: any(takes.get(name, False) for takes in each)
        for name in names
        if name != "mask" or all("mask" in takes for takes in each)
    }


def _feed(metric: Metric, given: Mapping[str, Any]) -> None:
    """Call `update` by name; that of a wrapper by place where it can: some look at arguments without a name alone."""
    each = [list(_takes(one)) for one in _inside(metric)] if _is_open(metric) else []
    first: list[str] = []
    if each and all(names == each[0] for names in each) and not isinstance(metric, CompositionalMetric):
        for name in each[0]:
            if name not in given:
                break
            first.append(name)
    metric.update(*(given[name] for name in first), **{k: v for k, v in given.items() if k not in first})


class Handed:
    """The metrics of one dataloader on one process: copies that nobody else feeds.

    Args:
        metrics: By name.
        device: Where they count.
    """

    def __init__(self, metrics: Mapping[str, Metric], device: torch.device) -> None:
        self._metrics = {name: metric.clone().to(device) for name, metric in metrics.items()}
        for metric in self._metrics.values():
            metric.reset()

    def __bool__(self) -> bool:
        return bool(self._metrics)

    def update(self, mask: Tensor, known: Mapping[str, Any]) -> None:
        """Feed all metrics with a batch.

        Args:
            mask: (N,) bool, the samples that count. A metric whose `update` takes no mask is given these alone.
            known: What is known of the batch, see `check_metrics`.
        """
        rows = mask.nonzero()[:, 0] if self._metrics else None
        for name, metric in self._metrics.items():
            takes = _takes(metric)
            given = {key: value for key, value in known.items() if key in takes}
            lost = [key for key, required in takes.items() if required and key not in (*given, "mask")]
            if lost:
                raise ValueError(
                    f"Expected an evaluation that knows what `metrics[{name!r}]` needs, but `{lost[0]}` is not known "
                    "here: give the attacks by name, RobustEvaluation({'pgd': ...}, metrics=...)."
                )
            if "mask" in takes:
                _feed(metric, given | {"mask": mask})
            elif rows is not None and len(rows):
                _feed(metric, {key: _cut(key, value, rows) for key, value in given.items()})

    def values(self) -> dict[str, float]:
        """The value of each metric by its name, several values as `<name>_<key>`. All processes ask together."""
        found: dict[str, float] = {}
        for name, metric in self._metrics.items():
            _flatten(name, metric.compute(), found)
        return found


def _cut(key: str, value: Any, rows: Tensor) -> Any:
    """Some samples of a value; those of `correct` and `fooled` are in the second dimension."""
    if not isinstance(value, Tensor):
        return value
    return value[:, rows] if key in _ALONG_THE_SECOND else value[rows]


def _flatten(name: str, value: Any, into: dict[str, float]) -> None:
    if isinstance(value, Mapping):
        for key, part in value.items():
            _flatten(f"{name}_{key}", part, into)
    elif isinstance(value, list | tuple) or (isinstance(value, Tensor) and value.ndim):
        for number, part in enumerate(value):
            _flatten(f"{name}_{number}", part, into)
    else:
        into[name] = float(value)
