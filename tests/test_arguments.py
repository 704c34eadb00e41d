"""A bad value of an argument is refused where it is given, by the argument's own name; numpy's numbers are numbers.

One table of public constructors and functions, one law. A new constructor joins with a line that gives valid values of
the arguments without a telling default; what is bad follows from the valid value and the annotation.
"""

import dataclasses
import importlib
import inspect
import math
import re
import types
from collections.abc import Callable, Mapping, Set
from functools import partial
from pathlib import Path
from typing import Any

import foolbox
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from lightning_robust import (
    attacks,
    callbacks,
    datamodules,
    interop,
    manifolds,
    metrics,
    models,
    objectives,
    plots,
    theory,
)
from lightning_robust.attacks import PGD, Linf, PixelSpace, Steepest

PACKAGES = (
    "attacks",
    "callbacks",
    "datamodules",
    "interop",
    "manifolds",
    "metrics",
    "models",
    "objectives",
    "plots",
    "theory",
)


@dataclasses.dataclass
class Case:
    """A constructor, and valid arguments of it.

    Args:
        make: The constructor.
        given: Valid values by argument; where there is none, the default stands.
        free: Names of numbers that may be negative, and of sequences of anything.
        infinite: Names of numbers that may be infinite.
        empty: Names of sequences that may be empty.
        skip: Names of arguments that are somebody else's to check.
    """

    make: Callable[..., Any]
    given: dict[str, Any]
    free: str = ""
    infinite: str = ""
    empty: str = ""
    skip: str = ""

    def __post_init__(self) -> None:
        self.parameters = _parameters(self.make)
        default = {name: p.default for name, p in self.parameters.items() if p.default is not p.empty}
        self.valid = {**default, **self.given}

    def __call__(self, **changed: Any) -> Any:
        """What the constructor makes of the valid arguments with some changed."""
        torch.manual_seed(0)
        values = {**self.valid, **changed}
        many = [name for name, p in self.parameters.items() if p.kind is p.VAR_POSITIONAL]
        return self.make(*(values.pop(many[0]) if many else ()), **values)


def case(make: Callable[..., Any], free: str = "", infinite: str = "", empty: str = "", skip: str = "", **given: Any):
    return Case(make, given, free, infinite, empty, skip)


