"""The demonstration: four models on the Fonts data, trained and attacked through the public interface."""

import json
import logging
import math
import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table as RichTable

from lightning_robust import PGD, AdversarialTraining, AffineSpace, LatentSpace, Linf, RobustEvaluation, Threat, _checks
from lightning_robust._files import write_text
from lightning_robust._fitting import loaded, quiet_trainer
from lightning_robust._lightning import pl
from lightning_robust._progress import Advance, progress_bars
from lightning_robust._versions import versions
from lightning_robust.cells import (
    StudyArgumentError,
    cell_folder,
    run_grid,
    save_artifact,
    write_table,
)
from lightning_robust.cells.locks import LOCK
from lightning_robust.cells.progress import duration
from lightning_robust.cells.records import FILE, read_record
from lightning_robust.datamodules import Fonts
from lightning_robust.manifolds import FontsManifold
from lightning_robust.models import ExponentialDecay, RobustClassifier, standard_net
from lightning_robust.plots import (
    AttackedSamples,
    Estimate,
    Facts,
    Heading,
    Page,
    Part,
    Picture,
    Table,
    bar_chart,
    example_sheet,
    save_png,
)

LETTERS = tuple("ABCDEFGHIJ")
TRAIN_BATCH, TEST_BATCH = 100, 250
SCHEMES = {"normal": None, "adversarial": "pixels", "on-manifold": "on_manifold", "transformations": "transformations"}
"""The four models, and the threat that each is trained against."""
METRICS = ("test error", "pixel robust error", "on-manifold robust error", "on-manifold success rate")
COLUMNS = ("model", "metric", "value", "low", "high", "count")
SHOWN = ("normal", "on-manifold")
"""The models of which examples are shown."""
ABOUT, TABLE, PAGE = "about.json", "results.csv", "report.html"
STAGE, WEIGHTS = "unfinished", "weights.pt"
"""Where finished models are kept until all are."""


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
        _checks.text("out", self.out)
        _checks.count("seed", self.seed, 0, 2**32 - 1)
        for name in ("train_size", "test_size", "epochs", "train_steps", "test_steps", "restarts"):
            _checks.count(name, getattr(self, name))
        for name in ("eps", "eta"):
            _checks.number(name, getattr(self, name), 0)
        _checks.count("threads", self.threads, 0)


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

    Each finished model is kept there until the report is written, so that a run that was stopped goes on when it is
    started again.

    Returns:
        The rows of `results.csv`: model, metric, value, low, high, count.

    Raises:
        StudyArgumentError: an argument is wrong, or the folder holds files of something else; nothing has run.
        StudyLockedError: another run is at work in the folder.
        CellsFailedError: a model could not be trained or attacked; the finished ones are kept.
    """
    console = console or Console()
    out = Path(options.out)
    _check_folder(out)
    try:
        _data(options).setup("test")
    except ValueError as error:
        raise StudyArgumentError(str(error)) from error
    varied = {name: value for name, value in asdict(options).items() if name not in ("out", "threads")}
    cells = [{"model": model, **varied} for model in SCHEMES]
    folders = {model: cell_folder(out, STAGE, cell) for model, cell in zip(SCHEMES, cells, strict=True)}
    with _quiet(), progress_bars(console) as progress:
        kept = [model for model, folder in folders.items() if (folder / FILE).exists()]
        if kept:
            console.print(f"Finished by the run that was stopped: {', '.join(kept)}.")
        work = TrainAndAttack(options, console, progress, [model for model in SCHEMES if model not in kept])
        found = run_grid(
            cells, work, out, stage=STAGE, launcher="inline", threads=options.threads or None, retries=0, progress=False
        )
    seconds = sum(record.seconds for folder in folders.values() if (record := read_record(folder)) is not None)
    rows = [{name: row[name] for name in COLUMNS} for row in found]
    modules = {model: loaded(RobustClassifier(standard_net()), folders[model] / WEIGHTS) for model in SHOWN}
    _write(rows, modules, options, out, seconds)
    for folder in folders.values():
        shutil.rmtree(folder)
    (out / STAGE / LOCK).unlink(missing_ok=True)
    with suppress(OSError):  # models of other settings, of a run that was stopped
        (out / STAGE).rmdir()
    console.print(_rich_table(rows))
    console.print(f"Report: {out / PAGE}")
    return rows


class TrainAndAttack:
    """The work of a cell: one model, trained in its way and attacked, with bars of all that is to be done.

    Args:
        options: of the demonstration.
        console: where the times of a finished model are said.
        progress: the bars.
        models: the models that are to come.
    """

    def __init__(self, options: Settings, console: Console, progress: Progress, models: list[str]) -> None:
        self.options, self.console, self.progress = options, console, progress
        self.batches = math.ceil(options.train_size / TRAIN_BATCH) * options.epochs
        self.test_batches = math.ceil(options.test_size / TEST_BATCH)
        # In passes through the network: a training step is three, an attack step two on half of the batch.
        self.train_cost = {model: 3.0 + (SCHEMES[model] is not None) * options.train_steps for model in SCHEMES}
        self.test_cost = 4.0 * TEST_BATCH / TRAIN_BATCH * options.test_steps * options.restarts
        total = sum(self.batches * self.train_cost[model] + self.test_batches * self.test_cost for model in models)
        self.overall = progress.add_task("[bold]demo", total=total)

    def __call__(self, cell: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
        """Train and attack the model of the cell; its weights go into the folder."""
        model, started = cell["model"], time.monotonic()
        sets = threats(self.options.eps, self.options.eta)
        with self._bar(f"{model}: train", self.batches * self.train_cost[model], self.train_cost[model]) as advance:
            module = _train(sets.get(SCHEMES[model] or ""), self.options, advance)
        trained = time.monotonic() - started
        save_artifact(folder / WEIGHTS, module.state_dict())
        with self._bar(f"{model}: attack", self.test_batches * self.test_cost, self.test_cost) as advance:
            rows = _evaluate(module, sets, self.options, advance)
        self.console.print(
            f"{model}: trained in {trained:.0f} s, attacked in {time.monotonic() - started - trained:.0f} s"
        )
        return rows

    @contextmanager
    def _bar(self, name: str, total: float, cost: float) -> Iterator[pl.Callback]:
        task = self.progress.add_task(name, total=total)
        yield Advance(self.progress, [self.overall, task], train_cost=cost, test_cost=cost)
        self.progress.remove_task(task)


def _check_folder(out: Path) -> None:
    """Refuse a folder that holds files of the names of ours which another program, or a person, has put there."""
    found = [name for name in (TABLE, PAGE) if (out / name).exists()]
    if found and not (out / ABOUT).exists():
        raise StudyArgumentError(
            f"Expected argument `out` to be a new folder or that of an earlier demonstration, but got {out}, where a "
            f"{found[0]} of something else would be overwritten."
        )


def _data(options: Settings) -> Fonts:
    return Fonts(
        "hard",
        train_size=options.train_size,
        test_size=options.test_size,
        batch_size=TRAIN_BATCH,
        eval_batch_size=TEST_BATCH,
        seed=options.seed,
    )


def _train(threat: Threat | None, options: Settings, advance: pl.Callback) -> RobustClassifier:
    pl.seed_everything(options.seed, verbose=False)
    steps = math.ceil(options.train_size / TRAIN_BATCH)
    module = RobustClassifier(standard_net(), scheduler=lambda optimizer: ExponentialDecay(optimizer, steps))
    callbacks = [advance]
    if threat is not None:
        callbacks.append(AdversarialTraining(PGD(threat, steps=options.train_steps), fraction=0.5, code=2))
    trainer = quiet_trainer(callbacks, accelerator="auto", max_epochs=options.epochs, limit_val_batches=0)
    trainer.fit(module, _data(options))
    return module


def _evaluate(
    module: RobustClassifier, sets: dict[str, Threat], options: Settings, advance: pl.Callback
) -> list[dict[str, Any]]:
    attacks = {key: PGD(sets[key], options.test_steps, restarts=options.restarts) for key in ("pixels", "on_manifold")}
    evaluation = RobustEvaluation(attacks, code=2)
    quiet_trainer([advance, evaluation], accelerator="auto").test(module, _data(options), verbose=False)
    value, interval = evaluation.results, evaluation.intervals
    n = round(value["test/n"])

    def error(key: str) -> Estimate:
        low, high = interval[key]
        return Estimate(1 - value[key], 1 - high, 1 - low, n)

    estimates = [error(f"test/{key}") for key in ("clean_acc", "robust_acc_pixels", "robust_acc_on_manifold")]
    if right := round(n * value["test/clean_acc"]):  # letters read correctly: without one there is nothing to attack
        success = "test/success_on_manifold"
        estimates.append(Estimate(value[success], *interval[success], right))
    return [estimate.row(metric=metric) for metric, estimate in zip(METRICS, estimates, strict=False)]


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


def _examples(module: RobustClassifier, options: Settings, count: int = 8) -> list[AttackedSamples]:
    x, y, code = _data(options).tensors("test", limit=count)
    headings = {
        "pixels": f"pixels, Linf {options.eps:g}",
        "on_manifold": f"on the true manifold, Linf {options.eta:g}",
        "transformations": f"affine maps, Linf {options.eta:g}",
    }
    groups = []
    module.cpu().eval()
    for key, threat in threats(options.eps, options.eta).items():
        attack = PGD(threat, options.test_steps, restarts=options.restarts, keep="best")
        x_adv = attack(module, x, y, code=code)
        with torch.no_grad():
            before, after = module(x).argmax(1), module(x_adv).argmax(1)
        groups.append(AttackedSamples(name=headings[key], x=x, x_adv=x_adv, y=y, before=before, after=after))
    return groups


def _by_model(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    lines = {model: {"training": model, **dict.fromkeys(METRICS)} for model in SCHEMES}
    for row in rows:
        lines[row["model"]][row["metric"]] = Estimate(row["value"], row["low"], row["high"], row["count"])
    return list(lines.values())


def _rich_table(rows: list[dict[str, Any]]) -> RichTable:
    grid = RichTable(title="Letters A to J; 95 % intervals for the draw of the test images", title_justify="left")
    grid.add_column("training", no_wrap=True)
    for metric in METRICS:
        grid.add_column(metric, justify="right")
    for line in _by_model(rows):
        found = (line[metric] for metric in METRICS)
        grid.add_row(line["training"], *("-" if one is None else one.text().replace(" [", "\n[") for one in found))
    return grid


def _summary(rows: list[dict[str, Any]]) -> str:
    shown = {
        metric: ", ".join(f"{r['model']} {r['value'] * 100:.1f} %" for r in rows if r["metric"] == metric)
        for metric in METRICS
    }
    error, robust = METRICS[:2]
    return f"By training, the {error} is: {shown[error]}. The {robust} is: {shown[robust]}."


def _write(
    rows: list[dict[str, Any]], modules: dict[str, RobustClassifier], options: Settings, out: Path, seconds: float
) -> None:
    about = {"settings": asdict(options), "seconds": round(seconds), "versions": versions()}
    write_text(out / ABOUT, json.dumps(about, indent=2) + "\n")
    write_table(rows, out)
    bars = bar_chart(rows, title="Error and success rates by training", ylabel="share of test images")
    save_png(bars, out / "bars.png")
    sheets = {}
    for name, module in modules.items():
        title = f"The model of {name} training under three threats"
        sheets[name] = example_sheet(_examples(module, options), class_names=LETTERS, title=title)
        save_png(sheets[name], out / f"examples_{name}.png")
    meaning = (
        f"Test error: the share of {options.test_size} test images that are misread. Robust error: the share that is "
        f"misread as it is or after an attack of {options.test_steps} steps from {options.restarts} random start(s), "
        f"each of which keeps its best iterate. Pixel attacks change every pixel by at most {options.eps:g}; "
        f"on-manifold attacks move each of the six parameters that drew the letter by at most {options.eta:g}, within "
        "the range of the data, and draw it again: the result is the same letter in the same face. Success rate: the "
        "share of attempts that succeed on letters that were read correctly."
    )
    setting = (
        f"Four models with the same network, initial weights, {options.train_size} training images and epochs. Half of "
        "each batch is attacked, except in normal training. Whiskers: 95 % intervals for the draw of the test images. "
        "They do not cover the draw of the training images, the initial weights (one seed), nor the processor, on "
        "another kind of which the same seed ends in other weights."
    )
    shown = "The first test images under each threat, for the model of {} training; third in a group: the difference."
    references = (
        "Stutz, Hein, Schiele, Disentangling Adversarial Robustness and Generalization, CVPR 2019. "
        "Madry et al., Towards Deep Learning Models Resistant to Adversarial Attacks, ICLR 2018."
    )
    parts: list[Part] = [
        Heading("Results"),
        Table(_by_model(rows), caption="Lower is better everywhere. Brackets: 95 % intervals."),
        Picture(bars, caption=setting, alt=_summary(rows)),
        Heading("What the numbers are"),
        meaning,
        Heading("Examples"),
        *(Picture(sheet, caption=shown.format(name), alt=shown.format(name)) for name, sheet in sheets.items()),
        Heading("How it was made"),
        f"Training and attacks took {duration(seconds)}.",
        Facts(asdict(options)),
        Facts(versions(), caption="Versions"),
        references,
    ]
    Page("Robustness and generalization on letters", _summary(rows), parts).write(out / PAGE)
