"""What the theory study computes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lightning_robust._checks import count, counts, number, values
from lightning_robust_studies.schmidt2018.grid import DIMENSIONS, RADII

PRESETS = {name: Path(__file__).parent / "presets" / f"{name}.yaml" for name in ("quick", "precise")}
"""The files of the presets: "quick" takes seconds and holds the defaults, "precise" has narrower intervals."""

_MOST_WORK = 10**10
_FEWEST = 1e-7


@dataclass(frozen=True, kw_only=True)
class TheorySettings:
    """What the study computes; every field is an option of `lightning-robust study theory`.

    Args:
        out: folder of the results.
        dimensions: over which the need for samples grows; at least two.
        radii: of the sweep over dimensions, strictly between 0 and 1.
        sigma_scale: c in sigma = c d^(1/4), the noise of the Gaussian model.
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
    sigma_scale: float = 0.5
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
        for name, least in (("dimensions", 2), ("samples", 1)):
            object.__setattr__(self, name, tuple(sorted(set(counts(name, vars(self)[name], least)))))
        radii = values("radii", self.radii, 0, 1, above=True, below=True)
        object.__setattr__(self, "radii", tuple(sorted(set(radii))))
        for name, least in (("repeats", 2), ("d", 2), ("draws", 2), ("self_training_d", 2), ("labels", 1), ("seed", 0)):
            count(name, vars(self)[name], least)
        for name, most in (("eps", 1.0), ("target", 0.5), ("tau_ratio", 2.0), ("self_training_eps", 0.5)):
            number(name, vars(self)[name], 0, most, above=True, below=True)
        number("sigma_scale", self.sigma_scale, 0, above=True)
        number("tau_scale", self.tau_scale, 0, min(*self.dimensions, self.d) ** 0.25 / 2, above=True, below=True)
        if len(self.dimensions) < 2:
            raise ValueError(f"Expected argument `dimensions` to be two numbers or more, but got {self.dimensions}.")
        if self.d**2 * max(self.samples) > _MOST_WORK:
            raise ValueError(
                "Expected argument `d` to be such that d^2 times the largest of `samples` is at most "
                f"{_MOST_WORK:.0e}, but got {self.d}."
            )
        self._check_sizes()

    def _check_sizes(self) -> None:
        """The target can be reached at every dimension, and the numbers of samples can be told from 0."""
        import torch

        from lightning_robust_studies.schmidt2018.theory import n_robust_large_d, n_standard_large_d, optimal_error

        d = min(self.dimensions)
        sigma, low, high = self.sigma_scale * d**0.25, min(self.radii), max(self.radii)
        best = float(optimal_error(torch.ones(d), sigma, high))
        if self.target <= best:
            raise ValueError(
                f"Expected argument `target` to be above {best:.3g}, the least error at d = {d} and eps = {high:g} "
                f"however many samples there are, but got {self.target}."
            )
        if min(n_standard_large_d(self.target, d, sigma), n_robust_large_d(0.5, d, sigma, low)) <= _FEWEST:
            raise ValueError(
                f"Expected argument `sigma_scale` to be so large that more than {_FEWEST:g} samples are needed at "
                f"d = {d} and eps = {low:g}, but got {self.sigma_scale}."
            )
