r"""The numbers of the theory study: for each question one function from the settings to tidy rows.

A row has the columns of `COLUMNS`; `noise` is sigma or tau. A value of `draws` = 0 is a closed form or a bound: its
interval is the value itself. Otherwise low and high are the 95 % interval by Student's t over the draws, of an error
cut to [0, 1]. It covers the draw of theta and of the training samples; nothing else is drawn, as errors are exact given
the weights.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import pandas as pd
import torch
from torch import Generator, Tensor

from lightning_robust.cells import Row
from lightning_robust.learning_curves import mean_over_seeds
from lightning_robust.plots import Estimate
from lightning_robust_studies.schmidt2018 import theory
from lightning_robust_studies.schmidt2018.closed_form.settings import TheorySettings

FLAT, PRIOR, BERNOULLI = "Gaussian, flat theta", "Gaussian, theta ~ N(0, I)", "Bernoulli"

COLUMNS = [
    *("question", "model", "curve", "metric", "d", "noise", "eps", "n", "unlabeled"),
    *("value", "low", "high", "draws"),
]

_SIZES = tuple(2 ** (k / 4) for k in range(-24, 41))
_FAR_DIMENSIONS = tuple(2**k for k in (8, 16, 24, 32, 48, 64))
_RADIUS_DRAWS = 16
_NEEDS = ("n_standard", "n_robust", "n_half")

Where = Mapping[str, str | float]


def compute(o: TheorySettings) -> pd.DataFrame:
    """The rows of all questions, in the order of the page."""
    table = pd.DataFrame([row for question in QUESTIONS for row in question(o)], columns=COLUMNS)
    return table.astype({"d": object, "unlabeled": "Int64"})  # d goes up to 2^64


def estimates(rows: pd.DataFrame) -> list[Estimate]:
    """The values of rows with their intervals."""
    cells = rows[["value", "low", "high", "draws"]].to_numpy().tolist()
    return [Estimate(value, low, high, max(1, int(draws))) for value, low, high, draws in cells]


def _exact(value: float | Tensor, where: Where, **more: str | float) -> Row:
    return {**where, **more, "value": float(value), "low": float(value), "high": float(value), "draws": 0}


def _drawn(values: Tensor, where: Where, **more: str | float) -> Row:
    """The mean of (R,) draws, R >= 2, with the 95 % interval of Student's t."""
    row = {**where, **more}
    mean = mean_over_seeds(values.tolist(), (), len(values))
    low, high = (max(0.0, mean.low), min(1.0, mean.high)) if row["metric"] == "error" else (mean.low, mean.high)
    return {**row, "value": mean.value, "low": low, "high": high, "draws": mean.count}


def _generator(o: TheorySettings) -> Generator:
    return Generator().manual_seed(o.seed)


# ---- 1. the gap between standard and robust learning


def gap(o: TheorySettings) -> list[Row]:
    """Samples over dimensions and radii, `repeats` sweeps of `sqrt_d_sweep`; and the exponents fitted to each sweep."""
    sweeps = [
        theory.sqrt_d_sweep(
            o.dimensions, o.radii, sigma_scale=o.sigma_scale, target=o.target, seed=o.repeats * o.seed + i
        )
        for i in range(o.repeats)
    ]
    rows: list[Row] = []
    where: Where = {"question": "gap", "model": FLAT}
    for i, point in enumerate(sweeps[0].to_dict("records")):
        d, eps = point["d"], point["eps"]
        at: Where = {**where, "metric": "samples", "d": d, "noise": point["sigma"], "eps": eps}
        rows += [_drawn(torch.tensor([float(s[name].iloc[i]) for s in sweeps]), at, curve=name) for name in _NEEDS]
        rows += [_exact(value, at, curve=name) for name, value in _laws(d, eps, o).items()]
    for eps in o.radii:
        at = {**where, "metric": "slope", "eps": eps}
        for name in _NEEDS:
            slopes = [_slope(o.dimensions, sweep.loc[sweep["eps"] == eps, name].tolist()) for sweep in sweeps]
            rows.append(_drawn(torch.tensor(slopes), at, curve=name))
        rows += [_exact(slope, at, curve=name) for name, slope in _law_slopes(o.dimensions, eps, o).items()]
        for d in (d for d in _FAR_DIMENSIONS if d >= o.dimensions[0]):
            at = {**where, "metric": "slope from d to 4 d", "d": d, "eps": eps}
            rows += [_exact(slope, at, curve=name) for name, slope in _law_slopes((d, 4 * d), eps, o).items()]
    return rows


