"""A bad value of an argument is refused where it is given, by the argument's own name; numpy's numbers are numbers.

One table of public constructors and functions, one law. A new constructor joins with a line that gives valid values of
the arguments without a telling default; what is bad follows from the valid value and the annotation.
"""

import dataclasses
import functools
from types import SimpleNamespace
from typing import Any

import foolbox
import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from lightning_robust import (
    attacks,
    bounds,
    callbacks,
    datamodules,
    evaluation,
    interop,
    manifolds,
    metrics,
    models,
    objectives,
    plots,
    recipes,
)
from lightning_robust.attacks import PGD, Linf, PixelSpace, Steepest
from tests.argument_law import arguments, assert_numpy_scalars_are_numbers, bad_values, case, outcome, public

PACKAGES = (
    "attacks",
    "bounds",
    "callbacks",
    "datamodules",
    "evaluation",
    "interop",
    "manifolds",
    "metrics",
    "models",
    "objectives",
    "plots",
    "recipes",
)


# ---- the table

GENERATOR = torch.Generator()
X, Y = torch.rand(8, 1, 4, 4), torch.arange(8) % 2
LOGITS = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
IMAGES = {"x": X, "x_adv": X.clone()}
ONES, NOISE = torch.ones(4, dtype=torch.float64), torch.randn(6, 4, dtype=torch.float64)
ROWS = [{"step": 1, "acc": 0.5, "low": 0.25, "high": 0.75, "name": "a"}]
RADII = [{"model": "a", "radius": 0.1, "value": 0.5, "low": 0.25, "high": 0.75}]
SIZES = {"train_size": 4, "val_size": 2}
LOADER = {"eval_batch_size": 2}
FIGURE = Figure()
BANK = manifolds.VAEGAN((1, 4, 4), latent=2, num_classes=2, width=1 / 16, init_std=None)
ATTACKED = plots.AttackedSamples(name="pgd", x=X[:1], x_adv=X[:1], y=Y[:1], before=Y[:1], after=Y[:1])


def data(**options: Any) -> Any:
    return datamodules.TensorDataModule((X, Y), (X, Y), **{"val_size": 2, **options})


class Plane:
    """A manifold."""

    def encode(self, x, y):
        return x.flatten(1)

    def decode(self, z, y):
        return z.sigmoid()[:, None, None].expand(-1, 1, 4, -1)


class Codec:
    """An auto-encoder with the interface of diffusers."""

    def encode(self, x):
        return SimpleNamespace(latents=x)

    def decode(self, z):
        return SimpleNamespace(sample=z)


def flat(images: Tensor) -> Tensor:
    return images


def forward(model: nn.Module, batch: Any) -> Tensor:
    return model(batch["x"])


def right(logits: Tensor, y: Tensor) -> Tensor:
    return logits.argmax(1) == y


@functools.wraps(evaluation.evaluate)
def timeless(**options: Any) -> evaluation.Report:
    return dataclasses.replace(evaluation.evaluate(**options), seconds=0.0)


