"""The demonstration: four models on the Fonts data, trained and attacked through the public interface."""

import csv
import json
import logging
import math
import shutil
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress, TaskID, TimeElapsedColumn
from rich.table import Table

from lightning_robust import (
    PGD,
    AdversarialTraining,
    AffineSpace,
    LatentSpace,
    Linf,
    RobustEvaluation,
    Threat,
    _checks,
    cells,
    plots,
)
from lightning_robust._command import SettingsError, ready_folder
from lightning_robust._files import replacing, write_text
from lightning_robust._fitting import loaded, quiet_trainer
from lightning_robust._lightning import pl
from lightning_robust._versions import versions
from lightning_robust.attacks import margin
from lightning_robust.datamodules import Fonts
from lightning_robust.manifolds import FontsManifold
from lightning_robust.models import ExponentialDecay, RobustClassifier, standard_net

LETTERS = tuple("ABCDEFGHIJ")
TRAIN_BATCH, TEST_BATCH = 100, 250
SCHEMES = {"normal": None, "adversarial": "pixels", "on-manifold": "on_manifold", "transformations": "transformations"}
"""The four models, and the threat that each is trained against."""
ATTACKED = ("pixels", "on_manifold")
"""The threats of the evaluation."""
METRICS = ("test error", "pixel robust error", "on-manifold robust error", "on-manifold success rate")
COLUMNS = ("model", "metric", "value", "low", "high", "count")
SHOWN = ("normal", "on-manifold")
"""The models of which examples are shown."""
ABOUT, TABLE, PAGE = "about.json", "results.csv", "report.html"
UNFINISHED, WEIGHTS = "unfinished", "weights.pt"
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
    ranges = manifold.ranges
    maps = AffineSpace(translation=ranges.translation, shear=ranges.shear, scale=ranges.scale, rotation=ranges.rotation)
    return {
        "pixels": Threat(Linf(eps)),
        "on_manifold": Threat(Linf(eta), LatentSpace(manifold)),
        "transformations": Threat(Linf(eta), maps),
    }


def run_demo(options: Settings, console: Console | None = None) -> list[dict[str, Any]]:
    """Train and attack four models, and write `results.csv`, figures and `report.html` to `options.out`.

    Finished models are kept in `options.out` until the report is written, so that a run that was stopped goes on when
    it is started again.

    Returns:
        The rows of `results.csv`: model, metric, value, low, high, count.

    Raises:
        ValueError: an argument is wrong, or the folder holds files of something else; nothing has run.
        CellsError: a model could not be trained or attacked, or another run is at work in the folder.
    """
    console = console or Console()
    _check(options, Path(options.out))
    out = ready_folder(options.out)
    varied = {name: value for name, value in asdict(options).items() if name not in ("out", "threads")}
    folder, tasks = out / UNFINISHED, {model: {"model": model, **varied} for model in SCHEMES}
    finished = [model for model, cell in tasks.items() if (cells.cell_folder(folder, cell) / "rows.json").exists()]
    if finished:
        console.print(f"Finished by the run that was stopped: {', '.join(finished)}.")
    columns = (*Progress.get_default_columns(), TimeElapsedColumn())
    with _quiet(), Progress(*columns, console=console, speed_estimate_period=600) as progress:
        work = _TrainAndAttack(options, progress, [model for model in SCHEMES if model not in finished])
        threads, inline = options.threads or None, cells.Inline()
        kept = cells.run_cells(tasks.values(), work, folder, executor=inline, threads=threads, progress=False)
    rows = [{name: row[name] for name in COLUMNS} for row in kept]
    seconds = sum({row["model"]: float(str(row["seconds"])) for row in kept}.values())
    weights = {model: cells.cell_folder(folder, tasks[model]) / WEIGHTS for model in SHOWN}
    modules = {model: loaded(RobustClassifier(standard_net()), path) for model, path in weights.items()}
    _write(rows, modules, options, out, seconds)
    shutil.rmtree(folder)
    console.print(_rich_table(rows))
    console.print(f"Report: {out / PAGE}")
    return rows


def _check(options: Settings, out: Path) -> None:
    """Refuse sizes that the data does not have, and a folder where files of something else would be overwritten."""
    for name in (TABLE, PAGE):
        if (out / name).exists() and not (out / ABOUT).exists():
            raise SettingsError(
                f"Expected argument `out` to be a new folder or that of an earlier demonstration, but got {out}, where "
                f"a {name} of something else would be overwritten."
            )
    try:
        _data(options).setup("test")
    except ValueError as error:
        raise SettingsError(str(error)) from error


