"""Run the demonstration: four models for each seed, in processes of their own, and what is written of them."""

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from lightning_robust import cells
from lightning_robust._command import SettingsError, ready_folder
from lightning_robust._files import replacing, write_text
from lightning_robust._fitting import loaded
from lightning_robust._optional import optional
from lightning_robust._versions import versions
from lightning_robust.demo.page import SHOWN, demo_page, figures, line_of
from lightning_robust.demo.settings import SCHEMES, Settings
from lightning_robust.demo.work import METRICS, WEIGHTS, cost, data, train_and_attack
from lightning_robust.learning_curves.seeds import mean_over_seeds
from lightning_robust.models import RobustClassifier, standard_net
from lightning_robust.plots import Estimate

COLUMNS = ("model", "metric", "value", "low", "high", "count")
ABOUT, TABLE, PER_SEED, PAGE = "about.json", "results.csv", "seeds.csv", "report.html"
MODELS = "models"
"""The folder where finished models and their numbers are kept."""


def run_demo(
    options: Settings, console: Console | None = None, executor: cells.Executor | None = None
) -> list[dict[str, Any]]:
    """Train and attack four models for each seed, and write `results.csv`, figures and `report.html` to `options.out`.

    Finished models are kept in `options.out`: a run that was stopped goes on when it is started again, and one that is
    finished writes its report anew.

    Args:
        options: What to run.
        console: Where to print.
        executor: Computes the models; None: processes of this machine.

    Returns:
        The rows of `results.csv`: model, metric, value, low, high, count. With several seeds, means over these.

    Raises:
        ValueError: an argument is wrong, or the folder holds files of something else; nothing has run.
        CellsError: a model could not be trained or attacked, or another run is at work in the folder.
        ModuleNotFoundError: what draws the report is not installed; nothing has run.
    """
    console = console or Console()
    for package in ("matplotlib", "jinja2", "scipy", "joblib"):
        optional(package, "report")
    _check(options, Path(options.out))
    out = ready_folder(options.out)
    tasks, folder = options.models(), out / MODELS
    finished = [task for task in tasks if (cells.cell_folder(folder, task) / "rows.json").exists()]
    workers = min(options.workers or optional("joblib", "report").cpu_count(), len(tasks) - len(finished), 4)
    _tell(console, tasks, finished, workers)
    how: dict[str, Any] = {"workers": max(workers, 1), "threads": options.threads or None, "progress": workers > 0}
    kept = cells.run_cells(tasks, train_and_attack, folder, executor=executor, cost=cost, **how)
    rows = means(kept)
    _write(rows, kept, options, out)
    console.print(_rich_table(rows, options))
    console.print(f"Report: {out / PAGE}", soft_wrap=True)
    return rows


def means(kept: Iterable[cells.Row]) -> list[dict[str, Any]]:
    """A row for each model and metric: the mean over seeds."""
    found: dict[tuple[str, str], list[Estimate]] = {}
    for row in kept:
        value, low, high = (float(str(row[name])) for name in ("value", "low", "high"))
        estimate = Estimate(value, low, high, int(str(row["count"])))
        found.setdefault((str(row["model"]), str(row["metric"])), []).append(estimate)
    rows = []
    for (model, metric), each in sorted(found.items(), key=_place):
        values, within = [one.value for one in each], [(one.low, one.high) for one in each]
        mean = mean_over_seeds(values, within, sum(one.count for one in each)).clipped()
        rows.append(mean.row(model=model, metric=metric))
    return rows


def _place(item: tuple[tuple[str, str], Any]) -> tuple[int, int]:
    (model, metric), _ = item
    return list(SCHEMES).index(model), METRICS.index(metric)


def _tell(console: Console, tasks: Sequence[cells.Row], finished: Sequence[cells.Row], workers: int) -> None:
    """Say what is there already and what is to come."""
    if finished:
        names = ", ".join(f"{task['model']} (seed {task['seed']})" for task in finished)
        which = "All models are finished" if len(finished) == len(tasks) else f"Finished already: {names}"
        console.print(f"{which}. For a run from the start give another folder: --out DIR")
    left = len(tasks) - len(finished)
    if left:
        console.print(
            f"{left} {'models are' if left > 1 else 'model is'} trained and attacked, {workers} at once. A run that is "
            "stopped keeps those that are finished."
        )


def _check(options: Settings, out: Path) -> None:
    """Refuse sizes that the data does not have, and a folder where files of something else would be overwritten."""
    for name in (TABLE, PAGE):
        if (out / name).exists() and not (out / ABOUT).exists():
            raise SettingsError(
                f"Expected argument `out` to be a new folder or that of an earlier demonstration, but got {out}, where "
                f"a {name} of something else would be overwritten."
            )
    try:
        data(options).setup("test")
    except ValueError as error:
        raise SettingsError(str(error)) from error


def _write(rows: list[dict[str, Any]], kept: Sequence[cells.Row], options: Settings, out: Path) -> None:
    about = {"settings": asdict(options), "versions": versions()}
    write_text(out / ABOUT, json.dumps(about, indent=2) + "\n")
    _write_table(out / TABLE, rows, COLUMNS)
    if options.seeds > 1:
        _write_table(out / PER_SEED, kept, ("model", "seed", *COLUMNS[1:]))
    modules = {}
    for model in SHOWN:
        folder = cells.cell_folder(out / MODELS, {"model": model, "seed": options.seed, **options.shared})
        modules[model] = loaded(RobustClassifier(standard_net()), folder / WEIGHTS).cpu()
    drawn = figures(rows, modules, options)
    for name, picture in drawn.items():
        picture.save(out / f"{name}.png")
    demo_page(rows, drawn, options).write(out / PAGE)


def _write_table(path: Path, rows: Iterable[cells.Row], columns: Sequence[str]) -> None:
    with replacing(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, columns, extrasaction="ignore")
        table.writeheader()
        table.writerows(rows)


def _rich_table(rows: list[dict[str, Any]], options: Settings) -> Table:
    of = "the draw of the test images" if options.seeds == 1 else f"the mean over {options.seeds} seeds"
    table = Table(title=f"Letters A to J; 95 % intervals for {of}", title_justify="left")
    table.add_column("training", no_wrap=True)
    for metric in METRICS:
        table.add_column(metric, justify="right")
    for model in SCHEMES:
        line = line_of(rows, model)
        estimates = [line.get(metric) for metric in METRICS]
        table.add_row(model, *("-" if e is None else e.text().replace(" [", "\n[") for e in estimates))
    return table
