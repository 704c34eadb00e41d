"""The demonstration: four models on the Fonts data, trained and attacked through the public interface."""

import csv
import io
import json
import logging
import math
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from lightning_robust import PGD, AdversarialTraining, AffineSpace, Attack, LatentSpace, Linf, RobustEvaluation, Threat
from lightning_robust._lightning import pl
from lightning_robust.datamodules import Fonts
from lightning_robust.manifolds import FontsManifold
from lightning_robust.models import ExponentialDecay, RobustClassifier, standard_net
from lightning_robust.plots import (
    AttackedSamples,
    Estimate,
    Html,
    Report,
    bar_chart,
    example_sheet,
    heading,
    picture,
    save_png,
    settings,
    table,
    versions,
    write_text,
)
from lightning_robust.studies.progress import Advance, progress_bars

LETTERS = "ABCDEFGHIJ"
TEST_BATCH = 250
METRICS = ("test error", "pixel robust error", "on-manifold robust error", "on-manifold success rate")


@dataclass(frozen=True)
class Settings:
    """What the demonstration runs; every field is an option of `lightning-robust demo`.

    Args:
        out: Folder of the results.
        seed: Seeds the initial weights and the order of the training images; the same for all models.
        train_size: Number of training images.
        test_size: Number of test images; all models are attacked on the same ones.
        epochs: Passes over the training images.
        eps: Radius of the pixel ball (Linf, images in [0, 1]), in training and evaluation.
        eta: Radius of the balls of latent codes and of affine parameters (Linf, raw units), likewise.
        train_steps: Steps of the attacks in training.
        test_steps: Steps of the attacks in evaluation.
        restarts: Random starts of the attacks in evaluation.
        threads: CPU threads of torch; 0 leaves them as they are.
    """

    out: str = "runs/demo"
    seed: int = 0
    train_size: int = 2500
    test_size: int = 2000
    epochs: int = 20
    eps: float = 0.1
    eta: float = 0.3
    train_steps: int = 10
    test_steps: int = 40
    restarts: int = 3
    threads: int = 0

    def __post_init__(self) -> None:
        for name in ("train_size", "test_size", "epochs", "train_steps", "test_steps", "restarts"):
            if getattr(self, name) < 1:
                raise ValueError(f"Expected argument `{name}` to be at least 1, but got {getattr(self, name)}.")


def threats(eps: float, eta: float) -> dict[str, Threat]:
    """The three perturbation sets of the demonstration: pixels, the true manifold, affine maps."""
    manifold = FontsManifold("hard")
    box = manifold.ranges
    maps = AffineSpace(translation=box.translation, shear=box.shear, scale=box.scale, rotation=box.rotation)
    return {
        "pixels": Threat(Linf(eps)),
        "on_manifold": Threat(Linf(eta), LatentSpace(manifold)),
        "transformations": Threat(Linf(eta), maps),
    }


def run_demo(options: Settings, console: Console | None = None) -> list[dict[str, Any]]:
    """Train and attack four models, and write `results.csv`, figures and `report.html` to `options.out`.

    Returns:
        The rows of `results.csv`: model, metric, value, low, high, n.
    """
    console = console or Console()
    if options.threads:
        torch.set_num_threads(options.threads)
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    sets = threats(options.eps, options.eta)
    training: dict[str, Attack | None] = {
        "normal": None,
        "adversarial": PGD(sets["pixels"], steps=options.train_steps),
        "on-manifold": PGD(sets["on_manifold"], steps=options.train_steps),
        "transformations": PGD(sets["transformations"], steps=options.train_steps),
    }
    began = time.monotonic()
    rows: list[dict[str, Any]] = []
    modules: dict[str, RobustClassifier] = {}
    with _quiet(), progress_bars(console) as progress:
        batches = math.ceil(options.train_size / 100) * options.epochs
        # In passes through the network: a training step is three, an attack step two on half of the batch.
        train_cost = {name: 3.0 + (attack is not None) * options.train_steps for name, attack in training.items()}
        test_cost = 4.0 * TEST_BATCH / 100 * options.test_steps * options.restarts
        test_batches = math.ceil(options.test_size / TEST_BATCH)
        total = sum(batches * cost + test_batches * test_cost for cost in train_cost.values())
        overall = progress.add_task("[bold]demo", total=total)
        for name, attack in training.items():
            started = time.monotonic()
            task = progress.add_task(f"{name}: train", total=batches * train_cost[name])
            advance = Advance(progress, [overall, task], train_cost=train_cost[name], test_cost=test_cost)
            modules[name] = _train(attack, options, advance)
            trained = time.monotonic() - started
            progress.remove_task(task)
            advance.tasks[1] = progress.add_task(f"{name}: attack", total=test_batches * test_cost)
            rows += _evaluate(name, modules[name], sets, options, advance)
            progress.remove_task(advance.tasks[1])
            console.print(
                f"{name}: trained in {trained:.0f} s, attacked in {time.monotonic() - started - trained:.0f} s"
            )
    _write(rows, modules, sets, options, out, time.monotonic() - began)
    console.print(_rich_table(rows))
    console.print(f"Report: {out / 'report.html'}")
    return rows


