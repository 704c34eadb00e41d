"""What the theory study computes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from lightning_robust._command import SettingsError
from lightning_robust_studies.schmidt2018.theory import (
    DIMENSIONS,
    RADII,
    n_robust_large_d,
    n_standard_large_d,
    optimal_error,
)


@dataclass(frozen=True, kw_only=True)
class TheorySettings:
    """What the study computes; every field is an option of `lightning-robust study theory`.

    Args:
        out: folder of the results.
        dimensions: over which the need for samples grows; at least two.
        radii: of the sweep over dimensions, strictly between 0 and 1.
        scale: c in sigma = c d^(1/4), the noise of the Gaussian model.
        target: the error that "enough samples" stands for.
        repeats: sweeps over the dimensions with other draws of the training samples; the intervals are over these.
        d: the dimension of what is shown over samples and radii; d^2 times the largest of `samples` is bounded, as the
            errors of the Bernoulli model are exact.
        eps: the radius there, strictly between 0 and 1.
        samples: numbers of training samples, where they must be whole.
        draws: training sets behind a mean.
        tau_scale: c in tau = c d^(-1/4), the signal of the Bernoulli model.
        tau_ratio: the radius there in units of tau; from 2 on, no linear classifier is robust.
        self_training_d: the dimension of self-training.
        self_training_eps: its radius, strictly between 0 and 1/2.
        labels: of self-training; the noise is (d labels)^(1/4), as in Carmon et al.
        seed: of all draws.
    """

    out: str = "runs/theory"
    dimensions: Sequence[int] = DIMENSIONS
    radii: Sequence[float] = RADII
    scale: float = 0.5
    target: float = 0.01
    repeats: int = 5
    d: int = 1024
    eps: float = 0.5
    samples: Sequence[int] = (1, 2, 4, 8, 16)
    draws: int = 64
    tau_scale: float = 0.8
    tau_ratio: float = 1.0
    self_training_d: int = 4096
    self_training_eps: float = 0.25
    labels: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("dimensions", "radii", "samples"):
            object.__setattr__(self, name, tuple(sorted(set(vars(self)[name]))))
            _require(len(vars(self)[name]) > 0, name, "not empty", "nothing")
        _require(len(self.dimensions) >= 2, "dimensions", "two numbers or more", self.dimensions)
        for name, least in _LEAST.items():
            for value in _each(vars(self)[name]):
                whole = isinstance(value, int) and not isinstance(value, bool)
                _require(whole and value >= least, name, f"a whole number of at least {least}", value)
        for name, most in _MOST.items():
            for value in _each(vars(self)[name]):
                _require(0 < value < most, name, f"strictly between 0 and {most:g}", value)
        _require(0 < self.scale < float("inf"), "scale", "positive and finite", self.scale)
        least_d = min(*self.dimensions, self.d)
        most = least_d**0.25 / 2
        _require(0 < self.tau_scale < most, "tau_scale", f"positive and below d^(1/4) / 2 = {most:.6g}", self.tau_scale)
        work = self.d**2 * max(self.samples)
        _require(
            work <= _MOST_WORK, "d", f"such that d^2 times the largest of `samples` is at most {_MOST_WORK:.0e}", self.d
        )
        self._target_can_be_reached()
        self._samples_can_be_told_from_none()

    def _target_can_be_reached(self) -> None:
        d, eps = min(self.dimensions), max(self.radii)
        best = float(optimal_error(torch.ones(d), self.scale * d**0.25, eps))
        expectation = f"above {best:.3g}, the least error at d = {d} and eps = {eps:g} however many samples there are"
        _require(self.target > best, "target", expectation, self.target)

    def _samples_can_be_told_from_none(self) -> None:
        d, eps = min(self.dimensions), min(self.radii)
        sigma = self.scale * d**0.25
        least = min(n_standard_large_d(self.target, d, sigma), n_robust_large_d(0.5, d, sigma, eps))
        expectation = f"so large that more than {_FEWEST:g} samples are needed at d = {d} and eps = {eps:g}"
        _require(least > _FEWEST, "scale", expectation, self.scale)


_MOST_WORK = 10**10
_FEWEST = 1e-7
_LEAST = {
    "dimensions": 2,
    "repeats": 2,
    "d": 2,
    "samples": 1,
    "draws": 2,
    "self_training_d": 2,
    "labels": 1,
    "seed": 0,
}
_MOST = {"radii": 1.0, "eps": 1.0, "target": 0.5, "tau_ratio": 2.0, "self_training_eps": 0.5}

PRESETS = {name: Path(__file__).parent / "presets" / f"{name}.yaml" for name in ("quick", "precise")}
"""The files of the presets: "quick" takes seconds and holds the defaults, "precise" has narrower intervals."""


def _each(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _require(holds: bool, name: str, expectation: str, value: object) -> None:
    if not holds:
        raise SettingsError(f"Expected argument `{name}` to be {expectation}, but got {value}.")