def _slope(dimensions: Sequence[int], needs: Sequence[float]) -> float:
    d, n = (torch.tensor([float(each) for each in numbers], dtype=torch.float64) for numbers in (dimensions, needs))
    return theory.loglog_slope(d, n)


def _law_slopes(dimensions: Sequence[int], eps: float, o: TheorySettings) -> dict[str, float]:
    laws = [_laws(d, eps, o) for d in dimensions]
    return {name: _slope(dimensions, [law[name] for law in laws]) for name in laws[0]}


def _laws(d: int, eps: float, o: TheorySettings) -> dict[str, float]:
    sigma = o.sigma_scale * d**0.25
    return {
        "n_standard_large_d": theory.n_standard_large_d(o.target, d, sigma),
        "n_robust_large_d": theory.n_robust_large_d(o.target, d, sigma, eps),
        "n_half_large_d": theory.n_robust_large_d(0.5, d, sigma, eps),
        "affine_law": float(theory.affine_law(o.target, d, o.sigma_scale, eps)),
        "corollary_23": theory.STATEMENTS["Corollary 23"].limit("n", d=d, sigma=sigma, eps=eps),
    }


# ---- 2. the error over the number of samples


def error(o: TheorySettings) -> list[Row]:
    """Robust and standard errors of the mean estimator, what is best, and what is proved, at one dimension."""
    d, eps, sigma = o.d, o.eps, o.sigma_scale * o.d**0.25
    n = torch.tensor(_SIZES, dtype=torch.float64)
    noise = torch.randn(o.draws, d, dtype=torch.float64, generator=_generator(o))
    theta = torch.ones(d, dtype=torch.float64)
    drawn = {
        (FLAT, "mean, no attack"): theory.mean_errors(n, theta, sigma, 0.0, noise),
        (FLAT, "mean, attacked"): theory.mean_errors(n, theta, sigma, eps, noise),
        (PRIOR, "mean, no attack"): theory.mean_prior_errors(n, sigma, 0.0, noise),
        (PRIOR, "mean, attacked"): theory.mean_prior_errors(n, sigma, eps, noise),
        (PRIOR, "bayes"): theory.bayes_errors(n, sigma, eps, noise),
    }
    exact = {
        (FLAT, "mean, attacked, large d"): theory.mean_error_large_d(n, d, sigma, eps),
        (FLAT, "theorem_21"): torch.tensor([expected_error_bound(k, d, sigma, eps) for k in _SIZES]),
        (PRIOR, "theorem_11"): theory.error_floor(n, d, sigma, eps),
    }
    rows = []
    for i, k in enumerate(_SIZES):
        at: Where = {"question": "error", "metric": "error", "d": d, "noise": sigma, "n": k}
        for (model, curve), errors in drawn.items():
            radius = 0.0 if curve == "mean, no attack" else eps
            rows.append(_drawn(errors[i], at, model=model, curve=curve, eps=radius))
        for (model, curve), curve_of_n in exact.items():
            if not math.isnan(value := float(curve_of_n[i])):
                rows.append(_exact(value, at, model=model, curve=curve, eps=eps))
    return rows


def expected_error_bound(n: float, d: int, sigma: float, eps: float) -> float:
    r"""The least bound on the mean estimator's expected robust error that Theorem 21 gives; NaN where it says nothing.

    With the alignment rho of Lemma 16 and its probability p of failing, the error is at most

    .. math:: e^{-(\rho - \epsilon \sqrt d)^2 / (2 \sigma^2)} + p

    The first term is the beta for which eps is the limit of Theorem 21.

    Example:
        >>> round(expected_error_bound(12, 4096, 1.0, 0.5), 4), expected_error_bound(1, 4096, 8.0, 0.5)
        (0.0249, nan)

    Source: Schmidt et al. 2018, Theorem 21, p. 26.
    """
    if n < 1 / 4:  # Lemma 16 says nothing
        return math.nan
    alignment, missed = theory.STATEMENTS["Lemma 16"](n=n, d=d, sigma=sigma)
    reach = eps * math.sqrt(d)
    if alignment < reach:
        return math.nan
    return min(1.0, theory.STATEMENTS["Lemma 17"](alignment=alignment, rho=reach, sigma=sigma) + missed)


