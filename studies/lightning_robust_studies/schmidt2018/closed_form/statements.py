"""Every statement of the theory, asked at three points: what it says there, or which condition fails."""

import math
import re
from dataclasses import asdict, dataclass, replace

import pandas as pd

from lightning_robust_studies.schmidt2018.closed_form.settings import TheorySettings
from lightning_robust_studies.schmidt2018.theory import STATEMENTS, Guarantee, Statement

_LONG = re.compile(r"\d+\.\d{4,}(?:e[-+]?\d+)?")


@dataclass(frozen=True, kw_only=True)
class Point:
    """Where the statements are asked.

    Args:
        d: the dimension.
        n: the number of samples.
        sigma_scale: c in sigma = c d^(1/4), the noise of the Gaussian model.
        eps: the radius in the Gaussian model.
        beta: the error that is asked for.
        tau_scale: c in tau = c d^(-1/4), the signal of the Bernoulli model.
        tau_ratio: the radius in the Bernoulli model, in units of tau.
        gamma: of Theorems 9 and 31.
        n0: the labels of Carmon et al.
    """

    d: int
    n: int
    sigma_scale: float
    eps: float
    beta: float
    tau_scale: float
    tau_ratio: float
    gamma: float = 0.25
    n0: int = 1

    def values(self, model: str) -> dict[str, float]:
        """The arguments that statements on a model take here."""
        sigma, tau = self.sigma_scale * self.d**0.25, self.tau_scale * self.d**-0.25
        eps = self.tau_ratio * tau if model == "Bernoulli" else self.eps
        return {**asdict(self), "sigma": sigma, "tau": tau, "eps": eps}

    def __str__(self) -> str:
        gaussian, bernoulli = self.values("Gaussian"), self.values("Bernoulli")
        return (
            f"d = {self.d:,}, n = {self.n:,}; Gaussian: sigma = {gaussian['sigma']:.4g}, eps = {gaussian['eps']:.4g}; "
            f"Bernoulli: tau = {bernoulli['tau']:.4g}, eps = {bernoulli['eps']:.4g}; beta = {self.beta:g}, "
            f"gamma = {self.gamma:g}"
        )


def points_of(o: TheorySettings) -> dict[str, Point]:
    """The study's point, and two at which what it refuses applies: little noise for upper bounds, much for lower."""
    study = Point(
        d=o.d,
        n=max(o.samples),
        sigma_scale=o.sigma_scale,
        eps=o.eps,
        beta=o.target,
        tau_scale=o.tau_scale,
        tau_ratio=o.tau_ratio,
        n0=o.labels,
    )
    eps = min(study.eps, 0.25)
    enough = math.ceil(STATEMENTS["Corollary 22"].limit("n", d=study.d, sigma=study.d**0.25 / 32, eps=eps))
    return {
        "the study's setting": study,
        "little noise": replace(study, n=enough, sigma_scale=1 / 32, eps=eps, tau_scale=1.25),
        "much noise": replace(study, d=2**16, n=1, sigma_scale=4.0, eps=0.5, tau_scale=0.04, tau_ratio=2.9),
    }


def applies(statement: Statement, point: Point) -> tuple[bool, str]:
    """Whether a statement's conditions hold at a point, and what it says there or which condition fails.

    Example:
        >>> point = Point(d=16, n=9, sigma_scale=0.5, eps=0.25, beta=0.01, tau_scale=0.8, tau_ratio=1.0)
        >>> for name in ("Theorem 11", "Corollary 23"):
        ...     print(applies(STATEMENTS[name], point))
        (True, 'error at least 6.07e-12')
        (False, 'refuses: n must be at most eps^2 sigma^2 / (8 log d) = 0.002818, but got 9')
    """
    values = point.values(statement.model)
    try:
        value = statement(**{name: values[name] for name in statement.arguments})
    except ValueError as error:
        reason = str(error).removeprefix("Expected argument ").replace(" to be ", " must be ", 1).replace("`", "")
        return False, f"refuses: {_LONG.sub(lambda digits: f'{float(digits[0]):.4g}', reason).rstrip('.')}"
    if not isinstance(value, Guarantee) and value < 1e-15:
        return True, "nothing: the bound is below 1e-15"
    return True, statement.reads.format(value)


def statement_table(o: TheorySettings) -> pd.DataFrame:
    """Every theorem and corollary, its conditions, what it says at three points, and who has checked a proof."""
    return pd.DataFrame(
        {
            "statement": statement.name,
            "model": statement.model,
            "says": statement.says,
            "where": statement.where,
            **{name: applies(statement, point)[1] for name, point in points_of(o).items()},
            "checked by machine": statement.machine_checked or "–",
        }
        for name, statement in STATEMENTS.items()
        if not name.startswith(("Fact", "Lemma"))
    )


def notes() -> list[str]:
    """Where the wording of a statement is not what holds, and what its constants leave open."""
    return [f"{name}: {statement.note}" for name, statement in STATEMENTS.items() if statement.note]