class _Advance(pl.Callback):
    """Moves a bar by a cost for each batch of training or evaluation."""

    def __init__(self, progress: Progress, task: TaskID, cost: float) -> None:
        self.progress, self.task, self.cost = progress, task, cost

    def on_train_batch_end(self, *args: Any, **kwargs: Any) -> None:
        self.progress.advance(self.task, self.cost)

    def on_test_batch_end(self, *args: Any, **kwargs: Any) -> None:
        self.progress.advance(self.task, self.cost)


class _TrainAndAttack:
    """The work of a cell: train one model in its way and attack it, with a bar over all `models` that are to come."""

    def __init__(self, options: Settings, progress: Progress, models: list[str]) -> None:
        self.options, self.progress, self.threats = options, progress, threats(options.eps, options.eta)
        # In passes through the network: a training step is three, an attack step two on half of the batch.
        self.train_cost = {model: 3.0 + (SCHEMES[model] is not None) * options.train_steps for model in SCHEMES}
        self.test_cost = 4.0 * TEST_BATCH / TRAIN_BATCH * options.test_steps * options.restarts
        batches = math.ceil(options.train_size / TRAIN_BATCH) * options.epochs
        test_batches = math.ceil(options.test_size / TEST_BATCH)
        total = sum(batches * self.train_cost[model] + test_batches * self.test_cost for model in models)
        self.task = progress.add_task("", total=total)

    def __call__(self, cell: cells.Row, folder: Path) -> list[dict[str, Any]]:
        """Train and attack the model of the cell; its weights go into the folder."""
        model, start = str(cell["model"]), time.monotonic()
        module = self._train(SCHEMES[model], self._bar(model, "train", self.train_cost[model]))
        cells.save_artifact(folder / WEIGHTS, module.state_dict())
        trained = time.monotonic() - start
        rows = self._evaluate(module, self._bar(model, "attack", self.test_cost))
        seconds = time.monotonic() - start
        self.progress.console.print(f"{model}: trained in {trained:.0f} s, attacked in {seconds - trained:.0f} s")
        return [{**row, "seconds": seconds} for row in rows]

    def _bar(self, model: str, part: str, cost: float) -> pl.Callback:
        self.progress.update(self.task, description=f"{model}: {part}")
        return _Advance(self.progress, self.task, cost)

    def _train(self, threat: str | None, bar: pl.Callback) -> RobustClassifier:
        options, callbacks = self.options, [bar]
        pl.seed_everything(options.seed, verbose=False)
        steps = math.ceil(options.train_size / TRAIN_BATCH)
        module = RobustClassifier(standard_net(), scheduler=lambda optimizer: ExponentialDecay(optimizer, steps))
        if threat is not None:
            attack = PGD(self.threats[threat], options.train_steps, rel_step_size=2.5 / options.train_steps)
            callbacks.append(AdversarialTraining(attack, fraction=0.5, code=2))
        trainer = quiet_trainer(callbacks, accelerator="auto", max_epochs=options.epochs, limit_val_batches=0)
        trainer.fit(module, _data(options))
        return module

    def _evaluate(self, module: RobustClassifier, bar: pl.Callback) -> list[dict[str, Any]]:
        attacks = {name: _attack(self.threats[name], self.options, early_stop=True) for name in ATTACKED}
        evaluation = RobustEvaluation(attacks, code=2)
        quiet_trainer([bar, evaluation], accelerator="auto").test(module, _data(self.options), verbose=False)
        value, interval = evaluation.results, evaluation.intervals
        n, estimates = round(value["test/n"]), []
        for key in ("test/clean_acc", *(f"test/robust_acc_{name}" for name in ATTACKED)):
            low, high = interval[key]
            estimates.append(plots.Estimate(1 - value[key], 1 - high, 1 - low, n))
        if right := round(n * value["test/clean_acc"]):  # without a letter that is read correctly, nothing is attacked
            success = "test/success_on_manifold"
            estimates.append(plots.Estimate(value[success], *interval[success], right))
        return [estimate.row(metric=metric) for metric, estimate in zip(METRICS, estimates, strict=False)]


def _attack(threat: Threat, options: Settings, **how: Any) -> PGD:
    return PGD(threat, options.test_steps, restarts=options.restarts, gain=margin, **how)