# ---- 3. learners


def learners(sigma: float, eps: float) -> dict[str, theory.Learner]:
    """The learners that are compared; those that threshold do so at the radius."""
    return {
        "mean": theory.mean_learner,
        "logistic": theory.logistic_learner(),
        "adversarial logistic": theory.adversarial_logistic_learner(eps),
        "soft threshold": theory.soft_threshold_learner(eps),
        "hard threshold": theory.hard_threshold_learner(eps),
        "Bayes": theory.bayes_learner(sigma, eps),
    }


def compare(o: TheorySettings) -> list[Row]:
    """Robust errors of learners over samples, all on the same draws, and by how much they exceed the least."""
    d, eps, sigma = o.d, o.eps, o.sigma_scale * o.d**0.25
    rows = []
    for n in o.samples:
        at: Where = {"question": "learners", "model": PRIOR, "d": d, "noise": sigma, "eps": eps, "n": n}
        for name, learner in learners(sigma, eps).items():
            result = theory.compare_learner(
                learner, n=n, d=d, sigma=sigma, eps=eps, draws=o.draws, generator=_generator(o)
            )
            rows.append(_drawn(result.errors, at, curve=name, metric="error"))
            rows.append(_drawn(result.errors - result.bayes, at, curve=name, metric="excess over bayes"))
        rows.append(_drawn(result.bayes, at, curve="bayes", metric="error"))
        rows.append(_exact(result.lower_bound, at, curve="theorem_11", metric="error"))
    return rows


# ---- 4. the Bernoulli model


def bernoulli_samples(o: TheorySettings) -> list[Row]:
    """Exact errors of the mean over samples, as a linear classifier and behind the threshold."""
    d, tau = o.d, o.tau_scale * o.d**-0.25
    eps, theta, generator = o.tau_ratio * tau, torch.ones(d, dtype=torch.float64), _generator(o)
    rows = []
    for n in o.samples:
        w = theory.bernoulli_mean_estimator(n, theta, tau, draws=o.draws, generator=generator)
        behind = torch.stack([theory.thresholded_error(each, theta, tau, eps) for each in w])
        known, law = theory.bernoulli_error(theta, theta, tau, eps), theory.bernoulli_mean_error_large_d(n, d, tau, eps)
        at = _bernoulli("samples", d, tau, eps)
        rows += [
            _drawn(theory.bernoulli_error(w, theta, tau, eps), at, curve="linear, attacked", n=n),
            _drawn(behind, at, curve="threshold, attacked", n=n),
            _drawn(theory.bernoulli_error(w, theta, tau), at, curve="linear, no attack", eps=0.0, n=n),
            _exact(known, at, curve="linear, theta known, attacked", n=n),
            _exact(law, at, curve="linear, attacked, large d", n=n),
        ]
    return rows


def bernoulli_radius(o: TheorySettings) -> list[Row]:
    """Exact errors over the radius, up to beyond 1, where a coordinate can be flipped."""
    d, tau, n = o.d, o.tau_scale * o.d**-0.25, max(o.samples)
    theta, last, generator = torch.ones(d, dtype=torch.float64), 2 * tau, _generator(o)
    first = theory.bernoulli_mean_estimator(1, theta, tau, draws=min(o.draws, _RADIUS_DRAWS), generator=generator)
    many = theory.bernoulli_mean_estimator(n, theta, tau, draws=min(o.draws, _RADIUS_DRAWS), generator=generator)
    near = {last * k / 8 for k in range(13)}
    far = {k / 10 for k in range(12) if k != 10}
    rows = []
    for eps in sorted(near | far | {0.999, 1.001}):
        at = _bernoulli("radius", d, tau, eps)
        behind = torch.stack([theory.thresholded_error(each, theta, tau, eps) for each in first])
        known = theory.bernoulli_error(theta, theta, tau, eps)
        rows += [
            _drawn(theory.bernoulli_error(many, theta, tau, eps), at, curve="linear, attacked", n=n),
            _drawn(behind, at, curve="threshold, attacked", n=1),
            _exact(known, at, curve="linear, theta known, attacked"),
        ]
        if eps >= last:
            rows.append(_exact(theory.linear_error_floor(tau, eps), at, curve="linear, floor"))
    return rows