VISION = {"augment": flat, **SIZES, **LOADER}
SHAPE = {"in_channels": 1, "num_classes": 2}

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
    "attacks.expectation": case(attacks.expectation, model=torch.relu),
    "attacks.AutoPGD": case(attacks.AutoPGD),
    "attacks.Boundary": case(attacks.Boundary, size=(1.0, 0.5), below=X[:, 0]),
    "attacks.DDN": case(attacks.DDN, below=X[:, 0], levels=8),
    "attacks.FMN": case(attacks.FMN, below=X[:, 0]),
    "attacks.MinimumNorm": case(
        attacks.MinimumNorm, **BALL, steps=1, gain=attacks.margin, closer=(0.9,), empty="closer",
    ),
    "attacks.Shrinking": case(attacks.Shrinking, attack=PGD(Linf(0.25), 8)),
    "attacks.apgd": case(attacks.apgd, **BALL),
    "attacks.fgsm": case(attacks.fgsm, **BALL),
    "attacks.fast": case(attacks.fast, **ATTACK, precision="bf16"),
    "attacks.finite_differences": case(attacks.finite_differences, **ATTACK, width=0.5),
    "attacks.in_turn": case(attacks.in_turn, attacks=[PGD(Linf(0.25)), PGD(Linf(0.5))]),
    "attacks.mim": case(attacks.mim, **BALL),
    "attacks.on_fraction": case(attacks.on_fraction, **ATTACK, fraction=0.5),
    "attacks.pgd_cw": case(attacks.pgd_cw, **BALL, infinite="kappa"),
    "attacks.restarted": case(attacks.restarted, **ATTACK, restarts=2),
    "attacks.rs_fgsm": case(attacks.rs_fgsm, **BALL),
    "attacks.stutz": case(attacks.stutz, **BALL),
    "attacks.nearest_classes": case(
        attacks.nearest_classes,
        model=flat,
        x=X.flatten(1)[:, :4],
        y=Y,
        **BALL,
        skip="x y logits code",
    ),
    "attacks.nearest_labels": case(
        attacks.nearest_labels,
        model=flat,
        x=X.flatten(1)[:, :4],
        y=torch.ones(len(X), 4),
        **BALL,
        skip="x y logits code",
    ),
    "attacks.normalized": case(attacks.normalized, gain=attacks.cross_entropy),
    "attacks.targeted": case(attacks.targeted, gain=attacks.margin, to=1),
    "attacks.targeted_binary": case(attacks.targeted_binary),
    "attacks.targeted_dlr": case(attacks.targeted_dlr),
    "attacks.targeted_margin": case(attacks.targeted_margin),
    "attacks.worst_of": case(attacks.worst_of, attacks=[PGD(Linf(0.25)), PGD(Linf(0.5))]),
    # bounds
    "bounds.least_error": case(bounds.least_error, x=X, y=Y, ball=Linf(0.1)),
    "bounds.least_errors": case(bounds.least_errors, x=X, y=Y, balls=[Linf(0.1)]),
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
    "callbacks.RobustEvaluation": case(
        callbacks.RobustEvaluation, attacks=PGD(Linf(0.25)), max_samples=4, metrics={}, skip="metrics", **READING
    ),
    "callbacks.RobustGeneralizationGap": case(callbacks.RobustGeneralizationGap, **ATTACK, **READING),
    # evaluation
    "evaluation.Comparison": case(
        evaluation.Comparison, both=5, only_first=2, only_second=1, neither=0, skip="notes"
    ),
    "evaluation.Report": case(
        evaluation.Report, right={"clean": Y == 0}, labels=Y, eps=0.1, skip="attacks warnings images",
        empty="indicators", free="indicators",
    ),
    "evaluation.evaluate": case(
        timeless, model=LOGITS, data=[{"x": X, "y": Y, "z": X}], attacks=PGD(Linf(0.25), 1), input="x", target="y",
        code="z", forward=forward, correct=right, per_sample=["z"], max_samples=4, device="cpu",
        empty="per_sample", skip="model data model_class out shard",
    ),
    "evaluation.Images": case(
        evaluation.Images, key=["a"] * 8, label=Y, clean=Y == 0, attack=[""] * 8, target=Y, restart=Y, step=Y,
        gain=Y.double(), radius=Y.double(), passes=Y, examples=X,
    ),
    "evaluation.Plan": case(evaluation.Plan, attacks={"pgd": PGD(Linf(0.25))}, note="Note", skip="note"),
    "evaluation.Stage": case(evaluation.Stage, **ATTACK),
    "evaluation.autoattack": case(evaluation.autoattack, **BALL),
    "evaluation.standard": case(evaluation.standard, **BALL),
    # attacks of others
    "interop.from_foolbox": case(
        interop.from_foolbox, attack=foolbox.attacks.LinfPGD(), eps=0.5, **NORMALIZED
    ),
    "interop.from_torchattacks": case(
        interop.from_torchattacks, factory=flat, arguments={}, **NORMALIZED, skip="factory arguments"
    ),
    # metrics
    "metrics.AttackSuccessRate": case(metrics.AttackSuccessRate, restarts=2),
    "metrics.PerClassRobustAccuracy": case(metrics.PerClassRobustAccuracy, num_classes=3),
    "metrics.PerturbationNorm": case(metrics.PerturbationNorm, p=2.0, infinite="p"),
    "metrics.RobustAccuracy": case(metrics.RobustAccuracy, names=["a"]),
    "metrics.clustered_interval": case(metrics.clustered_interval, hits=5.0, squares=25.0, clusters=2.0, size=5),
    "metrics.mcnemar_test": case(metrics.mcnemar_test, only_first=2, only_second=3),
    "metrics.paired_interval": case(metrics.paired_interval, only_first=2, only_second=3, total=9),
    "metrics.perturbation_norm": case(metrics.perturbation_norm, **IMAGES, p=2.0, infinite="p"),
    "metrics.wilson_interval": case(metrics.wilson_interval, successes=1.0, total=2.0),
    # models
    "models.Bpda": case(models.Bpda, function=flat, substitute=flat),
    "models.ExponentialDecay": case(models.ExponentialDecay, optimizer=torch.optim.SGD([ONES]), steps_per_epoch=2),
    "models.Normalize": case(models.Normalize, mean=0.5, std=0.5, free="mean"),
    "models.PerImageStandardize": case(models.PerImageStandardize),
    "models.RobustClassifier": case(
        models.RobustClassifier, network=LOGITS, optimizer=torch.optim.SGD, scheduler=flat, mean=0.5, std=0.5,
        interval="epoch", num_classes=2, free="mean",
    ),
    "models.madry_mnist": case(models.madry_mnist),
    "models.madry_resnet": case(models.madry_resnet, **SHAPE, filters=(2, 4), units=1),
    "models.mlp": case(models.mlp, **SHAPE, image_size=4, hidden=(3,), empty="hidden"),
    "models.preact_resnet18": case(models.preact_resnet18, **SHAPE, width=2),
    "models.resnet": case(models.resnet, **SHAPE, units=(1, 1), width=2),
    "models.standard_net": case(models.standard_net, **SHAPE, image_size=4, free="negative_slope"),
    "models.vgg": case(models.vgg, **SHAPE, image_size=4, channels=(2, 4), hidden=(3,), empty="hidden"),
    # data
    "datamodules.CIFAR10": case(datamodules.CIFAR10, **VISION),
    "datamodules.CelebA": case(datamodules.CelebA, **VISION),
    "datamodules.Fonts": case(datamodules.Fonts, train_size=10, test_size=10, **LOADER),
    "datamodules.ExtraDataModule": case(
        datamodules.ExtraDataModule, base=data(), images=X, labels=Y, augment=flat, seed=1
    ),
    "datamodules.RandomCropFlip": case(datamodules.RandomCropFlip),
    "datamodules.ReconstructedDataModule": case(
        datamodules.ReconstructedDataModule, data=data(), manifold=Plane(), code=2, device="cpu"
    ),
    "datamodules.GeneratedDataModule": case(
        datamodules.GeneratedDataModule, manifold=Plane(), num_classes=2, latent=4, train_size=4, device="cpu",
        **LOADER, skip="methods",
    ),
    "datamodules.TensorDataModule": case(
        datamodules.TensorDataModule, train=(X, Y), test=(X, Y), num_classes=2, augment=flat, **SIZES, **LOADER
    ),
    "datamodules.balanced_subset": case(datamodules.balanced_subset, labels=Y, size=4, skip="name"),
    "datamodules.pseudo_labels": case(datamodules.pseudo_labels, model=LOGITS.eval(), images=X),
    "datamodules.read_npz": case(datamodules.read_npz, path="missing.npz"),
    "datamodules.stratified_split": case(datamodules.stratified_split, labels=Y, size=4, skip="name"),
    # manifolds
    "manifolds.AutoencoderManifold": case(
        manifolds.AutoencoderManifold, autoencoder=Codec(), image_shape=(1, 4, 4), channels=1, multiple=2
    ),
    "manifolds.FlowManifold": case(manifolds.FlowManifold, image_shape=(1, 4, 4), bound=1.0),
    "manifolds.FontsManifold": case(manifolds.FontsManifold),
    "manifolds.Share": case(manifolds.Share, hits=1, n=2),
    "manifolds.PCAManifold": case(manifolds.PCAManifold, image_shape=(1, 4, 4), latent=2),
    "manifolds.VAEGAN": case(
        manifolds.VAEGAN,
        image_shape=(1, 4, 4),
        latent=2,
        num_classes=2,
        conditional=True,
        width=1 / 16,
        gradient_clip_val=1.0,
        bound=1.0,
    ),
    "manifolds.bank": case(
        manifolds.bank, members=[manifolds.VAEGAN((1, 4, 4), latent=2, width=1 / 16, bound=1.0) for _ in range(2)]
    ),
    "manifolds.explain": case(manifolds.explain, judge=BANK, x=X, y=Y, num_classes=2, steps=2),
    "manifolds.fingerprint": case(
        manifolds.fingerprint, classify=LOGITS, manifold=BANK, other=BANK, x=X, y=Y, num_classes=2
    ),
    "manifolds.leak": case(
        manifolds.leak, classify=LOGITS, manifold=BANK, x=X, y=Y, num_classes=2, code=X.flatten(1)[:, :2]
    ),
    "manifolds.project": case(
        manifolds.project, manifold=Plane(), x=X, y=Y, z0=X.flatten(1)[:, :4], steps=2, bounds=(-1.0, 1.0)
    ),
    "manifolds.still_valid": case(manifolds.still_valid, judge=BANK, x_adv=X, y=Y, num_classes=2, steps=2),
    "manifolds.truncated_normal": case(manifolds.truncated_normal, n=3, latent=2),
    # objectives
    "objectives.alp": case(objectives.alp),
    "objectives.awp": case(objectives.awp),
    "objectives.mart": case(objectives.mart),
    "objectives.mixed": case(objectives.mixed),
    "objectives.trades": case(objectives.trades),
    # training methods
    "recipes.adversarial_transformations": case(recipes.adversarial_transformations, space=attacks.AffineSpace()),
    "recipes.awp": case(recipes.awp, recipe=recipes.madry(Linf(0.25))),
    "recipes.half_adversarial": case(recipes.half_adversarial, **BALL),
    "recipes.madry": case(recipes.madry, **BALL),
    "recipes.mart": case(recipes.mart, **BALL),
    "recipes.on_manifold": case(recipes.on_manifold, manifold=Plane()),
    "recipes.random_transformations": case(recipes.random_transformations, space=attacks.AffineSpace()),
    "recipes.trades": case(recipes.trades, **BALL),
    # figures
    "plots.AttackedSamples": case(plots.AttackedSamples, name="pgd", **IMAGES, y=Y, before=Y, after=Y),
    "plots.Claim": case(plots.Claim, claim="It falls.", verdict="holds"),
    "plots.Claims": case(plots.Claims, claims=[plots.Claim("It falls.", "holds")]),
    "plots.Estimate": case(plots.Estimate, value=0.5, low=0.25, high=0.75, count=10, free="value low high"),
    "plots.Facts": case(plots.Facts, values={"a": 1}),
    "plots.Heading": case(plots.Heading, text="Text"),
    "plots.Page": case(plots.Page, title="Title", summary="", parts=["text"], empty="parts"),
    "plots.Picture": case(plots.Picture, figure=FIGURE, caption="Caption", alt="Words"),
    "plots.Table": case(plots.Table, rows=ROWS, columns=["acc"]),
    "plots.Unit": case(plots.Unit),
    "plots.bar_chart": case(plots.bar_chart, rows=ROWS, group="name", bar="name", value="acc"),
    "plots.curve_panel": case(
        plots.curve_panel, rows=ROWS, x="step", y="acc", low="low", high="high", group="name", panel="name",
        xticks=[1.0], ylim=(0.0, 1.0), dashed={"a": "a"}, marks={"here": 1.0}, xlabel="step",
    ),
    "plots.radius_curve": case(plots.radius_curve, rows=RADII, panel="model"),
    "plots.difference_rgb": case(plots.difference_rgb, **IMAGES, scale=1.0),
    "plots.example_sheet": case(
        plots.example_sheet, groups=[ATTACKED],
        class_names=["a", "b"], scale=1.0, free="low high",
    ),
    "plots.image_grid": case(plots.image_grid, **IMAGES, scale=1.0, free="low high"),
    "plots.png": case(plots.png, figure=FIGURE, dpi=10),
}  # fmt: skip

