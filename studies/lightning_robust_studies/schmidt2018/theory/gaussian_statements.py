r"""The statements on the Gaussian model: those of Schmidt et al. (2018), and those of Carmon et al. (2019).

In the upper bounds :math:`\|\theta^*\|_2 = \sqrt d` and the learner is the mean estimator
:math:`\hat w = \bar z / \|\bar z\|_2`. The lower bounds hold for any learner; they are on the expectation over
:math:`\theta^* \sim N(0, I_d)`, the samples and the test point. See `statements`.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lightning_robust._checks import count, number
from lightning_robust_studies.schmidt2018.theory._check import open_interval, require, same_size, vector
from lightning_robust_studies.schmidt2018.theory._statement import (
    NOT_NEGATIVE,
    POSITIVE,
    Check,
    Condition,
    Guarantee,
    Statement,
    Value,
)
from lightning_robust_studies.schmidt2018.theory.gaussian import dual_norm
from lightning_robust_studies.schmidt2018.theory.gaussian_curves import error_floor, error_floor_samples

_MEAN: Mapping[str, Check] = {"n": POSITIVE, "d": count, "sigma": POSITIVE}
_ANY: Mapping[str, Check] = {"n": NOT_NEGATIVE, "d": count, "sigma": POSITIVE, "eps": NOT_NEGATIVE}
_N0: Mapping[str, Check] = {"d": count, "n0": POSITIVE, "eps": NOT_NEGATIVE}


def _ratio(a: Any) -> float:
    """The alignment of Lemma 16 in units of sqrt d."""
    return (2 * math.sqrt(a.n) - 1) / (2 * math.sqrt(a.n) + 4 * a.sigma)


def _failure(a: Any) -> float:
    """The probability of missing the alignment of Lemma 16; it may exceed 1."""
    return 2 * math.exp(-a.d / (8 * (a.sigma**2 + 1)))


def _tail(margin: float, sigma: float) -> float:
    return math.exp(-(margin**2) / (2 * sigma**2))


def _but_for_failure(error: Value | float) -> Value:
    return lambda a: Guarantee(error(a) if callable(error) else error, max(0.0, 1 - _failure(a)))


def _weights(name: str, value: Tensor) -> Tensor:
    w = vector(name, value)
    require(bool(w.any()), name, "not zero", value)
    return w


def _aligned(a: Any) -> Tensor:
    same_size("theta", a.theta, a.w)
    return (a.w * a.theta).sum()


def _margin_20(a: Any) -> float:
    return float((_aligned(a) - a.eps * dual_norm(a.w, a.p)) / torch.linalg.vector_norm(a.w))


def _samples_22(a: Any) -> float:
    return 1.0 if a.eps <= 0.25 * a.d**-0.25 else 64 * a.eps**2 * math.sqrt(a.d)


def _carmon(a: Any) -> float:
    return a.n0 * a.eps**2 * math.sqrt(a.d / a.n0)


# ---- the appendix

_FACT_12 = Statement(
    name="Fact 12",
    says="the length of z ~ N(0, sigma^2 I) reaches sigma sqrt(d) + t with a probability of at most "
    "exp(-t^2 / (2 sigma^2))",
    source="p. 22",
    arguments={"t": number, "sigma": POSITIVE},
    conditions=(Condition("t", ">=", "0", 0.0),),
    value=lambda a: _tail(a.t, a.sigma),
    reads="probability at most {:.3g}",
    note="The paper gives no range of t. For t < 0 the bound is false: at t = -sigma sqrt(d) the probability is 1.",
)
_LEMMA_13 = Statement(
    name="Lemma 13",
    says="the mean of n samples of N(mu, sigma^2 I), norm = |mu|, reaches this length with a probability of at most "
    "delta: norm + sigma (sqrt(d) + sqrt(2 log(1 / delta))) / sqrt(n)",
    source="p. 22",
    arguments={**_MEAN, "norm": NOT_NEGATIVE, "delta": open_interval},
    value=lambda a: a.norm + a.sigma * (math.sqrt(a.d) + math.sqrt(2 * math.log(1 / a.delta))) / math.sqrt(a.n),
    reads="length {:.3g}",
)
_LEMMA_14 = Statement(
    name="Lemma 14",
    says="for |mu| = sqrt(d) the mean of n samples reaches the length (1 + 2 sigma / sqrt(n)) sqrt(d) with a "
    "probability of at most exp(-d / 2)",
    source="p. 23",
    arguments=_MEAN,
    value=lambda a: ((1 + 2 * a.sigma / math.sqrt(a.n)) * math.sqrt(a.d), math.exp(-a.d / 2)),
    reads="length {0[0]:.3g}, probability at most {0[1]:.3g}",
)
_LEMMA_15 = Statement(
    name="Lemma 15",
    says="the inner product of the mean of n samples with mu, norm = |mu|, is at most this with a probability of at "
    "most delta: norm^2 - sigma norm sqrt(2 log(1 / delta) / n)",
    source="p. 23",
    arguments={"n": POSITIVE, "sigma": POSITIVE, "norm": NOT_NEGATIVE, "delta": open_interval},
    conditions=(Condition("norm", ">", "0", 0.0),),
    value=lambda a: a.norm**2 - a.sigma * a.norm * math.sqrt(2 * math.log(1 / a.delta) / a.n),
    reads="inner product {:.3g}",
    note="The paper allows mu = 0. There the lemma is false: the inner product is 0, at most 0 with probability 1.",
)
_LEMMA_16 = Statement(
    name="Lemma 16",
    says="the alignment <w, mu> of the mean estimator is at most (2 sqrt(n) - 1) / (2 sqrt(n) + 4 sigma) sqrt(d) with "
    "a probability of at most 2 exp(-d / (8 (sigma^2 + 1)))",
    source="p. 23",
    arguments=_MEAN,
    conditions=(Condition("n", ">=", "1/4", 0.25),),
    value=lambda a: (_ratio(a) * math.sqrt(a.d), _failure(a)),
    reads="alignment {0[0]:.3g}, missed with a probability of at most {0[1]:.3g}",
    note="The paper has n >= 1, for samples; for n < 1/4, where the alignment is below 0, the lemma is false.",
)
_LEMMA_17 = Statement(
    name="Lemma 17",
    says="for |w| = 1, z ~ N(mu, sigma^2 I) and alignment = <w, mu>, the margin <w, z> is at most rho with a "
    "probability of at most exp(-(alignment - rho)^2 / (2 sigma^2))",
    source="between pp. 23 and 25",
    arguments={"alignment": number, "rho": NOT_NEGATIVE, "sigma": POSITIVE},
    conditions=(Condition("alignment", ">=", "rho", lambda a: a.rho),),
    value=lambda a: _tail(a.alignment - a.rho, a.sigma),
    reads="probability at most {:.3g}",
)
_THEOREM_18 = Statement(
    name="Theorem 18",
    says="the standard error of the mean is at most exp(-(2 sqrt n - 1)^2 d / (2 (2 sqrt n + 4 sigma)^2 sigma^2))",
    source="Lemmas 16 and 17 with rho = 0",
    arguments=_MEAN,
    conditions=(Condition("n", ">=", "1/4", 0.25),),
    value=_but_for_failure(lambda a: _tail(_ratio(a) * math.sqrt(a.d), a.sigma)),
)
_COROLLARY_19 = Statement(
    name="Corollary 19",
    says="one sample gives a standard error of beta",
    source="from Theorem 18",
    arguments={"d": count, "sigma": POSITIVE, "beta": open_interval},
    conditions=(
        Condition(
            "sigma", "<=", "d^(1/4) / (5 sqrt(log(1 / beta)))",
            lambda a: a.d**0.25 / (5 * math.sqrt(math.log(1 / a.beta))),
        ),
    ),
    value=_but_for_failure(lambda a: a.beta),
)  # fmt: skip
_LEMMA_20 = Statement(
    name="Lemma 20",
    says="the l_p-robust error of a linear classifier, |w| = 1, is at most "
    "exp(-(<w, theta> - eps norm_q(w))^2 / (2 sigma^2)) with 1/p + 1/q = 1; w of any length is scaled",
    source="p. 25",
    arguments={
        "w": _weights, "theta": vector, "sigma": POSITIVE, "eps": NOT_NEGATIVE,
        "p": partial(number, low=1, finite=False),
    },
    conditions=(Condition("eps", "<=", "<w, theta> / norm_q(w)", lambda a: float(_aligned(a) / dual_norm(a.w, a.p))),),
    value=lambda a: _tail(_margin_20(a), a.sigma),
    reads="error at most {:.3g}",
)  # fmt: skip
_THEOREM_21 = Statement(
    name="Theorem 21",
    says="the robust error of the mean is at most beta",
    source="p. 26",
    arguments={**_MEAN, "eps": NOT_NEGATIVE, "beta": open_interval},
    conditions=(
        Condition(
            "eps", "<=", "(2 sqrt n - 1) / (2 sqrt n + 4 sigma) - sigma sqrt(2 log(1 / beta) / d)",
            lambda a: _ratio(a) - a.sigma * math.sqrt(2 * math.log(1 / a.beta) / a.d),
        ),
    ),
    value=_but_for_failure(lambda a: a.beta),
    machine_checked="Lean",
)  # fmt: skip
_COROLLARY_22 = Statement(
    name="Corollary 22",
    says="the robust error of the mean is at most 1 %",
    source="p. 27",
    arguments={**_MEAN, "eps": NOT_NEGATIVE},
    conditions=(
        Condition("eps", "<=", "1/4", 0.25),
        Condition("sigma", "<=", "d^(1/4) / 32", lambda a: a.d**0.25 / 32),
        Condition("n", ">=", "64 eps^2 sqrt(d), or 1 for eps <= d^(-1/4) / 4", _samples_22),
    ),
    value=_but_for_failure(0.01),
    machine_checked="Lean",
)
_THEOREM_11 = Statement(
    name="Theorem 11",
    says="no learner does better than (2 Phi(eps sqrt((sigma^2 + n) / n)) - 1)^d / 2",
    source="p. 28, with the probability written out",
    arguments=_ANY,
    value=lambda a: float(error_floor(a.n, a.d, a.sigma, a.eps)),
    reads="error at least {:.3g}",
    inverse={"n": error_floor_samples},
    note="Page 28 prints the mean of the samples as their sum. The posterior mean n / (sigma^2 + n) times the mean is "
    "meant; with the sum it would be n times too long.",
)
_COROLLARY_23 = Statement(
    name="Corollary 23",
    says="no learner does better than (1 - 1/d) / 2",
    source="p. 30",
    arguments={**_ANY, "d": partial(count, least=2)},
    conditions=(
        Condition(
            "n", "<=", "eps^2 sigma^2 / (8 log d)", lambda a: a.eps**2 * a.sigma**2 / (8 * math.log(a.d))
        ),
    ),
    value=lambda a: (1 - 1 / a.d) / 2,
    reads="error at least {:.3g}",
    machine_checked="Lean",
)  # fmt: skip

# ---- self-training

_CARMON_1 = Statement(
    name="Carmon et al., Theorem 1",
    says="without unlabeled data, no learner does better than (1 - 1/d) / 2 with so few labels, sigma = (d n0)^(1/4)",
    source="Carmon et al. 2019; Corollary 23 at that noise",
    arguments={**_N0, "d": partial(count, least=2)},
    value=lambda a: _carmon(a) / (8 * math.log(a.d)),
    reads="up to {:.3g} labels",
)
_CARMON_PROPOSITION_1 = Statement(
    name="Carmon et al., Proposition 1",
    says="this number of labels gives a robust error of 0.001, sigma = (d n0)^(1/4)",
    source="Carmon et al. 2019",
    arguments={**_N0, "eps": POSITIVE},
    conditions=(Condition("eps", "<", "1/2", 0.5),),
    value=lambda a: 4 * _carmon(a),
    reads="{:,.4g} labels",
    note="It holds where eps^2 sqrt(d / n0) exceeds a universal constant that the paper does not give.",
)
_CARMON_2 = replace(
    _CARMON_PROPOSITION_1,
    name="Carmon et al., Theorem 2",
    says="n0 labels and this number of unlabeled points give a robust error of 0.001, sigma = (d n0)^(1/4)",
    value=lambda a: 288 * _carmon(a),
    reads="{:,.4g} unlabeled points",
)

# ---- the main text

_THEOREM_4 = replace(
    _COROLLARY_19,
    name="Theorem 4",
    says="one sample gives a standard error of 1 %",
    source="Corollary 19 at beta = 0.01",
    arguments={"d": count, "sigma": POSITIVE},
    derived={"beta": 0.01},
    note="For large d the truth is more generous than the proof: sigma <= 0.6556 d^(1/4) will do.",
)
_THEOREM_5 = replace(
    _COROLLARY_22,
    name="Theorem 5",
    says="samples in proportion to eps^2 sqrt(d) give a robust error of 1 %",
    source="Corollary 22",
    machine_checked="",
)
_THEOREM_6 = replace(
    _COROLLARY_23,
    name="Theorem 6",
    says="with fewer samples than order eps^2 sqrt(d) / log d no learner does better than (1 - 1/d) / 2, sigma = "
    "sigma_scale d^(1/4)",
    source="Corollary 23",
    arguments={"n": NOT_NEGATIVE, "d": partial(count, least=2), "sigma_scale": POSITIVE, "eps": NOT_NEGATIVE},
    derived={"sigma": lambda a: a.sigma_scale * a.d**0.25},
    machine_checked="",
)

GAUSSIAN_STATEMENTS = (
    _THEOREM_4, _THEOREM_5, _THEOREM_6, _FACT_12, _LEMMA_13, _LEMMA_14, _LEMMA_15, _LEMMA_16, _LEMMA_17, _THEOREM_18,
    _COROLLARY_19, _LEMMA_20, _THEOREM_21, _COROLLARY_22, _THEOREM_11, _COROLLARY_23, _CARMON_1, _CARMON_PROPOSITION_1,
    _CARMON_2,
)  # fmt: skip
"""The main text, then the appendix in the order of its pages, then Carmon et al."""