def bernoulli_dimension(o: TheorySettings) -> list[Row]:
    """Exact expected errors from one sample over dimensions, and the samples that a linear classifier needs.

    Behind the threshold the attacked error is the standard one (Theorem 10), which `bernoulli_samples` computes anew.
    """
    rows = []
    for d in o.dimensions:
        tau = o.tau_scale * d**-0.25
        eps = o.tau_ratio * tau
        at = _bernoulli("dimension", d, tau, eps)
        rows.append(_exact(theory.one_sample_error(d, tau), at, curve="threshold, attacked", n=1))
        rows.append(_exact(theory.one_sample_error(d, tau, eps), at, curve="linear, attacked", n=1))
        for curve, level in (("n_half_large_d", 0.5), ("n_robust_large_d", o.target)):
            needed = theory.crossing(_linear_curve(d, tau, eps), level)
            rows.append(_exact(needed, at, curve=curve, metric="samples"))
    return rows


def _linear_curve(d: int, tau: float, eps: float) -> Callable[[float], float]:
    return lambda n: float(theory.bernoulli_mean_error_large_d(n, d, tau, eps))


def _bernoulli(over: str, d: int, tau: float, eps: float) -> Where:
    where = {"question": f"bernoulli {over}", "model": BERNOULLI, "metric": "error"}
    return {**where, "d": d, "noise": tau, "eps": eps}


# ---- 5. unlabeled data


def self_training(o: TheorySettings) -> list[Row]:
    """Errors over unlabeled points, the labels fixed; and those of the mean estimator if all points had labels."""
    d, n, eps, sigma = (
        o.self_training_d,
        o.labels,
        o.self_training_eps,
        theory.carmon_sigma(o.self_training_d, o.labels),
    )
    theta, generator = torch.ones(d, dtype=torch.float64), _generator(o)
    noise = torch.randn(o.draws, d, dtype=torch.float64, generator=generator)
    first = theory.mean_estimator(n, theta, sigma, noise)
    need, enough = carmon_needs(o)
    where: Where = {"question": "self-training", "model": FLAT, "metric": "error", "d": d, "noise": sigma, "eps": eps}
    rows = []
    for unlabeled in sorted({2**k for k in range(max(1, enough).bit_length() + 1)} | {enough}):
        at = {**where, "n": n, "unlabeled": unlabeled}
        second = theory.self_trained_estimator(first, unlabeled, theta, sigma, generator=generator)
        standard, labeled = (
            theory.gaussian_error(second, theta, sigma),
            theory.mean_errors(n + unlabeled, theta, sigma, eps, noise),
        )
        rows += [
            _drawn(theory.gaussian_error(first, theta, sigma, eps), at, curve="labels only"),
            _drawn(theory.gaussian_error(second, theta, sigma, eps), at, curve="self-trained"),
            _drawn(standard, at, curve="self-trained, no attack", eps=0.0),
            _drawn(labeled, at, curve="all labeled"),
            _exact(theory.self_training_error_large_d(n, unlabeled, d, sigma, eps), at, curve="self-trained, large d"),
        ]
    errors = theory.mean_errors(need, theta, sigma, eps, noise)
    rows.append(_drawn(errors, where, curve="labels of proposition 1", n=need, unlabeled=0))
    return rows


def carmon_needs(o: TheorySettings) -> tuple[float, int]:
    """The labels of Proposition 1, and the unlabeled points of Theorem 2 of Carmon et al."""
    at = {"d": o.self_training_d, "n0": o.labels, "eps": o.self_training_eps}
    labels, unlabeled = (theory.STATEMENTS[f"Carmon et al., {name}"](**at) for name in ("Proposition 1", "Theorem 2"))
    return labels, math.ceil(unlabeled)


QUESTIONS = (gap, error, compare, bernoulli_samples, bernoulli_radius, bernoulli_dimension, self_training)
"""Functions from the settings to rows, in the order of the page."""
