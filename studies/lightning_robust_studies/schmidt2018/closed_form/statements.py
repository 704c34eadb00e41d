"""Every statement of the theory, asked at one setting: what it says there, or why not."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from lightning_robust_studies.schmidt2018.theory import (
    Guarantee,
    carmon_labels,
    carmon_labels_lower,
    carmon_unlabelled,
    corollary_19,
    corollary_22,
    corollary_22_samples,
    corollary_23,
    corollary_28,
    theorem_4,
    theorem_5,
    theorem_6,
    theorem_8,
    theorem_9,
    theorem_10,
    theorem_11,
    theorem_18,
    theorem_21,
    theorem_27,
    theorem_31,
)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Where the statements are asked.

    Args:
        d: the dimension.
        n: the number of samples.
        scale: c in sigma = c d^(1/4), the noise of the Gaussian model.
        eps: the radius in the Gaussian model.
        target: the error beta that is asked for.
        tau_scale: c in tau = c d^(-1/4), the signal of the Bernoulli model.
        tau_ratio: the radius in the Bernoulli model, in units of tau.
        gamma: of Theorems 9 and 31.
        labels: n0 of Carmon et al.
    """

    d: int
    n: int
    scale: float
    eps: float
    target: float
    tau_scale: float
    tau_ratio: float
    gamma: float = 0.25
    labels: int = 1

    @property
    def sigma(self) -> float:
        """The noise of a coordinate in the Gaussian model."""
        return self.scale * self.d**0.25

    @property
    def tau(self) -> float:
        """The signal of a coordinate in the Bernoulli model."""
        return self.tau_scale * self.d**-0.25

    @property
    def tau_eps(self) -> float:
        """The radius in the Bernoulli model."""
        return self.tau_ratio * self.tau

    def text(self) -> str:
        """The setting in a line.

        Example:
            >>> Setting(d=16, n=1, scale=0.5, eps=0.25, target=0.01, tau_scale=0.8, tau_ratio=1.0).text()
            'd = 16, n = 1; Gaussian: sigma = 1, eps = 0.25; Bernoulli: tau = 0.4, eps = 0.4; beta = 0.01, gamma = 0.25'
        """
        return (
            f"d = {self.d:,}, n = {self.n:,}; Gaussian: sigma = {self.sigma:.4g}, eps = {self.eps:.4g}; "
            f"Bernoulli: tau = {self.tau:.4g}, eps = {self.tau_eps:.4g}; beta = {self.target:g}, gamma = {self.gamma:g}"
        )


@dataclass(frozen=True)
class Statement:
    """A theorem or corollary.

    Args:
        name: its number in the paper.
        says: what it says.
        condition: when.
        here: what it says at a setting, by the function of `schmidt2018.theory`; a ValueError where it does not
            hold.
    """

    name: str
    says: str
    condition: str
    here: Callable[[Setting], str]


def applies(statement: Statement, setting: Setting) -> tuple[bool, str]:
    """Whether a statement's conditions hold at a setting, and what it says there or which condition fails.

    Example:
        >>> setting = Setting(d=16, n=9, scale=0.5, eps=0.25, target=0.01, tau_scale=0.8, tau_ratio=1.0)
        >>> for name in ("Theorem 11", "Corollary 23"):
        ...     print(applies(next(each for each in STATEMENTS if each.name == name), setting))
        (True, 'error at least 6.07e-12')
        (False, 'refuses: n must be at most eps^2 sigma^2 / (8 log d) = 0.002818, but got 9')
    """
    try:
        return True, statement.here(setting)
    except ValueError as error:
        reason = str(error).removeprefix("Expected argument ").replace(" to be ", " must be ", 1).replace("`", "")
        return False, f"refuses: {re.sub(_LONG, lambda found: f'{float(found[0]):.4g}', reason).rstrip('.')}"


_LONG = re.compile(r"\d+\.\d{4,}(?:e[-+]?\d+)?")


def settings_of(study: Setting) -> dict[str, Setting]:
    """The study's setting, and two at which what it refuses applies: little noise for upper bounds, much for lower."""
    eps = min(study.eps, 0.25)
    enough = math.ceil(corollary_22_samples(study.d, eps))
    little = {"n": enough, "scale": 1 / 32, "eps": eps, "tau_scale": 1.25}
    much = {"d": 2**16, "n": 1, "scale": 4.0, "eps": 0.5, "tau_scale": 0.04, "tau_ratio": 2.9}
    return {
        "the study's setting": study,
        "little noise": Setting(**{**vars(study), **little}),
        "much noise": Setting(**{**vars(study), **much}),
    }


def _upper(guarantee: Guarantee) -> str:
    missed = 1 - guarantee.probability
    if missed >= 1:
        return "nothing: the probability is 0, as there are too few dimensions"
    chance = f"at most {missed:.2g}" if missed > 0 else "below 1e-15"
    return f"error at most {guarantee.error:.3g}, but for a probability {chance}"


def _lower(error: float) -> str:
    return f"error at least {error:.3g}" if error >= 1e-15 else "nothing: the bound is below 1e-15"


