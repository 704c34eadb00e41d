r"""The statements of Schmidt et al. (2018) on the Bernoulli model; see `statements`.

The lower bounds are for learners of linear classifiers; they are on the expectation over :math:`\theta^*`,
uniform on the corners, the samples and the test point. Behind a threshold one sample suffices (Theorem 10).
"""

import math
from collections.abc import Mapping
from dataclasses import replace

from lightning_robust._checks import count, number
from lightning_robust_studies.schmidt2018.theory._check import open_interval
from lightning_robust_studies.schmidt2018.theory._statement import (
    NOT_NEGATIVE,
    POSITIVE,
    Check,
    Condition,
    Guarantee,
    Statement,
    Value,
)

_ONE_SAMPLE: Mapping[str, Check] = {"d": count, "tau": POSITIVE}


def _one_sample(error: Value) -> Value:
    return lambda a: Guarantee(error(a), -math.expm1(-(a.tau**2) * a.d / 2))


# ---- the appendix

_TAU_HALF = Condition("tau", "<=", "1/2", 0.5)
_TAU_QUARTER = Condition("tau", "<=", "1/4", 0.25)
_THEOREM_27 = Statement(
    name="Theorem 27",
    model="Bernoulli",
    says="the standard error from one sample is at most exp(-2 tau^4 d)",
    source="p. 32",
    arguments=_ONE_SAMPLE,
    conditions=(_TAU_HALF,),
    value=_one_sample(lambda a: math.exp(-2 * a.tau**4 * a.d)),
)
_COROLLARY_28 = Statement(
    name="Corollary 28",
    model="Bernoulli",
    says="one sample gives a standard error of beta",
    source="p. 33",
    arguments={**_ONE_SAMPLE, "beta": open_interval},
    conditions=(
        _TAU_HALF,
        Condition(
            "tau", ">=", "(log(1 / beta) / (2 d))^(1/4)", lambda a: (math.log(1 / a.beta) / (2 * a.d)) ** 0.25
        ),
    ),
    value=_one_sample(lambda a: a.beta),
)  # fmt: skip
_LEMMA_29 = Statement(
    name="Lemma 29",
    model="Bernoulli",
    says="the posterior log-odds of a bit of theta, uniform prior, are at most 15 tau sqrt(2 n log(2 / delta)) in size "
    "but for a probability delta",
    source="p. 33",
    arguments={"n": POSITIVE, "tau": POSITIVE, "delta": open_interval},
    conditions=(_TAU_QUARTER, Condition("n", "<=", "1 / tau^2", lambda a: 1 / a.tau**2)),
    value=lambda a: 15 * a.tau * math.sqrt(2 * a.n * math.log(2 / a.delta)),
    reads="log-odds at most {:.3g}",
)
_THEOREM_31 = Statement(
    name="Theorem 31",
    model="Bernoulli",
    says="no learner of linear classifiers does better than 1/2 - gamma",
    source="p. 35",
    arguments={"n": NOT_NEGATIVE, **_ONE_SAMPLE, "eps": number, "gamma": POSITIVE},
    conditions=(
        _TAU_QUARTER,
        Condition("eps", ">=", "0", 0.0),
        Condition("eps", "<", "3 tau", lambda a: 3 * a.tau),
        Condition("gamma", "<", "1/2", 0.5),
        Condition(
            "n", "<=", "eps^2 gamma^2 / (5000 tau^4 log(4 d / gamma))",
            lambda a: a.eps**2 * a.gamma**2 / (5000 * a.tau**4 * math.log(4 * a.d / a.gamma)),
        ),
    ),
    value=lambda a: 0.5 - a.gamma,
    reads="error at least {:.3g}",
    note="The paper asks for eps < 3 tau alone. For eps < 0 the statement is false: there is no perturbation and hence "
    "no error, while eps^2 still allows samples.",
)  # fmt: skip

# ---- the main text

_THEOREM_8 = replace(
    _COROLLARY_28,
    name="Theorem 8",
    says="one sample gives a standard error of 1 %",
    source="Corollary 28 at beta = 0.01",
    arguments=_ONE_SAMPLE,
    derived={"beta": 0.01},
    note="It is tau >= 1.2318 d^(-1/4). On average over the sample, 0.7626 d^(-1/4) will do (`one_sample_error`).",
)
_THEOREM_9 = replace(
    _THEOREM_31,
    name="Theorem 9",
    says="with fewer samples than order eps^2 d / log d no learner of linear classifiers does better than 1/2 - gamma, "
    "tau = tau_scale d^(-1/4)",
    source="Theorem 31",
    arguments={"n": NOT_NEGATIVE, "d": count, "tau_scale": POSITIVE, "eps": number, "gamma": POSITIVE},
    conditions=(Condition("tau_scale", "<=", "d^(1/4) / 4", lambda a: a.d**0.25 / 4), *_THEOREM_31.conditions),
    derived={"tau": lambda a: a.tau_scale * a.d**-0.25},
)
_THEOREM_10 = replace(
    _THEOREM_8,
    name="Theorem 10",
    says="behind the threshold, one sample gives a robust error of 1 % at every eps < 1 at once",
    source="p. 7",
    arguments={**_ONE_SAMPLE, "eps": NOT_NEGATIVE},
    conditions=(Condition("eps", "<", "1", 1.0), *_THEOREM_8.conditions),
    machine_checked="Lean",
    note="The threshold undoes any such attack, so that the condition on tau is that of Theorem 8.",
)

BERNOULLI_STATEMENTS = (
    _THEOREM_8, _THEOREM_9, _THEOREM_10, _THEOREM_27, _COROLLARY_28, _LEMMA_29, _THEOREM_31,
)  # fmt: skip
"""The main text, then the appendix."""