def _parameters(make: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The arguments, those that `**kwargs` hands on to a base class of ours among them."""
    found: dict[str, inspect.Parameter] = {}
    for function in [c.__init__ for c in make.__mro__ if "__init__" in vars(c)] if inspect.isclass(make) else [make]:
        if not getattr(function, "__module__", "").startswith("lightning_robust"):
            break
        parameters = inspect.signature(function).parameters
        found = {**parameters, **found}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
            break
    return {name: p for name, p in found.items() if p.kind is not p.VAR_KEYWORD and name != "self"}


# ---- the table

GENERATOR = torch.Generator()
X, Y = torch.rand(8, 1, 4, 4), torch.arange(8) % 2
LOGITS = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
IMAGES = {"x": X, "x_adv": X.clone()}
ONES, NOISE = torch.ones(4, dtype=torch.float64), torch.randn(6, 4, dtype=torch.float64)
ROWS = [{"step": 1, "acc": 0.5, "low": 0.25, "high": 0.75, "name": "a"}]
SIZES = {"train_size": 4, "val_size": 2}
LOADER = {"eval_batch_size": 2}
FIGURE = Figure()
ATTACKED = plots.AttackedSamples(name="pgd", x=X[:1], x_adv=X[:1], y=Y[:1], before=Y[:1], after=Y[:1])


def data(**options: Any) -> Any:
    return datamodules.TensorDataModule((X, Y), (X, Y), **{"val_size": 2, **options})


class Plane:
    """A manifold."""

    def encode(self, x, y):
        return x.flatten(1)

    def decode(self, z, y):
        return z.sigmoid()[:, None, None].expand(-1, 1, 4, -1)


def flat(images: Tensor) -> Tensor:
    return images


FITTED = manifolds.NeighbourTangent.fit(X, components=2, neighbours=3)
MIXTURE = {"d": 4, "train_size": 4, "val_size": 2, "test_size": 4, **LOADER}
VISION = {"augment": flat, **SIZES, **LOADER}
SHAPE = {"in_channels": 1, "num_classes": 2}
N, D, SIGMA = {"n": 4.0}, {"d": 16}, {"sigma": 0.25}
SAMPLES = {"theta": ONES, "sigma": 1.0}

BALL, ATTACK = {"threat": Linf(0.25)}, {"attack": PGD(Linf(0.25), 2)}
READING = {"code": "z", "forward": LOGITS, "correct": flat, "per_sample": ["mask"], "empty": "per_sample"}
NORMALIZED = {"mean": 0.5, "std": 0.5, "free": "mean"}

TABLE = {
    # attacks
    "attacks.Adam": case(attacks.Adam),
    "attacks.AffineSpace": case(attacks.AffineSpace),
    "attacks.Anchored": case(attacks.Anchored, gain=attacks.margin, anchor=attacks.least_likely),
    "attacks.Box": case(attacks.Box, half_widths=[0.25, 0.5]),
    "attacks.GridSearch": case(attacks.GridSearch, **BALL),
    "attacks.L1": case(attacks.L1, eps=0.5),
    "attacks.L2": case(attacks.L2, eps=0.5),
    "attacks.LatentSpace": case(attacks.LatentSpace, manifold=Plane(), bounds=(-1.0, 1.0)),
    "attacks.Linf": case(attacks.Linf, eps=0.5),
    "attacks.PGD": case(attacks.PGD, **BALL, rel_step_size=0.5, rule=Steepest()),
    "attacks.PixelSpace": case(attacks.PixelSpace, mean=0.5, std=0.5, free="low high mean", infinite="low high"),
    "attacks.RandomPerturbation": case(attacks.RandomPerturbation, **BALL),
    "attacks.RandomSearch": case(attacks.RandomSearch, **BALL),
    "attacks.Steepest": case(attacks.Steepest),
    "attacks.Threat": case(attacks.Threat, ball=Linf(0.25), space=PixelSpace()),
    "attacks.WarmUp": case(attacks.WarmUp, epochs=2.0, start=0.25, skip="steps"),
    "attacks.WarmUp, in steps": case(attacks.WarmUp, steps=2, start=0.25, skip="epochs"),
    "attacks.bim": case(attacks.bim, **BALL),
    "attacks.carlini_wagner": case(attacks.carlini_wagner, **BALL, infinite="kappa"),
    "attacks.confident_margin": case(attacks.confident_margin, kappa=1.0, infinite="kappa"),
    "attacks.dense": case(attacks.dense, free="class_dim ignore_index"),
    "attacks.dense_correct": case(attacks.dense_correct, free="class_dim ignore_index"),
    "attacks.fgsm": case(attacks.fgsm, **BALL),
    "attacks.finite_differences": case(attacks.finite_differences, **ATTACK, width=0.5),
    "attacks.in_turn": case(attacks.in_turn, attacks=[PGD(Linf(0.25)), PGD(Linf(0.5))]),
    "attacks.mim": case(attacks.mim, **BALL),
    "attacks.on_fraction": case(attacks.on_fraction, **ATTACK, fraction=0.5),
    "attacks.pgd_cw": case(attacks.pgd_cw, **BALL, infinite="kappa"),
    "attacks.restarted": case(attacks.restarted, **ATTACK, restarts=2),
    "attacks.rs_fgsm": case(attacks.rs_fgsm, **BALL),
    "attacks.stutz": case(attacks.stutz, **BALL),
    "attacks.targeted": case(attacks.targeted, gain=attacks.margin, to=1),
    "attacks.targeted_dlr": case(attacks.targeted_dlr),
    "attacks.worst_of": case(attacks.worst_of, attacks=[PGD(Linf(0.25)), PGD(Linf(0.5))]),
    # callbacks
    "callbacks.AdversarialExamples": case(
        callbacks.AdversarialExamples, **ATTACK, scale=1.0, **READING, free="low high"
    ),
    "callbacks.AdversarialTraining": case(
        callbacks.AdversarialTraining, **ATTACK, objective=objectives.trades(), schedule=attacks.WarmUp(epochs=2),
        code="z", forward=LOGITS, correct=flat, per_sample=["mask"], empty="per_sample",
    ),
    "callbacks.ManifoldSheets": case(
        callbacks.ManifoldSheets, num_classes=2, code="z", manifold=flat, free="low high"
    ),
    "callbacks.RobustEvaluation": case(callbacks.RobustEvaluation, attacks=PGD(Linf(0.25)), max_samples=4, **READING),
    "callbacks.RobustGeneralizationGap": case(callbacks.RobustGeneralizationGap, **ATTACK, **READING),
    # attacks of others
    "interop.from_foolbox": case(
        interop.from_foolbox, attack=foolbox.attacks.LinfPGD(), eps=0.5, **NORMALIZED
    ),
    "interop.from_torchattacks": case(
        interop.from_torchattacks, factory=flat, arguments={}, **NORMALIZED, skip="factory arguments"
    ),
    # metrics
    "metrics.AttackSuccessRate": case(metrics.AttackSuccessRate, num_attempts=2),
    "metrics.PerClassRobustAccuracy": case(metrics.PerClassRobustAccuracy, num_classes=3),
    "metrics.PerturbationNorm": case(metrics.PerturbationNorm, p=2.0, infinite="p"),
    "metrics.RobustAccuracy": case(metrics.RobustAccuracy, names=["a"]),
    "metrics.clustered_interval": case(metrics.clustered_interval, hits=5.0, squares=25.0, clusters=2.0, size=5),
    "metrics.perturbation_norm": case(metrics.perturbation_norm, **IMAGES, p=2.0, infinite="p"),
    "metrics.wilson_interval": case(metrics.wilson_interval, successes=1.0, total=2.0),
    # models
    "models.Bpda": case(models.Bpda, function=flat, substitute=flat),
    "models.ExponentialDecay": case(models.ExponentialDecay, optimizer=models.adam([ONES]), steps_per_epoch=2),
    "models.Normalize": case(models.Normalize, mean=0.5, std=0.5, free="mean"),
    "models.PerImageStandardize": case(models.PerImageStandardize),
    "models.RobustClassifier": case(
        models.RobustClassifier, network=LOGITS, scheduler=flat, mean=0.5, std=0.5, num_classes=2, free="mean"
    ),
    "models.ThresholdDetector": case(models.ThresholdDetector),
    "models.ThresholdFilters": case(models.ThresholdFilters, eps=0.25),
    "models.find_thresholds": case(models.find_thresholds, weight=torch.ones(2, 1, 3, 3), bias=torch.ones(2)),
    "models.madry_mnist": case(models.madry_mnist),
    "models.madry_resnet": case(models.madry_resnet, **SHAPE, filters=(2, 4), units=1),
    "models.mlp": case(models.mlp, **SHAPE, image_size=4, hidden=(3,), empty="hidden"),
    "models.preact_resnet18": case(models.preact_resnet18, **SHAPE, width=2),
    "models.resnet": case(models.resnet, **SHAPE, units=(1, 1), width=2),
    "models.standard_net": case(models.standard_net, **SHAPE, image_size=4, free="negative_slope"),
    "models.vgg": case(models.vgg, **SHAPE, image_size=4, channels=(2, 4), hidden=(3,), empty="hidden"),
    # data
    "datamodules.BernoulliMixture": case(datamodules.BernoulliMixture, **MIXTURE, tau=0.25, theta=[1.0] * 4),
    "datamodules.CIFAR10": case(datamodules.CIFAR10, **VISION),
    "datamodules.CelebA": case(datamodules.CelebA, **VISION),
    "datamodules.Fonts": case(datamodules.Fonts, train_size=10, test_size=10, **LOADER),
    "datamodules.GaussianMixture": case(datamodules.GaussianMixture, **MIXTURE, sigma=1.0, theta=[1.0] * 4),
    "datamodules.GaussianMixture, theta drawn": case(datamodules.GaussianMixture, **MIXTURE, sigma=1.0, theta_seed=3),
    "datamodules.Mixed": case(datamodules.Mixed, base=data(), images=X, labels=Y, augment=flat, seed=1),
    "datamodules.RandomCropFlip": case(datamodules.RandomCropFlip),
    "datamodules.Reconstructed": case(datamodules.Reconstructed, data=data(), manifold=Plane(), code=2, device="cpu"),
    "datamodules.Sampled": case(
        datamodules.Sampled, manifold=Plane(), num_classes=2, latent=4, train_size=4, device="cpu", **LOADER,
        skip="methods",
    ),
    "datamodules.TensorDataModule": case(
        datamodules.TensorDataModule, train=(X, Y), test=(X, Y), num_classes=2, augment=flat, **SIZES, **LOADER
    ),
    "datamodules.balanced_subset": case(datamodules.balanced_subset, labels=Y, size=4, skip="name"),
    "datamodules.pseudo_labels": case(datamodules.pseudo_labels, model=LOGITS.eval(), images=X),
    "datamodules.read_npz": case(datamodules.read_npz, path="missing.npz"),
    "datamodules.stratified_split": case(datamodules.stratified_split, labels=Y, size=4, skip="name"),
    # manifolds
    "manifolds.FontsManifold": case(manifolds.FontsManifold),
    "manifolds.NeighbourTangent": case(manifolds.NeighbourTangent, **{**vars(FITTED), "neighbours": 3}),
    "manifolds.NeighbourTangent.fit": case(manifolds.NeighbourTangent.fit, images=X, components=2, neighbours=3),
    "manifolds.VAEGAN": case(
        manifolds.VAEGAN, image_shape=(1, 4, 4), latent=2, width=1 / 16, gradient_clip_val=1.0, bound=1.0
    ),
    "manifolds.bank": case(
        manifolds.bank, members=[manifolds.VAEGAN((1, 4, 4), latent=2, width=1 / 16, bound=1.0) for _ in range(2)]
    ),
    "manifolds.project": case(
        manifolds.project, manifold=Plane(), x=X, y=Y, z0=X.flatten(1)[:, :4], steps=2, bounds=(-1.0, 1.0)
    ),
    "manifolds.truncated_normal": case(manifolds.truncated_normal, n=3, latent=2),
    # objectives
    "objectives.alp": case(objectives.alp),
    "objectives.awp": case(objectives.awp),
    "objectives.mart": case(objectives.mart),
    "objectives.mixed": case(objectives.mixed),
    "objectives.trades": case(objectives.trades),
    # figures
    "plots.AttackedSamples": case(plots.AttackedSamples, name="pgd", **IMAGES, y=Y, before=Y, after=Y),
    "plots.Estimate": case(plots.Estimate, value=0.5, low=0.25, high=0.75, n=10, free="value low high"),
    "plots.Report": case(plots.Report, title="Title", summary="", parts=["text"], empty="parts"),
    "plots.Unit": case(plots.Unit),
    "plots.bar_chart": case(plots.bar_chart, rows=ROWS, group="name", bar="name", value="acc"),
    "plots.curve_panel": case(
        plots.curve_panel, rows=ROWS, x="step", y="acc", low="low", high="high", group="name", panel="name",
        xticks=[1.0], ylim=(0.0, 1.0), dashed={"a": "a"}, marks={"here": 1.0}, xlabel="step",
    ),
    "plots.difference_rgb": case(plots.difference_rgb, **IMAGES, scale=1.0),
    "plots.embedding": case(plots.embedding, points=[[0.0, 1.0], [1.0, 0.0]], group=["a", "b"], free="group"),
    "plots.example_sheet": case(
        plots.example_sheet, groups=[ATTACKED],
        class_names=["a", "b"], scale=1.0, free="low high",
    ),
    "plots.heat_map": case(
        plots.heat_map, matrix=[[0.5]], row_names=["a"], column_names=["b"], low=0.0, high=1.0, free="low high"
    ),
    "plots.histogram_panel": case(plots.histogram_panel, values={"a": [0.0, 1.0]}),
    "plots.image_grid": case(plots.image_grid, **IMAGES, scale=1.0, free="low high"),
    "plots.linear_fit": case(plots.linear_fit, x=[0.0, 1.0, 3.0], y=[0.0, 1.0, 2.0]),
    "plots.loss_surface": case(
        plots.loss_surface, values=[[0.0, 1.0], [1.0, 2.0]], x=[0.0, 1.0], y=[0.0, 1.0],
        marks={"here": (0.0, 0.5)}, level=0.5, free="level",
    ),
    "plots.png": case(plots.png, figure=FIGURE, dpi=10),
    "plots.principal_plane": case(plots.principal_plane, data=NOISE),
    "plots.regression_scatter": case(
        plots.regression_scatter, rows=ROWS, x="step", y="acc", group="name", panel="name", xlabel="x", ylabel="y"
    ),
    "plots.table": case(plots.table, rows=ROWS, columns=["acc"]),
    # theory
    "theory.adversarial_logistic_learner": case(theory.adversarial_logistic_learner, eps=0.25),
    "theory.adversarial_logistic_loss": case(
        theory.adversarial_logistic_loss, w=ONES, x=NOISE, y=NOISE[:, 0].sign(), eps=0.25, l2=0.5
    ),
    "theory.affine_fit": case(theory.affine_fit, x=NOISE[0], y=NOISE[1]),
    "theory.affine_law": case(theory.affine_law, target=0.25, d=16.0, scale=0.5, eps=0.25),
    "theory.bayes_error_large_d": case(theory.bayes_error_large_d, **N, d=16.0, sigma=1.0, eps=0.25),
    "theory.bayes_errors": case(theory.bayes_errors, **N, sigma=1.0, eps=0.25, noise=NOISE, infinite="p"),
    "theory.bayes_learner": case(theory.bayes_learner, sigma=1.0, eps=0.25),
    "theory.bernoulli_error": case(theory.bernoulli_error, w=ONES, theta=ONES, tau=0.25),
    "theory.bernoulli_error_normal": case(theory.bernoulli_error_normal, w=ONES, theta=ONES, tau=0.25),
    "theory.bernoulli_mean_error_large_d": case(theory.bernoulli_mean_error_large_d, **N, d=16.0, tau=0.25),
    "theory.bernoulli_mean_estimator": case(
        theory.bernoulli_mean_estimator, n=3, theta=ONES, tau=0.25, draws=2, generator=GENERATOR
    ),
    "theory.carmon_labels": case(theory.carmon_labels, **D, n0=1.0, eps=0.25),
    "theory.carmon_labels_lower": case(theory.carmon_labels_lower, **D, n0=1.0, eps=0.25),
    "theory.carmon_sigma": case(theory.carmon_sigma, **D, n0=1.0),
    "theory.carmon_unlabelled": case(theory.carmon_unlabelled, **D, n0=1.0, eps=0.25),
    "theory.compare_learner": case(
        theory.compare_learner, learner=theory.mean_learner, n=2, d=4, sigma=1.0, eps=0.25, draws=2,
        generator=GENERATOR, feature=flat, test_points=3,
    ),
    "theory.corollary_19": case(theory.corollary_19, **D, **SIGMA, beta=0.25),
    "theory.corollary_19_sigma": case(theory.corollary_19_sigma, **D, beta=0.25),
    "theory.corollary_22": case(theory.corollary_22, n=100.0, d=2**16, **SIGMA, eps=0.0625),
    "theory.corollary_22_samples": case(theory.corollary_22_samples, **D, eps=0.125),
    "theory.corollary_23": case(theory.corollary_23, n=0.0, **D, sigma=8.0, eps=0.5),
    "theory.corollary_23_samples": case(theory.corollary_23_samples, **D, sigma=8.0, eps=0.5),
    "theory.corollary_28": case(theory.corollary_28, d=2**12, tau=0.25, beta=0.25),
    "theory.corollary_28_tau": case(theory.corollary_28_tau, **D, beta=0.25),
    "theory.crossing": case(theory.crossing, error=lambda n: 1 / (1 + n), target=0.25),
    "theory.dual_norm": case(theory.dual_norm, w=ONES, infinite="p"),
    "theory.effective_samples": case(theory.effective_samples, **N, unlabelled=8.0, d=16.0, sigma=1.0),
    "theory.fact_12": case(theory.fact_12, t=1.0, sigma=1.0),
    "theory.folded_mean": case(theory.folded_mean, s=1.0),
    "theory.gaussian_error": case(
        theory.gaussian_error, w=ONES, **SAMPLES, eps=0.25, free="bias", infinite="p bias"
    ),
    "theory.hard_threshold_learner": case(theory.hard_threshold_learner, level=0.5),
    "theory.lemma_13": case(theory.lemma_13, **N, **D, **SIGMA, norm=1.0, delta=0.25),
    "theory.lemma_14": case(theory.lemma_14, **N, **D, **SIGMA),
    "theory.lemma_15": case(theory.lemma_15, **N, **SIGMA, norm=1.0, delta=0.25),
    "theory.lemma_16": case(theory.lemma_16, **N, **D, **SIGMA),
    "theory.lemma_17": case(theory.lemma_17, alignment=2.0, rho=1.0, **SIGMA),
    "theory.lemma_20": case(theory.lemma_20, w=ONES, theta=ONES, **SIGMA, eps=0.25, infinite="p"),
    "theory.lemma_29": case(theory.lemma_29, n=4.0, tau=0.125, delta=0.25),
    "theory.linear_error_floor": case(theory.linear_error_floor, tau=0.125, eps=0.5),
    "theory.linear_radius": case(theory.linear_radius, tau=0.125),
    "theory.logistic_learner": case(theory.logistic_learner),
    "theory.loglog_slope": case(theory.loglog_slope, x=NOISE[0].exp(), y=NOISE[1].exp()),
    "theory.margin_pmf": case(theory.margin_pmf, v=ONES, tau=0.25),
    "theory.mean_error_curve": case(theory.mean_error_curve, **SAMPLES, eps=0.25, noise=NOISE, infinite="p"),
    "theory.mean_error_large_d": case(theory.mean_error_large_d, **N, d=16.0, sigma=1.0, eps=0.25),
    "theory.mean_errors": case(theory.mean_errors, **N, **SAMPLES, eps=0.25, noise=NOISE, infinite="p"),
    "theory.mean_estimator": case(theory.mean_estimator, **N, **SAMPLES, noise=NOISE),
    "theory.mean_prior_errors": case(theory.mean_prior_errors, **N, sigma=1.0, eps=0.25, noise=NOISE, infinite="p"),
    "theory.monotone_error": case(
        theory.monotone_error, w=ONES, feature=flat, x=NOISE, y=NOISE[:, 0].sign(), eps=0.25
    ),
    "theory.n_bayes": case(theory.n_bayes, target=0.25, sigma=1.0, eps=0.25, noise=NOISE),
    "theory.n_robust": case(theory.n_robust, target=0.25, **SAMPLES, eps=0.25, noise=NOISE, infinite="p"),
    "theory.n_robust_large_d": case(theory.n_robust_large_d, target=0.25, d=16.0, sigma=1.0, eps=0.25),
    "theory.n_standard": case(theory.n_standard, target=0.25, **SAMPLES, noise=NOISE),
    "theory.n_standard_large_d": case(theory.n_standard_large_d, target=0.25, d=16.0, sigma=1.0),
    "theory.one_sample_error": case(theory.one_sample_error, **D, tau=0.25),
    "theory.optimal_error": case(theory.optimal_error, **SAMPLES, eps=0.25, infinite="p"),
    "theory.optimal_weights": case(theory.optimal_weights, theta=ONES, eps=0.25, infinite="p"),
    "theory.posterior_mean": case(theory.posterior_mean, **N, sigma=1.0, noise=NOISE),
    "theory.predictive_sigma": case(theory.predictive_sigma, **N, sigma=1.0),
    "theory.sample_bernoulli": case(theory.sample_bernoulli, n=3, theta=ONES, tau=0.25, generator=GENERATOR),
    "theory.sample_gaussian": case(theory.sample_gaussian, n=3, **SAMPLES, generator=GENERATOR),
    "theory.self_trained_estimator": case(
        theory.self_trained_estimator, w=ONES, unlabelled=3, **SAMPLES, generator=GENERATOR
    ),
    "theory.self_training_error_large_d": case(
        theory.self_training_error_large_d, **N, unlabelled=8.0, d=16.0, sigma=1.0, eps=0.25
    ),
    "theory.soft_threshold": case(theory.soft_threshold, x=ONES, level=0.5),
    "theory.soft_threshold_learner": case(theory.soft_threshold_learner, level=0.5),
    "theory.sqrt_d_sweep": case(theory.sqrt_d_sweep, dimensions=(4,), radii=(0.25,), numbers=16, target=0.25),
    "theory.theorem_10": case(theory.theorem_10, d=2**12, tau=0.25, eps=0.5),
    "theory.theorem_11": case(theory.theorem_11, **N, d=16.0, sigma=1.0, eps=0.25),
    "theory.theorem_11_samples": case(theory.theorem_11_samples, level=0.25, **D, sigma=1.0, eps=0.25),
    "theory.theorem_18": case(theory.theorem_18, **N, **D, **SIGMA),
    "theory.theorem_21": case(theory.theorem_21, n=100.0, d=2**16, sigma=1.0, eps=0.25, beta=0.25),
    "theory.theorem_21_radius": case(theory.theorem_21_radius, **N, **D, **SIGMA, beta=0.25),
    "theory.theorem_27": case(theory.theorem_27, **D, tau=0.25),
    "theory.theorem_31": case(theory.theorem_31, n=0.0, **D, tau=0.125, eps=0.25, gamma=0.25),
    "theory.theorem_31_samples": case(theory.theorem_31_samples, **D, tau=0.125, eps=0.25, gamma=0.25),
    "theory.theorem_4": case(theory.theorem_4, d=2**16, **SIGMA),
    "theory.theorem_5": case(theory.theorem_5, n=100.0, d=2**16, **SIGMA, eps=0.0625),
    "theory.theorem_6": case(theory.theorem_6, n=0.0, **D, scale=0.5, eps=0.5),
    "theory.theorem_8": case(theory.theorem_8, d=2**12, tau=0.25),
    "theory.theorem_9": case(theory.theorem_9, n=0.0, d=2**12, scale=0.5, eps=0.125, gamma=0.25),
    "theory.thresholded_error": case(theory.thresholded_error, w=ONES, theta=ONES, tau=0.25, eps=0.5),
}  # fmt: skip

EXCEPTIONS = {
    "attacks.Context": "made for each batch",
    "attacks.scope": "a context manager: it checks its arguments when it is entered",
    "datamodules.ImageDataModule": "abstract: its arguments are those of all the others",
    "datamodules.InMemoryDataModule": "abstract: its arguments are those of TensorDataModule",
    "datamodules.VisionDataModule": "abstract: its arguments are those of CIFAR10",
    **dict.fromkeys(
        [f"datamodules.{n}" for n in ("CIFAR100", "MNIST", "SVHN", "EMNISTDigits", "FashionMNIST", "SVHNExtra")],
        "the constructor is that of CIFAR10",
    ),
    "models.Threshold": "a result",
    "models.binarize": "runs inside networks, in every forward",
    "plots.LinearFit": "a result",
    "plots.save_png": "hands everything on to `png` and `write_bytes`",
    "theory.Guarantee": "a result",
    "theory.Comparison": "a result",
    "theory.SweepRow": "a result",
}
"""Public names that take numbers and are not in the table, each with its reason."""

# ---- what is bad


def kind_of(name: str, annotation: str, value: Any) -> str:
    """What an argument is, by its name, its annotation and a valid value of it."""
    if isinstance(value, bool):
        return "boolean"
    if "int | str | tuple[int | str, ...]" in annotation and not isinstance(value, list):
        return "key"
    if isinstance(value, int | float):
        number = isinstance(value, float) or "float" in annotation or "Real" in annotation
        return "number" if number else "seed" if "seed" in name else "count"
    if isinstance(value, str | Path):
        return "path" if "Path" in annotation else "choice" if "Literal" in annotation else "text"
    if isinstance(value, types.FunctionType | partial) or "Callable" in annotation:
        return "function"
    if isinstance(value, list | tuple):
        return "several"
    return "object"


def bad_values(case: Case, name: str) -> list[Any]:
    """Values that an argument may not have."""
    parameter, value = case.parameters[name], case.valid[name]
    annotation = str(parameter.annotation)
    kind = kind_of(name, annotation, value)
    thing = object()
    bad: list[Any] = [thing, [thing]]
    if "None" not in annotation and parameter.default is not None:
        bad.append(None)
    if name not in case.empty.split() and kind not in ("text", "key"):
        bad.append([])
    if kind in ("number", "count", "seed"):
        bad += ["0.5", True, np.bool_(True), math.nan, 1j, float]
        bad += [] if name in case.infinite.split() else [math.inf]
        bad += [] if kind == "seed" or name in case.free.split() else [-1]
        bad += [1.5, 2.0] if kind in ("count", "seed") else []
    elif kind == "key":
        bad += [1.5, True]
    elif kind == "boolean":
        bad += ["no", 0, 1, math.nan]
    elif kind == "choice":
        bad += ["no such choice", 3, True]
    elif kind in ("text", "path"):
        bad += [3, True]
    elif kind == "function":
        bad += ["no function", 3, dict]
    elif kind == "several":
        bad += ["no sequence", 3, True, *([] if name in case.free.split() else [[thing] * len(value)])]
        bad += [[math.nan] * len(value)] if value and isinstance(value[0], int | float) else []
    else:
        bad += ["no such thing", True, type(value)]
    return bad


def outcome(case: Case, name: str, bad: Any) -> str | None:
    """What is wrong with how a bad value is met; None: it is refused by the name of its argument."""
    many = case.parameters[name].kind is inspect.Parameter.VAR_POSITIONAL
    try:
        case(**{name: [bad, *case.valid[name][1:]] if many else bad})
    except (TypeError, ValueError) as error:
        named = re.search(rf"argument `{name}[`\[.]|arguments .*`{name}`", str(error))
        return None if named else f"{bad!r}: without the name: {str(error)[:200]}"
    except Exception as error:
        return f"{bad!r}: {type(error).__name__}: {str(error)[:200]}"
    return f"{bad!r}: taken"


def arguments(*kinds: str) -> list[Any]:
    """Each argument of each case, of all kinds or of some."""
    return [
        pytest.param(case, name, id=f"{title}({name})")
        for title, case in TABLE.items()
        for name in case.parameters
        if name not in case.skip.split() and case.valid.get(name) is not None
        if not kinds or kind_of(name, str(case.parameters[name].annotation), case.valid[name]) in kinds
    ]


@pytest.mark.parametrize(("case", "name"), arguments())
def test_bad_values_are_refused_by_name(case, name):
    wrong = [found for bad in bad_values(case, name) if (found := outcome(case, name, bad)) is not None]
    assert not wrong, "\n".join(wrong)


# ---- what is good


def described(value: Any, seen: frozenset[int] = frozenset()) -> Any:
    """A value as something that can be compared; numpy's scalars have no place in it."""
    assert not isinstance(value, np.generic), f"a numpy scalar is kept: {value!r}"
    if isinstance(value, Tensor):
        return value.dtype, tuple(value.shape), value.detach().double().nan_to_num().sum().item()
    if value is None or isinstance(value, bool | int | float | str | bytes | Path | type | torch.dtype | torch.device):
        return type(value).__name__, repr(value)
    if isinstance(value, Figure | types.FunctionType | types.MethodType | torch.Generator) or id(value) in seen:
        return type(value).__name__
    seen = seen | {id(value)}
    if isinstance(value, Mapping):
        return [(str(key), described(entry, seen)) for key, entry in value.items()]
    if isinstance(value, list | tuple):
        return type(value).__name__, [described(entry, seen) for entry in value]
    if isinstance(value, Set):
        return type(value).__name__, sorted(map(repr, value))
    if isinstance(value, np.ndarray):
        return described(torch.as_tensor(value))
    return type(value).__name__, described(vars(value), seen) if hasattr(value, "__dict__") else None


@pytest.mark.parametrize(("case", "name"), arguments("number", "count", "seed", "boolean"))
def test_numpy_scalars_are_numbers(case, name):
    value = case.valid[name]
    scalar = np.bool_(value) if isinstance(value, bool) else (np.int64 if isinstance(value, int) else np.float32)(value)
    GENERATOR.manual_seed(0)
    plain = described(case(**{name: scalar.item()}))
    GENERATOR.manual_seed(0)
    assert described(case(**{name: scalar})) == plain


# ---- the table is complete


def public() -> dict[str, Any]:
    """Everything public that takes numbers or flags."""
    found = {}
    for package in PACKAGES:
        module = importlib.import_module(f"lightning_robust.{package}")
        for name in module.__all__:
            thing = getattr(module, name)
            called = isinstance(thing, types.FunctionType) or (
                inspect.isclass(thing) and not getattr(thing, "_is_protocol", False) and not hasattr(thing, "_fields")
            )
            if called and any(
                re.search(r"\b(int|float|bool|Real|Numbers)\b", inspect.formatannotation(p.annotation))
                for p in _parameters(thing).values()
            ):
                found[f"{package}.{name}"] = thing
    return found


def test_the_table_is_complete():
    missing = set(public()) - set(TABLE) - set(EXCEPTIONS)
    assert not missing, f"Give {sorted(missing)} a line in TABLE, or a reason in EXCEPTIONS"
    assert set(EXCEPTIONS) <= set(public()) - set(TABLE)


def test_the_valid_arguments_are_valid():
    for title, case in TABLE.items():
        undecided = [n for n in case.parameters if case.valid.get(n) is None and n not in case.skip.split()]
        assert all("theta" in name for name in undecided), f"Give {title} a value of {undecided}"
        if case.make is not datamodules.read_npz:
            case()