def _data(options: Settings) -> Fonts:
    return Fonts(
        "hard",
        train_size=options.train_size,
        test_size=options.test_size,
        eval_batch_size=TEST_BATCH,
        seed=options.seed,
    )


def _train(attack: Attack | None, options: Settings, advance: pl.Callback) -> RobustClassifier:
    data = _data(options)
    pl.seed_everything(options.seed, verbose=False)
    steps = math.ceil(options.train_size / data.batch_size)
    module = RobustClassifier(standard_net(), scheduler=lambda optimizer: ExponentialDecay(optimizer, steps))
    callbacks = [advance]
    if attack is not None:
        callbacks.append(AdversarialTraining(attack, fraction=0.5, code=2))
    _trainer(callbacks, max_epochs=options.epochs, limit_val_batches=0).fit(module, data)
    return module


def _evaluate(
    name: str, module: RobustClassifier, sets: dict[str, Threat], options: Settings, advance: pl.Callback
) -> list[dict[str, Any]]:
    attacks = {key: PGD(sets[key], options.test_steps, restarts=options.restarts) for key in ("pixels", "on_manifold")}
    evaluation = RobustEvaluation(attacks, code=2)
    _trainer([advance, evaluation]).test(module, _data(options), verbose=False)
    found = evaluation.results
    n = int(found["test/robust_n"])

    def error(key: str) -> Estimate:
        return Estimate(1 - found[key], 1 - found[f"{key}_high"], 1 - found[f"{key}_low"], n)

    success, low, high = (found[f"test/success_on_manifold{end}"] for end in ("", "_low", "_high"))
    estimates = (
        error("test/acc"),
        error("test/acc_pixels"),
        error("test/acc_on_manifold"),
        Estimate(success, low, high, round(n * found["test/acc"])),
    )
    return [estimate.row(model=name, metric=metric) for metric, estimate in zip(METRICS, estimates, strict=True)]


