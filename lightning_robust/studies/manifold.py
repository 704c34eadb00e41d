"""The study of Stutz et al. (CVPR 2019) on letters: `lightning-robust study manifold`.

Four stages, each a grid whose finished cells survive being killed: the learned manifolds, the models, and, for models
of the largest size, what their adversarial examples do to other models (`transfer`) and how far these are from the
manifold (`distances`). All stages read what earlier ones left in the folder `out`, which all workers must see.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_robust import L2, PGD, Attack, Linf, RobustEvaluation
from lightning_robust._lightning import pl
from lightning_robust.attacks import Ball
from lightning_robust.datamodules import Fonts
from lightning_robust.manifolds import VAEGAN, FontsManifold
from lightning_robust.manifolds.tangent import NeighbourTangent
from lightning_robust.metrics.intervals import wilson_interval
from lightning_robust.metrics.manifold_distance import manifold_angle
from lightning_robust.models import ExponentialDecay, RobustClassifier, standard_net
from lightning_robust.studies.cells import Cell, Row
from lightning_robust.studies.command import run_command
from lightning_robust.studies.errors import StudyArgumentError
from lightning_robust.studies.fitting import correct, device, loaded, quiet_trainer
from lightning_robust.studies.grid import cell_folder, choose, expand, load_artifact, run_grid, save_artifact
from lightning_robust.studies.manifold_report import Tables, write_report
from lightning_robust.studies.schemes import SCHEMES, Threats, fonts_threats
from lightning_robust.studies.tables import write_table

MODELS, MANIFOLDS, TRANSFER, DISTANCES = "models", "manifolds", "transfer", "distances"
_BALLS: dict[str, Callable[[float], Ball]] = {"linf": Linf, "l2": L2}


@dataclass(frozen=True, kw_only=True)
class ManifoldSettings:
    """What the study runs; every field is an option of `lightning-robust study manifold`.

    Args:
        out: folder of the results. The same folder again continues; a larger grid computes only its new cells.
        data: the data set; only that of letters has a known manifold.
        sizes: numbers of training images, the first ones of the training set.
        schemes: how to train, see `lightning_robust.studies.schemes.SCHEMES`.
        seeds: models per size and scheme; a seed is that of the initial weights and of the order of the images.
        epochs: passes over the training images.
        norm: of all balls.
        eps: radius in pixels, in training and evaluation; images in [0, 1].
        eta: radius in affine parameters and codes of the true manifold and of that learned for each class, likewise.
        eta_data: radius in codes of the manifold learned for all classes.
        train_steps: steps of the attacks in training.
        test_steps: steps of the attacks in evaluation.
        attempts: random starts of the attacks in evaluation.
        test_size: test images for the test error.
        attacked: the first so many of them are attacked.
        manifold_size: training images of the learned manifolds. It may be more than `sizes`, as in the paper.
        manifold_epochs: passes over them.
        manifold_width: of their networks; 1 is the paper's.
        neighbour_images: training images among which neighbours are sought, for the distance to the tangent space.
        workers: cells at once.
        threads: CPU threads for each; 0 shares the cores out.
        launcher: processes on this machine, or a Ray cluster.
        progress: whether to show progress.
    """

    out: str = field(default="runs/manifold", repr=False)
    data: Literal["fonts"] = "fonts"
    sizes: Sequence[int] = field(default=(500, 2500), repr=False)
    schemes: Sequence[str] = field(
        default=("normal", "adversarial", "on-true", "on-learned-class", "transformations"), repr=False
    )
    seeds: int = field(default=3, repr=False)
    epochs: int = 20
    norm: Literal["linf", "l2"] = "linf"
    eps: float = 0.1
    eta: float = 0.3
    eta_data: float = 0.1
    train_steps: int = 10
    test_steps: int = 40
    attempts: int = 2
    test_size: int = 10_000
    attacked: int = 500
    manifold_size: int = 40_000
    manifold_epochs: int = 8
    manifold_width: float = 0.25
    neighbour_images: int = 20_000
    workers: int = field(default=2, repr=False)
    threads: int = field(default=0, repr=False)
    launcher: Literal["processes", "ray", "inline"] = field(default="processes", repr=False)
    progress: bool = field(default=True, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sizes", tuple(self.sizes))
        object.__setattr__(self, "schemes", tuple(choose("schemes", self.schemes, SCHEMES)))
        counts = [*((name, vars(self)[name]) for name in _COUNTS), *(("sizes", size) for size in self.sizes)]
        for name, count in counts:
            if count < 1:
                raise StudyArgumentError(f"Expected argument `{name}` to be at least 1, but got {count}.")
        for name, radius in (("eps", self.eps), ("eta", self.eta), ("eta_data", self.eta_data)):
            if not radius > 0:
                raise StudyArgumentError(f"Expected argument `{name}` to be positive, but got {radius}.")
        if self.attacked > self.test_size:
            raise StudyArgumentError(
                f"Expected argument `attacked` to be at most `test_size`, {self.test_size}, but got {self.attacked}."
            )
        if self.norm not in _BALLS:
            raise StudyArgumentError(f"Expected argument `norm` to be among {', '.join(_BALLS)}, but got {self.norm}.")


_COUNTS = (
    "seeds",
    "epochs",
    "train_steps",
    "test_steps",
    "attempts",
    "test_size",
    "attacked",
    "manifold_size",
    "manifold_epochs",
    "neighbour_images",
    "workers",
)

PRESETS: dict[str, dict[str, Any]] = {
    "quick": {},
    "paper": {
        "sizes": (500, 2500, 10_000, 20_000),
        "schemes": tuple(name for name in SCHEMES if not name.endswith("-100")),
        "seeds": 5,
        "eps": 0.3,
        "train_steps": 40,
        "attempts": 5,
        "test_size": 160_000,
        "attacked": 2500,
        "manifold_size": 950_000,
        "manifold_epochs": 10,
        "manifold_width": 1.0,
        "neighbour_images": 240_000,
        "workers": 1,
    },
}
"""What each preset changes of the defaults: "quick" is for two cores, "paper" is the full grid, for a GPU."""


def run_manifold_study(options: ManifoldSettings) -> Tables:
    """Train, attack and compare the models, and write tables, figures and `report.html` to `options.out`.

    Returns:
        The rows of all stages. Those of `models` have the columns n, scheme, seed, metric, value, low, high, count.

    Raises:
        StudyArgumentError: an argument is wrong, or the folder holds results of other settings.
        CellsFailedError: cells failed; all others are finished, and the same command goes on with these.
    """
    options = replace(options, out=str(Path(options.out).resolve()))
    seeds, largest = range(options.seeds), max(options.sizes)
    kinds = sorted({kind for name in options.schemes if (kind := SCHEMES[name].manifold) is not None})
    measured = "normal" if "normal" in options.schemes else options.schemes[0]
    manifolds = _grid(expand(manifold=kinds), TrainManifold(options), options, MANIFOLDS) if kinds else []
    models = _grid(
        expand(n=options.sizes, scheme=options.schemes, seed=seeds),
        TrainModel(options),
        options,
        MODELS,
        cost=lambda cell: _cost(cell, options),
    )
    pairs = expand(
        n=[largest],
        source=options.schemes,
        seed=[0],
        targets=[" ".join(options.schemes)],
        target_seed=[options.seeds - 1],
    )
    transfer = _grid(pairs, Transfer(options), options, TRANSFER)
    distances = _grid(expand(n=[largest], scheme=[measured], seed=seeds), MeasureDistance(options), options, DISTANCES)
    out = Path(options.out)
    shown: Row = {"n": largest, "scheme": measured, "seed": 0}
    examples = load_artifact(cell_folder(out, DISTANCES, shown) / "examples.pt")
    tables = Tables(models, manifolds, transfer, distances, examples)
    write_table(models, out)
    for name, rows in ((MANIFOLDS, manifolds), (TRANSFER, transfer), (DISTANCES, distances)):
        if rows:
            write_table(rows, out, name)
    write_report(tables, out, settings={name: value for name, value in vars(options).items() if name != "out"})
    return tables


def _grid(
    cells: list[Row],
    work: Callable[[Row, Path], list[Row]],
    options: ManifoldSettings,
    stage: str,
    cost: Callable[[Cell], float] | None = None,
) -> list[Row]:
    return run_grid(
        cells,
        work,
        options.out,
        stage=stage,
        workers=1 if options.launcher == "inline" else min(options.workers, len(cells)),
        threads=options.threads or None,
        launcher=options.launcher,
        progress=options.progress,
        cost=cost,
    )


def _cost(cell: Cell, options: ManifoldSettings) -> float:
    """In passes of an image through the classifier; a pass through a learned decoder is about four."""
    scheme = SCHEMES[str(cell["scheme"])]
    n = float(str(cell["n"]))
    step = 2.0 if scheme.manifold is None else 10.0
    train = n * options.epochs * (3 + (scheme.attack is not None) * scheme.fraction * options.train_steps * step)
    return train + 4 * options.attacked * options.test_steps * options.attempts + options.test_size


@dataclass(frozen=True)
class TrainManifold:
    """Learn a manifold: the cell's `manifold` is "class", a VAE-GAN for each class, or "data", one for all."""

    options: ManifoldSettings

    def __call__(self, cell: Row, folder: Path) -> list[Row]:
        """Train it, keep its weights, and say how well it reconstructs held-out images."""
        options, module = self.options, _new_manifold(str(cell["manifold"]), self.options)
        # As many images of each class in a step as the paper's 100.
        data = Fonts(
            "hard", train_size=options.manifold_size, val_size=2000, batch_size=100 * module.num_classes, seed=0
        )
        trainer = quiet_trainer(max_epochs=options.manifold_epochs, num_sanity_val_steps=0)
        trainer.fit(module, data)
        save_artifact(folder / "manifold.pt", module.cpu().state_dict())
        names = ("val/rec_mse", "val/code_mean", "val/code_var", "val/code_within_2")
        return [{"metric": name.removeprefix("val/"), "value": float(trainer.callback_metrics[name])} for name in names]