def _data(options: Settings) -> Fonts:
    return Fonts(
        "hard",
        train_size=options.train_size,
        test_size=options.test_size,
        batch_size=TRAIN_BATCH,
        eval_batch_size=TEST_BATCH,
        seed=options.seed,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Eight trainers need not introduce themselves."""
    logger = logging.getLogger(pl.__name__)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _examples(module: RobustClassifier, options: Settings, count: int = 8) -> list[plots.AttackedSamples]:
    x, y, code = _data(options).tensors("test", limit=count)
    groups = []
    module.cpu().eval()
    for name, threat in threats(options.eps, options.eta).items():
        x_adv = _attack(threat, options, keep="best")(module, x, y, code=code)
        with torch.no_grad():
            before, after = module(x).argmax(1), module(x_adv).argmax(1)
        heading = f"{name.replace('_', '-')}, Linf {threat.ball.radius:g}"
        groups.append(plots.AttackedSamples(name=heading, x=x, x_adv=x_adv, y=y, before=before, after=after))
    return groups


def _by_model(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    lines = {model: {"training": model, **dict.fromkeys(METRICS)} for model in SCHEMES}
    for row in rows:
        lines[row["model"]][row["metric"]] = plots.Estimate(row["value"], row["low"], row["high"], row["count"])
    return list(lines.values())


def _rich_table(rows: list[dict[str, Any]]) -> Table:
    table = Table(title="Letters A to J; 95 % intervals for the draw of the test images", title_justify="left")
    table.add_column("training", no_wrap=True)
    for metric in METRICS:
        table.add_column(metric, justify="right")
    for line in _by_model(rows):
        estimates = [line[metric] for metric in METRICS]
        table.add_row(line["training"], *("-" if e is None else e.text().replace(" [", "\n[") for e in estimates))
    return table


def _summary(rows: list[dict[str, Any]]) -> str:
    values = {
        metric: ", ".join(f"{row['model']} {row['value']:.1%}" for row in rows if row["metric"] == metric)
        for metric in METRICS[:2]
    }
    return " ".join(f"{metric.capitalize()} by training: {text}." for metric, text in values.items())


def _write(
    rows: list[dict[str, Any]], modules: dict[str, RobustClassifier], options: Settings, out: Path, seconds: float
) -> None:
    about = {"settings": asdict(options), "seconds": round(seconds), "versions": versions()}
    write_text(out / ABOUT, json.dumps(about, indent=2) + "\n")
    with replacing(out / TABLE) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        table.writerows(rows)
    bars = plots.bar_chart(rows, title="Error and success rates by training", ylabel="share of test images")
    plots.save_png(bars, out / "bars.png")
    examples: list[plots.Part] = []
    for name, module in modules.items():
        title = f"The model of {name} training under three threats"
        sheet = plots.example_sheet(_examples(module, options), class_names=LETTERS, title=title)
        plots.save_png(sheet, out / f"examples_{name}.png")
        caption = f"{title}: the first test images; third in a group: the difference."
        examples.append(plots.Picture(sheet, caption=caption, alt=caption))
    parts: list[plots.Part] = [
        plots.Heading("Results"),
        plots.Table(_by_model(rows), caption="Lower is better everywhere. Brackets: 95 % intervals."),
        plots.Picture(bars, caption=SETTING.format(**vars(options)), alt=_summary(rows)),
        plots.Heading("What the numbers are"),
        MEANING.format(**vars(options)),
        plots.Heading("Examples"),
        *examples,
        plots.Heading("How it was made"),
        f"Training and attacks took {timedelta(seconds=round(seconds))}.",
        plots.Facts(asdict(options)),
        plots.Facts(versions(), caption="Versions"),
        REFERENCES,
    ]
    plots.Page("Robustness and generalization on letters", _summary(rows), parts).write(out / PAGE)


SETTING = (
    "Four models with the same network, initial weights, {train_size} training images and epochs. Half of each batch "
    "is attacked, except in normal training. Whiskers: 95 % intervals for the draw of the test images. They do not "
    "cover the draw of the training images, the initial weights (one seed), nor the processor: on another kind, the "
    "same seed ends in other weights."
)
MEANING = (
    "Test error: the share of {test_size} test images that are misread. Robust error: the share that is misread as it"
    " is or after an attack of {test_steps} steps from {restarts} random start(s), each of which keeps its best "
    "iterate. Pixel attacks change every pixel by at most {eps:g}. On-manifold attacks move each of the six "
    "parameters that drew the letter by at most {eta:g}, within the range of the data, and draw it again: the result "
    "is the same letter in the same face. Success rate: the share of attempts that succeed on letters that were read "
    "correctly."
)
REFERENCES = (
    "Stutz, Hein, Schiele, Disentangling Adversarial Robustness and Generalization, CVPR 2019. Madry et al., Towards "
    "Deep Learning Models Resistant to Adversarial Attacks, ICLR 2018."
)
