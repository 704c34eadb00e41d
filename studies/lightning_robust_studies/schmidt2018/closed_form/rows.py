r"""The numbers of the theory study: for each question one function from the settings to tidy rows.

A row has the columns question, model, curve, metric, d, noise (sigma or tau), eps, n, unlabelled, value, low, high and
draws. A value of `draws` = 0 is a closed form or a bound: its interval is the value itself. Otherwise low and high are
the 95 % interval by Student's t over the draws, of an error cut to [0, 1]. It covers the draw of theta and of the
training samples; nothing else is drawn, as errors are exact given the weights.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

from lightning_robust.cells import Row
from lightning_robust.learning_curves.seeds import mean_over_seeds, share
from lightning_robust.plots import Estimate
from lightning_robust_studies.schmidt2018.closed_form.settings import TheorySettings
from lightning_robust_studies.schmidt2018.theory import (
    Learner,
    SweepRow,
    adversarial_logistic_learner,
    affine_law,
    bayes_errors,
    bayes_learner,
    bernoulli_error,
    bernoulli_mean_error_large_d,
    bernoulli_mean_estimator,
    carmon_labels,
    carmon_sigma,
    carmon_unlabelled,
    compare_learner,
    corollary_23_samples,
    crossing,
    gaussian_error,
    hard_threshold_learner,
    lemma_16,
    lemma_17,
    linear_error_floor,
    linear_radius,
    logistic_learner,
    loglog_slope,
    mean_error_large_d,
    mean_errors,
    mean_estimator,
    mean_learner,
    mean_prior_errors,
    n_robust_large_d,
    n_standard_large_d,
    one_sample_error,
    self_trained_estimator,
    self_training_error_large_d,
    soft_threshold_learner,
    sqrt_d_sweep,
    theorem_11,
    thresholded_error,
)

FLAT, PRIOR, BERNOULLI = "Gaussian, flat theta", "Gaussian, theta ~ N(0, I)", "Bernoulli"

_N_GRID = tuple(2 ** (k / 4) for k in range(-24, 41))
_TRAP = tuple(2**k for k in (8, 16, 24, 32, 48, 64))
_RADIUS_DRAWS = 16


def over_draws(values: Tensor) -> Estimate:
    """The mean of (R,) draws, R >= 2, with the 95 % interval of Student's t.

    Example:
        >>> over_draws(torch.tensor([0.1, 0.2, 0.3])).text()
        '20.0 % [-4.8, 44.8]'
    """
    return mean_over_seeds(values.tolist(), (), len(values))


def _exact(value: float | Tensor, **where: str | float) -> Row:
    return {**where, "value": float(value), "low": float(value), "high": float(value), "draws": 0}


def _drawn(values: Tensor, **where: str | float) -> Row:
    found = over_draws(values)
    found = share(found) if where["metric"] == "error" else found
    return {**where, "value": found.value, "low": found.low, "high": found.high, "draws": found.count}


def _generator(o: TheorySettings) -> Generator:
    return Generator().manual_seed(o.seed)


# ---- 1. the gap between standard and robust learning


def gap(o: TheorySettings) -> list[Row]:
    """Samples over dimensions and radii, `repeats` sweeps of `sqrt_d_sweep`; and the exponents fitted to each sweep."""
    sweeps = [
        sqrt_d_sweep(o.dimensions, o.radii, scale=o.scale, target=o.target, seed=o.repeats * o.seed + i)
        for i in range(o.repeats)
    ]
    rows: list[Row] = []
    for points in zip(*sweeps, strict=True):
        d, eps = points[0].d, points[0].eps
        where: dict[str, str | float] = {"d": d, "noise": points[0].sigma, "eps": eps}
        rows += [_drawn(torch.tensor([read(p) for p in points]), **_gap(name), **where) for name, read in _NEEDS]
        rows += [_exact(value, **_gap(name), **where) for name, value in _laws(d, eps, o).items()]
    for eps in o.radii:
        for name, read in _NEEDS:
            slopes = [_slope(o.dimensions, [read(p) for p in sweep if p.eps == eps]) for sweep in sweeps]
            rows.append(_drawn(torch.tensor(slopes), **_gap(name, "slope"), eps=eps))
        for name, slope in _law_slopes(o.dimensions, eps, o).items():
            rows.append(_exact(slope, **_gap(name, "slope"), eps=eps))
        for d in (d for d in _TRAP if d >= o.dimensions[0]):
            for name, slope in _law_slopes((d, 4 * d), eps, o).items():
                rows.append(_exact(slope, **_gap(name, "slope from d to 4 d"), d=d, eps=eps))
    return rows


def _gap(curve: str, metric: str = "samples") -> dict[str, str | float]:
    return {"question": "gap", "model": FLAT, "curve": curve, "metric": metric}


def _slope(dimensions: Sequence[int], needs: Sequence[float]) -> float:
    d, n = (torch.tensor([float(each) for each in numbers], dtype=torch.float64) for numbers in (dimensions, needs))
    return loglog_slope(d, n)


def _law_slopes(dimensions: Sequence[int], eps: float, o: TheorySettings) -> dict[str, float]:
    laws = [_laws(d, eps, o) for d in dimensions]
    return {name: _slope(dimensions, [law[name] for law in laws]) for name in laws[0]}


def _laws(d: int, eps: float, o: TheorySettings) -> dict[str, float]:
    sigma = o.scale * d**0.25
    return {
        "n_standard_large_d": n_standard_large_d(o.target, d, sigma),
        "n_robust_large_d": n_robust_large_d(o.target, d, sigma, eps),
        "n_half_large_d": n_robust_large_d(0.5, d, sigma, eps),
        "affine_law": float(affine_law(o.target, d, o.scale, eps)),
        "corollary_23": corollary_23_samples(d, sigma, eps),
    }


_NEEDS: tuple[tuple[str, Callable[[SweepRow], float]], ...] = (
    ("n_standard", lambda p: p.n_standard),
    ("n_robust", lambda p: p.n_robust),
    ("n_half", lambda p: p.n_half),
)


# ---- 2. the error over the number of samples


def error(o: TheorySettings) -> list[Row]:
    """Robust and standard errors of the mean estimator, what is best, and what is proved, at one dimension."""
    d, eps, sigma = o.d, o.eps, o.scale * o.d**0.25
    n = torch.tensor(_N_GRID, dtype=torch.float64)
    noise = torch.randn(o.draws, d, dtype=torch.float64, generator=_generator(o))
    theta = torch.ones(d, dtype=torch.float64)
    drawn = {
        (FLAT, "mean, no attack"): mean_errors(n, theta, sigma, 0.0, noise),
        (FLAT, "mean, attacked"): mean_errors(n, theta, sigma, eps, noise),
        (PRIOR, "mean, no attack"): mean_prior_errors(n, sigma, 0.0, noise),
        (PRIOR, "mean, attacked"): mean_prior_errors(n, sigma, eps, noise),
        (PRIOR, "bayes"): bayes_errors(n, sigma, eps, noise),
    }
    exact = {
        (FLAT, "mean, attacked, large d"): mean_error_large_d(n, d, sigma, eps),
        (FLAT, "theorem_21"): torch.tensor([theorem_21_error(k, d, sigma, eps) for k in _N_GRID]),
        (PRIOR, "theorem_11"): theorem_11(n, d, sigma, eps),
    }
    rows = []
    for i, k in enumerate(_N_GRID):
        where: dict[str, str | float] = {"metric": "error", "d": d, "noise": sigma, "n": k}
        for (model, curve), errors in drawn.items():
            radius = 0.0 if curve == "mean, no attack" else eps
            rows.append(_drawn(errors[i], question="error", model=model, curve=curve, **where, eps=radius))
        for (model, curve), curve_of_n in exact.items():
            if not math.isnan(value := float(curve_of_n[i])):
                rows.append(_exact(value, question="error", model=model, curve=curve, **where, eps=eps))
    return rows


def theorem_21_error(n: float, d: int, sigma: float, eps: float) -> float:
    r"""The least bound on the mean estimator's expected robust error that Theorem 21 gives; NaN where it says nothing.

    With the alignment rho of Lemma 16 and its probability p of failing, the error is at most

    .. math:: e^{-(\rho - \epsilon \sqrt d)^2 / (2 \sigma^2)} + p

    The first term is the beta for which eps is `theorem_21_radius(n, d, sigma, beta)`.

    Example:
        >>> round(theorem_21_error(12, 4096, 1.0, 0.5), 4), theorem_21_error(1, 4096, 8.0, 0.5)
        (0.0249, nan)

    Source: Schmidt et al. 2018, Theorem 21, p. 26.
    """
    alignment, missed = lemma_16(n, d, sigma)
    reach = eps * math.sqrt(d)
    return min(1.0, lemma_17(alignment, reach, sigma) + missed) if alignment >= reach else math.nan


# ---- 3. learners


def learners(sigma: float, eps: float) -> dict[str, Learner]:
    """The learners that are compared; those that threshold do so at the radius."""
    return {
        "mean": mean_learner,
        "logistic": logistic_learner(),
        "adversarial logistic": adversarial_logistic_learner(eps),
        "soft threshold": soft_threshold_learner(eps),
        "hard threshold": hard_threshold_learner(eps),
        "Bayes": bayes_learner(sigma, eps),
    }


def compare(o: TheorySettings) -> list[Row]:
    """Robust errors of learners over samples, all on the same draws, and by how much they exceed the least."""
    d, eps, sigma = o.d, o.eps, o.scale * o.d**0.25
    rows = []
    for n in o.samples:
        where: dict[str, str | float] = {"question": "learners", "model": PRIOR}
        at: dict[str, str | float] = {"d": d, "noise": sigma, "eps": eps, "n": n}
        for name, learner in learners(sigma, eps).items():
            found = compare_learner(learner, n=n, d=d, sigma=sigma, eps=eps, draws=o.draws, generator=_generator(o))
            rows.append(_drawn(found.errors, **where, curve=name, metric="error", **at))
            rows.append(_drawn(found.errors - found.bayes, **where, curve=name, metric="excess over bayes", **at))
        rows.append(_drawn(found.bayes, **where, curve="bayes", metric="error", **at))
        rows.append(_exact(found.lower_bound, **where, curve="theorem_11", metric="error", **at))
    return rows


# ---- 4. the Bernoulli model


def bernoulli_samples(o: TheorySettings) -> list[Row]:
    """Exact errors of the mean over samples, as a linear classifier and behind the threshold."""
    d, tau = o.d, o.tau_scale * o.d**-0.25
    eps, theta, generator = o.tau_ratio * tau, torch.ones(d, dtype=torch.float64), _generator(o)
    rows = []
    for n in o.samples:
        w = bernoulli_mean_estimator(n, theta, tau, draws=o.draws, generator=generator)
        drawn = {
            "linear, attacked": bernoulli_error(w, theta, tau, eps),
            "threshold, attacked": torch.stack([thresholded_error(each, theta, tau, eps) for each in w]),
            "linear, no attack": bernoulli_error(w, theta, tau),
        }
        exact = {
            "linear, theta known, attacked": bernoulli_error(theta, theta, tau, eps),
            "linear, attacked, large d": bernoulli_mean_error_large_d(n, d, tau, eps),
        }
        for curve, errors in drawn.items():
            radius = 0.0 if curve == "linear, no attack" else eps
            rows.append(_drawn(errors, **_bernoulli("samples", curve, d, tau, radius), n=n))
        for curve, value in exact.items():
            rows.append(_exact(value, **_bernoulli("samples", curve, d, tau, eps), n=n))
    return rows


def bernoulli_radius(o: TheorySettings) -> list[Row]:
    """Exact errors over the radius, up to beyond 1, where a coordinate can be flipped."""
    d, tau, n = o.d, o.tau_scale * o.d**-0.25, max(o.samples)
    theta, last, generator = torch.ones(d, dtype=torch.float64), linear_radius(tau), _generator(o)
    first = bernoulli_mean_estimator(1, theta, tau, draws=min(o.draws, _RADIUS_DRAWS), generator=generator)
    many = bernoulli_mean_estimator(n, theta, tau, draws=min(o.draws, _RADIUS_DRAWS), generator=generator)
    near = {last * k / 8 for k in range(13)}
    far = {k / 10 for k in range(12) if k != 10}
    rows = []
    for eps in sorted(near | far | {0.999, 1.001}):
        linear = bernoulli_error(many, theta, tau, eps)
        behind = torch.stack([thresholded_error(each, theta, tau, eps) for each in first])
        known = bernoulli_error(theta, theta, tau, eps)
        rows.append(_drawn(linear, **_bernoulli("radius", "linear, attacked", d, tau, eps), n=n))
        rows.append(_drawn(behind, **_bernoulli("radius", "threshold, attacked", d, tau, eps), n=1))
        rows.append(_exact(known, **_bernoulli("radius", "linear, theta known, attacked", d, tau, eps)))
        if eps >= last:
            rows.append(_exact(linear_error_floor(tau, eps), **_bernoulli("radius", "linear, floor", d, tau, eps)))
    return rows


def bernoulli_dimension(o: TheorySettings) -> list[Row]:
    """Exact expected errors from one sample over dimensions, and the samples that a linear classifier needs.

    Behind the threshold the attacked error is the standard one (Theorem 10), which `bernoulli_samples` computes anew.
    """
    rows = []
    for d in o.dimensions:
        tau = o.tau_scale * d**-0.25
        eps = o.tau_ratio * tau
        for curve, value in (
            ("threshold, attacked", one_sample_error(d, tau)),
            ("linear, attacked", one_sample_error(d, tau, eps)),
        ):
            rows.append(_exact(value, **_bernoulli("dimension", curve, d, tau, eps), n=1))
        for curve, level in (("n_half_large_d", 0.5), ("n_robust_large_d", o.target)):
            needed = crossing(_linear_curve(d, tau, eps), level)
            rows.append(_exact(needed, **{**_bernoulli("dimension", curve, d, tau, eps), "metric": "samples"}))
    return rows


def _linear_curve(d: int, tau: float, eps: float) -> Callable[[float], float]:
    return lambda n: float(bernoulli_mean_error_large_d(n, d, tau, eps))


def _bernoulli(over: str, curve: str, d: int, tau: float, eps: float) -> dict[str, str | float]:
    return {
        "question": f"bernoulli {over}",
        "model": BERNOULLI,
        "curve": curve,
        "metric": "error",
        "d": d,
        "noise": tau,
        "eps": eps,
    }


# ---- 5. unlabelled data


def self_training(o: TheorySettings) -> list[Row]:
    """Errors over unlabelled points, the labels fixed; and those of the mean estimator if all points had labels."""
    d, n, eps, sigma = o.self_training_d, o.labels, o.self_training_eps, carmon_sigma(o.self_training_d, o.labels)
    theta, generator = torch.ones(d, dtype=torch.float64), _generator(o)
    noise = torch.randn(o.draws, d, dtype=torch.float64, generator=generator)
    first = mean_estimator(n, theta, sigma, noise)
    enough = math.ceil(carmon_unlabelled(d, n, eps))
    where: dict[str, str | float] = {"question": "self-training", "model": FLAT, "metric": "error"}
    at: dict[str, str | float] = {"d": d, "noise": sigma}
    rows = []
    for unlabelled in sorted({2**k for k in range(max(1, enough).bit_length() + 1)} | {enough}):
        second = self_trained_estimator(first, unlabelled, theta, sigma, generator=generator)
        drawn = {
            "labels only": (gaussian_error(first, theta, sigma, eps), eps),
            "self-trained": (gaussian_error(second, theta, sigma, eps), eps),
            "self-trained, no attack": (gaussian_error(second, theta, sigma), 0.0),
            "all labelled": (mean_errors(n + unlabelled, theta, sigma, eps, noise), eps),
        }
        for curve, (errors, radius) in drawn.items():
            rows.append(_drawn(errors, **where, curve=curve, **at, eps=radius, n=n, unlabelled=unlabelled))
        law = self_training_error_large_d(n, unlabelled, d, sigma, eps)
        rows.append(_exact(law, **where, curve="self-trained, large d", **at, eps=eps, n=n, unlabelled=unlabelled))
    need = carmon_labels(d, n, eps)
    errors = mean_errors(need, theta, sigma, eps, noise)
    rows.append(_drawn(errors, **where, curve="labels of proposition 1", **at, eps=eps, n=need, unlabelled=0))
    return rows