@dataclass(frozen=True)
class TrainModel:
    """Train a classifier on `n` images by a `scheme` from a `seed`, then test and attack it."""

    options: ManifoldSettings

    def __call__(self, cell: Row, folder: Path) -> list[Row]:
        """Keep its weights, and tell test error and success rates."""
        options, seed, n = self.options, int(str(cell["seed"])), int(str(cell["n"]))
        scheme = SCHEMES[str(cell["scheme"])]
        threats = _threats(options, learned=scheme.manifold)
        data = Fonts("hard", train_size=n, test_size=options.test_size, seed=seed)
        pl.seed_everything(seed, verbose=False)
        steps = -(-n // data.batch_size)
        module = RobustClassifier(standard_net(), scheduler=lambda optimizer: ExponentialDecay(optimizer, steps))
        callbacks = scheme.callbacks(threats, options.train_steps)
        quiet_trainer(callbacks, max_epochs=options.epochs, limit_val_batches=0).fit(module, data)
        save_artifact(folder / "model.pt", module.cpu().state_dict())
        return [_error(module, data), *_success(module, threats, options)]


def _error(module: RobustClassifier, data: Fonts) -> Row:
    x, y, _ = data.tensors("test")
    wrong = int((~correct(module.to(device()), x, y)).sum())
    low, high = wilson_interval(wrong, len(y))
    return _row("test error", wrong / len(y), float(low), float(high), len(y))


def _success(module: RobustClassifier, threats: Threats, options: ManifoldSettings) -> list[Row]:
    evaluation = RobustEvaluation(_attacks(threats, options), code=2)
    quiet_trainer([evaluation]).test(module, Fonts("hard", test_size=options.attacked), verbose=False)
    found = evaluation.results
    right = round(found["test/robust_n"] * found["test/acc"])
    rows = []
    for name in ("off", "on"):
        key = f"test/success_{name}"
        rows.append(_row(f"{name}-manifold success", found[key], found[f"{key}_low"], found[f"{key}_high"], right))
        worst = found[f"{key}_worst"]
        low, high = wilson_interval(round(worst * right) if right else 0, right)
        rows.append(_row(f"{name}-manifold success, worst attempt", worst, float(low), float(high), right))
    return rows


def _row(metric: str, value: float, low: float, high: float, count: int) -> Row:
    return {"metric": metric, "value": value, "low": low, "high": high, "count": count}


@dataclass(frozen=True)
class Transfer:
    """Show the adversarial examples of one model, a `source`, to one model of each scheme.

    The rate is that of the paper: of the images that both models read correctly, the share whose adversarial example
    fools both. Targets come from the last seed, sources from the first, so that with two seeds or more they differ.
    """

    options: ManifoldSettings

    def __call__(self, cell: Row, folder: Path) -> list[Row]:
        """A row for each threat and target."""
        options, n = self.options, cell["n"]
        source = _load_model(options, n, cell["source"], cell["seed"])
        targets = str(cell["targets"]).split()
        models = {name: _load_model(options, n, name, cell["target_seed"]) for name in targets}
        rows: list[Row] = []
        for threat, attack in _attacks(_threats(options), options).items():
            x, y, x_adv, _ = _examples(source, attack, options)
            right, fooled = correct(source, x, y), ~correct(source, x_adv, y)
            for name, model in models.items():
                both = right & correct(model, x, y)
                hits, count = int((both & fooled & ~correct(model, x_adv, y)).sum()), int(both.sum())
                low, high = wilson_interval(hits, count)
                row = _row("transfer", hits / max(count, 1), float(low), float(high), count)
                rows.append({"threat": threat, "target": name, **row})
        return rows


@dataclass(frozen=True)
class MeasureDistance:
    """How far successful adversarial examples of a model are from the manifold, and at which angle they leave it.

    By the true manifold (`FontsManifold.project`) and by the tangent spaces of nearest training images
    (`NeighbourTangent`). The values of all examples are kept in `examples.pt`.
    """

    options: ManifoldSettings

    def __call__(self, cell: Row, folder: Path) -> list[Row]:
        """A row for each threat, manifold and metric."""
        options = self.options
        model = _load_model(options, cell["n"], cell["scheme"], cell["seed"])
        images, _, _ = Fonts("hard", train_size=options.neighbour_images).tensors("train")
        tangent = NeighbourTangent.fit(images, components=40, neighbours=min(51, len(images)))
        rows: list[Row] = []
        kept: dict[str, Tensor] = {}
        for threat, attack in _attacks(_threats(options), options).items():
            x, y, x_adv, code = _examples(model, attack, options)
            hit = correct(model, x, y) & ~correct(model, x_adv, y)
            if not bool(hit.any()):
                continue
            x, y, x_adv, code = x[hit], y[hit], x_adv[hit], (code[0][hit], code[1][hit])
            projections = {
                "true": _nearest(x_adv, y, code, options.eta),
                "tangent": tangent.project(x_adv, x),
            }
            for manifold, point in projections.items():
                values = {
                    "distance": torch.linalg.vector_norm((x_adv - point).flatten(1), dim=1),
                    "angle": manifold_angle(x, x_adv, point),
                }
                for metric, value in values.items():
                    kept[f"{threat} {manifold} {metric}"] = value
                    rows.append({"threat": threat, "manifold": manifold, **_mean(metric, value)})
            kept[f"{threat} size"] = torch.linalg.vector_norm((x_adv - x).flatten(1), dim=1)
            rows.append({"threat": threat, "manifold": "none", **_mean("size", kept[f"{threat} size"])})
        save_artifact(folder / "examples.pt", kept)
        return rows


def _nearest(x_adv: Tensor, y: Tensor, code: tuple[Tensor, Tensor], reach: float, starts: int = 3) -> Tensor:
    """The nearest point of the true manifold that Adam finds from the true code and from others within `reach` of it.

    The paper starts from the true code alone, from where some on-manifold examples are not found again.
    """
    manifold, (theta, font) = FontsManifold("hard"), code
    offsets = reach * (2 * torch.rand(starts, *theta.shape, generator=torch.Generator().manual_seed(0)) - 1)
    offsets[0] = 0
    found = [manifold.project(x_adv, y, (theta + offset, font)) for offset in offsets]
    least = torch.stack([projection.distance for projection in found]).argmin(0)
    return torch.stack([projection.x for projection in found])[least, torch.arange(len(x_adv))]


def _mean(metric: str, values: Tensor) -> Row:
    """The mean over examples with its normal 95 % interval; NaN, where an angle is not defined, is left out."""
    values = values[~values.isnan()].double()
    mean = float(values.mean())
    half = 1.96 * float(values.std()) / len(values) ** 0.5 if len(values) > 1 else 0.0
    return _row(metric, mean, mean - half, mean + half, len(values))


def _attacks(threats: Threats, options: ManifoldSettings) -> dict[str, Attack]:
    sets = {"off": threats.pixels, "on": threats.on_true}
    return {
        name: PGD(threat, options.test_steps, restarts=options.attempts, keep="best") for name, threat in sets.items()
    }


def _examples(
    model: RobustClassifier, attack: Attack, options: ManifoldSettings
) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, Tensor]]:
    """Test images, labels, adversarial examples and true codes, on the CPU."""
    x, y, code = Fonts("hard", test_size=options.attacked).tensors("test")
    found = [
        attack(model, *(part.to(device()) for part in (a, b)), code=(c.to(device()), d.to(device()))).cpu()
        for a, b, c, d in zip(*(part.split(100) for part in (x, y, *code)), strict=True)
    ]
    return x, y, torch.cat(found), (code.theta, code.font)