EXCEPTIONS = {
    "attacks.Context": "made for each batch",
    "attacks.Iterate": "made for each step",
    "attacks.Progress": "made for each batch",
    "attacks.scope": "a context manager: it checks its arguments when it is entered",
    "bounds.Bound": "made by `least_error`",
    "bounds.Conflicts": "made by `conflicts`",
    "datamodules.ImageDataModule": "abstract: its arguments are those of all the others",
    "datamodules.InMemoryDataModule": "abstract: its arguments are those of TensorDataModule",
    "datamodules.VisionDataModule": "abstract: its arguments are those of CIFAR10",
    **dict.fromkeys(
        [f"datamodules.{n}" for n in ("CIFAR100", "MNIST", "SVHN", "EMNISTDigits", "FashionMNIST", "SVHNExtra")],
        "the constructor is that of CIFAR10",
    ),
    "manifolds.Leak": "made by `leak`",
    **dict.fromkeys(
        [f"objectives.{n}" for n in ("Alp", "Awp", "Mart", "Mixed", "Trades")],
        "the function of the same name hands everything on to it",
    ),
    "plots.save_png": "hands everything on to `png` and `write_bytes`",
}
"""Public names that take numbers and are not in the table, each with its reason."""

# ---- the law


@pytest.mark.parametrize(("case", "names"), arguments(TABLE))
def test_bad_values_are_refused_by_name(case, names):
    tried = [(name, outcome(case, name, bad)) for name in names for bad in bad_values(case, name)]
    wrong = [f"{name}: {found}" for name, found in tried if found is not None]
    assert not wrong, "\n".join(wrong)


# ---- what is good


@pytest.mark.parametrize(("case", "names"), arguments(TABLE, "number", "count", "seed", "boolean"))
def test_numpy_scalars_are_numbers(case, names):
    assert_numpy_scalars_are_numbers(case, names, GENERATOR)


# ---- the table is complete


def test_the_table_is_complete():
    missing = set(public("lightning_robust", PACKAGES)) - set(TABLE) - set(EXCEPTIONS)
    assert not missing, f"Give {sorted(missing)} a line in TABLE, or a reason in EXCEPTIONS"
    assert set(EXCEPTIONS) <= set(public("lightning_robust", PACKAGES)) - set(TABLE)


def test_the_valid_arguments_are_valid():
    for title, each in TABLE.items():
        undecided = [n for n in each.parameters if each.valid.get(n) is None and n not in each.skip.split()]
        assert all("theta" in name for name in undecided), f"Give {title} a value of {undecided}"
        if each.make is not datamodules.read_npz:
            each()