STATEMENTS = (
    Statement(
        "Theorem 4",
        "one sample gives a standard error of 1 %",
        "sigma <= d^(1/4) / (5 sqrt(log 100))",
        lambda s: _upper(theorem_4(s.d, s.sigma)),
    ),
    Statement(
        "Theorem 5",
        "a number of samples in proportion to eps^2 sqrt(d) gives a robust error of 1 %",
        "that of Corollary 22",
        lambda s: _upper(theorem_5(s.n, s.d, s.sigma, s.eps)),
    ),
    Statement(
        "Theorem 6",
        "with fewer samples than order eps^2 sqrt(d) / log d no learner does better than (1 - 1/d) / 2",
        "n <= c^2 eps^2 sqrt(d) / (8 log d) at sigma = c d^(1/4)",
        lambda s: _lower(theorem_6(s.n, s.d, s.scale, s.eps)),
    ),
    Statement(
        "Theorem 8",
        "one sample gives a standard error of 1 % (Bernoulli)",
        "tau >= (log(100) / (2 d))^(1/4), tau <= 1/2",
        lambda s: _upper(theorem_8(s.d, s.tau)),
    ),
    Statement(
        "Theorem 9",
        "with fewer samples than order eps^2 d / log d no learner of linear classifiers does better than 1/2 - gamma",
        "that of Theorem 31 at tau = c d^(-1/4)",
        lambda s: _lower(theorem_9(s.n, s.d, s.tau_scale, s.tau_eps, s.gamma)),
    ),
    Statement(
        "Theorem 10",
        "behind the threshold, one sample gives a robust error of 1 % at every eps < 1",
        "that of Theorem 8, eps < 1",
        lambda s: _upper(theorem_10(s.d, s.tau, s.tau_eps)),
    ),
    Statement(
        "Theorem 11",
        "no learner does better than (2 Phi(eps sqrt((sigma^2 + n) / n)) - 1)^d / 2",
        "none",
        lambda s: _lower(float(theorem_11(s.n, s.d, s.sigma, s.eps))),
    ),
    Statement(
        "Theorem 18",
        "the standard error of the mean is at most exp(-(2 sqrt n - 1)^2 d / (2 (2 sqrt n + 4 sigma)^2 sigma^2))",
        "n >= 1/4",
        lambda s: _upper(theorem_18(s.n, s.d, s.sigma)),
    ),
    Statement(
        "Corollary 19",
        "one sample gives a standard error of beta",
        "sigma <= d^(1/4) / (5 sqrt(log(1 / beta)))",
        lambda s: _upper(corollary_19(s.d, s.sigma, s.target)),
    ),
    Statement(
        "Theorem 21",
        "the robust error of the mean is at most beta",
        "eps <= (2 sqrt n - 1) / (2 sqrt n + 4 sigma) - sigma sqrt(2 log(1 / beta) / d)",
        lambda s: _upper(theorem_21(s.n, s.d, s.sigma, s.eps, s.target)),
    ),
    Statement(
        "Corollary 22",
        "the robust error of the mean is at most 1 %",
        "sigma <= d^(1/4) / 32, eps <= 1/4, n >= 64 eps^2 sqrt(d) (n >= 1 for eps <= d^(-1/4) / 4)",
        lambda s: _upper(corollary_22(s.n, s.d, s.sigma, s.eps)),
    ),
    Statement(
        "Corollary 23",
        "no learner does better than (1 - 1/d) / 2",
        "n <= eps^2 sigma^2 / (8 log d)",
        lambda s: _lower(corollary_23(s.n, s.d, s.sigma, s.eps)),
    ),
    Statement(
        "Theorem 27",
        "the standard error from one sample is at most exp(-2 tau^4 d) (Bernoulli)",
        "none",
        lambda s: _upper(theorem_27(s.d, s.tau)),
    ),
    Statement(
        "Corollary 28",
        "one sample gives a standard error of beta (Bernoulli)",
        "tau >= (log(1 / beta) / (2 d))^(1/4)",
        lambda s: _upper(corollary_28(s.d, s.tau, s.target)),
    ),
    Statement(
        "Theorem 31",
        "no learner of linear classifiers does better than 1/2 - gamma (Bernoulli)",
        "n <= eps^2 gamma^2 / (5000 tau^4 log(4 d / gamma)), eps < 3 tau, tau <= 1/4, gamma < 1/2",
        lambda s: _lower(theorem_31(s.n, s.d, s.tau, s.tau_eps, s.gamma)),
    ),
    Statement(
        "Carmon et al., Theorem 1",
        "without unlabelled data, no learner does better than (1 - 1/d) / 2 with so few labels",
        "sigma = (d n0)^(1/4)",
        lambda s: f"up to {carmon_labels_lower(s.d, s.labels, s.eps):.3g} labels",
    ),
    Statement(
        "Carmon et al., Proposition 1",
        "so many labels give a robust error of 0.001",
        "sigma = (d n0)^(1/4), eps < 1/2, eps^2 sqrt(d / n0) above a constant that is not given",
        lambda s: f"{carmon_labels(s.d, s.labels, s.eps):,.4g} labels",
    ),
    Statement(
        "Carmon et al., Theorem 2",
        "n0 labels and so many unlabelled points give a robust error of 0.001",
        "sigma = (d n0)^(1/4), eps < 1/2, eps^2 sqrt(d / n0) above a constant that is not given",
        lambda s: f"{carmon_unlabelled(s.d, s.labels, s.eps):,.4g} unlabelled points",
    ),
)
"""In the order of the paper; those of the Bernoulli model say so, all others are of the Gaussian model."""