def _threats(options: ManifoldSettings, learned: str | None = None) -> Threats:
    manifold = None if learned is None else _load_manifold(options, learned)
    return fonts_threats(
        options.eps,
        options.eta,
        eta_data=options.eta_data,
        ball=_BALLS[options.norm],
        on_class=manifold if learned == "class" else None,
        on_data=manifold if learned == "data" else None,
    )


def _new_manifold(kind: str, options: ManifoldSettings) -> VAEGAN:
    torch.manual_seed(0)
    classes = Fonts.num_classes if kind == "class" else 1
    return VAEGAN(Fonts.image_shape, num_classes=classes, width=options.manifold_width, bound=2.0)


def _load_manifold(options: ManifoldSettings, kind: str) -> VAEGAN:
    path = cell_folder(options.out, MANIFOLDS, {"manifold": kind}) / "manifold.pt"
    return loaded(_new_manifold(kind, options), path)


def _load_model(options: ManifoldSettings, n: Any, scheme: Any, seed: Any) -> RobustClassifier:
    folder = cell_folder(options.out, MODELS, {"n": n, "scheme": scheme, "seed": seed})
    return loaded(RobustClassifier(standard_net()), folder / "model.pt")


def main(args: Sequence[str]) -> None:
    """Run the study with command-line options."""
    run_command(
        ManifoldSettings,
        run_manifold_study,
        args,
        prog="lightning-robust study manifold",
        description="Off- and on-manifold robustness and generalization on letters, over sizes, schemes and seeds.",
        presets=PRESETS,
        lists={"sizes": (int, "training images"), "schemes": (str, "among " + ", ".join(SCHEMES))},
    )
