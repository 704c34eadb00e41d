"""The quickest of several settings of an attack: timed in turns on a batch, chosen once, by one process for all."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

_S = TypeVar("_S")

ROUNDS = 3


@dataclass
class Choice:
    """What was chosen, shared by an attack and what is made of it (`scaled`, schedules).

    Args:
        value: Name of an argument -> its value; None: nothing has been chosen yet.
        told: Has somebody been told?
    """

    value: dict[str, Any] | None = None
    told: bool = False


def quickest(settings: Sequence[_S], run: Callable[[_S], Any], device: torch.device) -> tuple[_S, list[float]]:
    """The setting of the least median time, and the medians in seconds; process 0 decides for all.

    Every setting runs once before, to compile and to fill caches; then all have their turns, round by round. What is
    compiled in the first of these (a whole step of an attack) the median does not see.
    """
    times: list[list[float]] = [[] for _ in settings]
    for round_ in range(ROUNDS + 1):
        for setting, of_setting in zip(settings, times, strict=True):
            _wait(device)
            start = time.perf_counter()
            run(setting)
            _wait(device)
            if round_:
                of_setting.append(time.perf_counter() - start)
    medians = [sorted(of_setting)[ROUNDS // 2] for of_setting in times]
    best = torch.tensor(min(range(len(settings)), key=medians.__getitem__), device=device)
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.broadcast(best, src=0)
    return settings[int(best)], medians


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def choices(attack: Any) -> list[Choice]:
    """What an attack and its parts have chosen or are to choose, in order."""
    own = getattr(attack, "choice", None)
    parts = [choice for part in getattr(attack, "parts", ()) for choice in choices(part)]
    return [own, *parts] if isinstance(own, Choice) else parts


def state_of(attack: Any) -> dict[str, Any]:
    """What a checkpoint keeps of an attack: what was chosen, or nothing."""
    values = [choice.value for choice in choices(attack)]
    return {"choices": values} if any(values) else {}


def restore(attack: Any, state: dict[str, Any]) -> None:
    """Choose as in the run that wrote the checkpoint."""
    for choice, value in zip(choices(attack), state.get("choices", []), strict=False):
        choice.value = value


def news(attack: Any) -> list[str]:
    """What has been chosen since the last time, in words."""
    fresh = [choice for choice in choices(attack) if choice.value is not None and not choice.told]
    for choice in fresh:
        choice.told = True
    return [", ".join(f"{name}={value!r}" for name, value in (c.value or {}).items()) for c in fresh]