def _trainer(callbacks: list[pl.Callback], **options: Any) -> pl.Trainer:
    return pl.Trainer(
        accelerator="auto",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=callbacks,
        **options,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Eight trainers need not introduce themselves."""
    names = ("pytorch_lightning", "lightning.pytorch")
    levels = [logging.getLogger(name).level for name in names]
    try:
        for name in names:
            logging.getLogger(name).setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*does not have many workers.*")
            warnings.filterwarnings("ignore", ".*number of training batches.*")
            warnings.filterwarnings("ignore", category=FutureWarning)
            warnings.filterwarnings("ignore", category=DeprecationWarning)
            yield
    finally:
        for name, level in zip(names, levels, strict=True):
            logging.getLogger(name).setLevel(level)


def _examples(
    module: RobustClassifier, sets: dict[str, Threat], options: Settings, count: int = 8
) -> list[AttackedSamples]:
    x, y, code = _data(options).tensors("test", limit=count)
    headings = {
        "pixels": f"pixels, Linf {options.eps:g}",
        "on_manifold": f"on the true manifold, Linf {options.eta:g}",
        "transformations": f"affine maps, Linf {options.eta:g}",
    }
    groups = []
    module.cpu().eval()
    for key, threat in sets.items():
        attack = PGD(threat, options.test_steps, restarts=options.restarts, keep="best")
        x_adv = attack(module, x, y, code=code)
        with torch.no_grad():
            before, after = module(x).argmax(1), module(x_adv).argmax(1)
        groups.append(AttackedSamples(name=headings[key], x=x, x_adv=x_adv, y=y, before=before, after=after))
    return groups


def _by_model(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    table: dict[str, dict[str, Any]] = {}
    for row in rows:
        line = table.setdefault(row["model"], {"training": row["model"]})
        line[row["metric"]] = Estimate(row["value"], row["low"], row["high"], row["n"])
    return list(table.values())


def _rich_table(rows: list[dict[str, Any]]) -> Table:
    lines = _by_model(rows)
    grid = Table(title="Letters A to J, 95 % intervals", title_justify="left")
    grid.add_column("training", no_wrap=True)
    for metric in METRICS:
        grid.add_column(metric, justify="right")
    for line in lines:
        grid.add_row(line["training"], *(line[metric].text().replace(" [", "\n[") for metric in METRICS))
    return grid


def _summary(rows: list[dict[str, Any]]) -> str:
    value = {(row["model"], row["metric"]): f"{row['value'] * 100:.1f} %" for row in rows}
    models = ("normal", "adversarial", "on-manifold", "transformations")
    error, robust = (", ".join(value[model, metric] for model in models) for metric in METRICS[:2])
    return (
        f"After normal training, adversarial training in pixels, training on on-manifold adversarial examples and on "
        f"adversarial transformations, the test error is {error}, and the pixel robust error {robust}."
    )


def _write(
    rows: list[dict[str, Any]],
    modules: dict[str, RobustClassifier],
    sets: dict[str, Threat],
    options: Settings,
    out: Path,
    seconds: float,
) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(out / "results.csv", text.getvalue())
    about = {"settings": asdict(options), "seconds": round(seconds), "versions": versions()}
    write_text(out / "about.json", json.dumps(about, indent=2) + "\n")
    bars = bar_chart(rows, title="Error and success rates by training", ylabel="share of test images")
    save_png(bars, out / "bars.png")
    sheets = {}
    for name in ("normal", "on-manifold"):
        title = f"The model of {name} training under three threats"
        sheets[name] = example_sheet(_examples(modules[name], sets, options), class_names=LETTERS, title=title)
        save_png(sheets[name], out / f"examples_{name}.png")
    n, steps, starts = options.test_size, options.test_steps, options.restarts
    meaning = (
        f"Test error: the share of {n} test images that are misread. Robust error: the share that is misread as it is "
        "or "
        f"after an attack of {steps} steps with {starts} random starts, each of which keeps its best iterate. Pixel "
        "attacks "
        f"change every pixel by at most {options.eps:g}; on-manifold attacks move each of the six parameters that "
        "drew the "
        f"letter by at most {options.eta:g}, within the range of the data, and draw it again: the result is the same "
        "letter "
        "in the same face. Success rate: the share of attempts that succeed on letters that were read correctly."
    )
    setting = (
        f"Four models with the same network, initial weights, {options.train_size} training images and epochs. Half "
        "of each "
        "batch is attacked. Whiskers: 95 % intervals for the draw of the test images; they do not cover the draw of "
        "the "
        "training images and the initial weights (one seed)."
    )
    shown = "The first test images under each threat, for the model of {} training; third in a group: the difference."
    references = (
        "Stutz, Hein, Schiele, Disentangling Adversarial Robustness and Generalization, CVPR 2019. "
        "Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks, ICLR 2018."
    )
    parts: list[Html | str] = [
        heading("Results"),
        table(_by_model(rows), caption="Lower is better everywhere. Brackets: 95 % intervals."),
        picture(bars, caption=setting, alt=_summary(rows)),
        heading("What the numbers are"),
        meaning,
        heading("Examples"),
        *(picture(sheet, caption=shown.format(name), alt=shown.format(name)) for name, sheet in sheets.items()),
        heading("How it was made"),
        settings({**asdict(options), "seconds in all": round(seconds)}),
        settings(versions(), caption="Versions"),
        references,
    ]
    Report("Robustness and generalization on letters", _summary(rows), parts).write(out / "report.html")
