"""The study of Schmidt et al. (NeurIPS 2018): `lightning-robust study sample-complexity`.

For each problem two stages, grids whose finished cells survive being killed: the models, and whether what PGD says of
those of the largest size can be believed (`masking`).
"""

from collections.abc import Mapping, Sequence, Sized
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch.utils.data import DataLoader

from lightning_robust._command import SettingsError, ready_folder, run_command
from lightning_robust._lightning import pl
from lightning_robust._nested import get
from lightning_robust.cells import Cell, Row, expand
from lightning_robust.datamodules import ImageDataModule
from lightning_robust_studies.claims import tell
from lightning_robust_studies.schmidt2018.experiments.cells import FindMasking, TrainModel, masking_stage, models_stage
from lightning_robust_studies.schmidt2018.experiments.claims import claims
from lightning_robust_studies.schmidt2018.experiments.masking import trusted
from lightning_robust_studies.schmidt2018.experiments.problems import Problem, problems
from lightning_robust_studies.schmidt2018.experiments.report import write_report
from lightning_robust_studies.schmidt2018.experiments.settings import PRESETS, Grid, SampleComplexitySettings
from lightning_robust_studies.schmidt2018.experiments.tables import Tables
from lightning_robust_studies.stages import choose, note, ready_data, run_stage


def run_sample_complexity(options: SampleComplexitySettings, own: Mapping[str, Problem] | None = None) -> Tables:
    """Train and evaluate models over sizes, radii and seeds; write tables, figures and `report.html` to `options.out`.

    Args:
        options: what to run; `options.data` names the problems.
        own: problems of your own by name, besides the built-in ones.

    Returns:
        The rows of both stages. Those of `models` have the columns data, n, model, eps_train, seed, checkpoint, split,
        eps_test, value, low, high and count.

    Raises:
        SettingsError: an argument is wrong, a data set is smaller than asked for, or the folder cannot be written
            or holds results of other settings.
        OSError: a data set can be neither read nor downloaded.
        CellsFailedError: cells failed; all others are finished, and the same call goes on with these.

    Example:
        >>> run_sample_complexity(
        ...     SampleComplexitySettings(data=["mine"], sizes=[500, 2000], eps_train=[0, 0.1], eps_test=[0, 0.1]),
        ...     own={"mine": Problem(data=my_data, models={"mine": my_module}, steps=1000, ...)},
        ... )  # doctest: +SKIP
    """
    out = ready_folder(options.out)
    options = replace(options, out=str(out), root=str(Path(options.root).resolve()))
    known = problems(options.root) | dict(own or {})
    chosen = {name: known[name] for name in choose("data", options.data, known)}
    if options.models:
        choose(
            "models", options.models, dict.fromkeys(model for problem in chosen.values() for model in problem.models)
        )
    grids = {name: options.of(name, problem) for name, problem in chosen.items()}
    left_out = _left_out(options, grids)
    for name, problem in chosen.items():
        _check_data(problem, grids[name])
    if left_out:
        note(left_out)
    models: list[Row] = []
    masking: list[Row] = []
    for name, problem in chosen.items():
        grid = grids[name]
        what: dict[str, Any] = {"options": options, "problem": problem, "grid": grid}
        cells = expand(
            data=[name], n=grid.sizes, model=grid.models, eps_train=grid.eps_train, seed=range(options.seeds)
        )
        models += run_stage(cells, TrainModel(**what), options, models_stage(name), partial(_cost, grid=grid))
        if options.masked_images:
            largest = expand(
                data=[name],
                n=[max(grid.sizes)],
                model=grid.models,
                eps_train=grid.eps_train,
                seed=[0],
                plain=[grid.models[0]],
                images=[options.masked_images],
            )
            masking += run_stage(largest, FindMasking(**what), options, masking_stage(name))
    accuracies = [row for row in models if row["metric"] == "accuracy"]
    gaps = [row for row in models if row["metric"] == "gap"]
    tables = Tables(accuracies, gaps, masking)
    for title, rows in (("results", accuracies), ("gaps", gaps), ("masking", masking)):
        if rows:
            pd.DataFrame(rows).to_csv(out / f"{title}.csv", index=False)
    settings = {name: value for name, value in vars(options).items() if name not in ("out", "root")}
    write_report(tables, out, targets=options.targets, settings=settings, grids=list(grids.values()), left_out=left_out)
    return tables


def _left_out(options: SampleComplexitySettings, grids: Mapping[str, Grid]) -> str:
    """A sentence on the models that were asked for and that a problem does not have; nothing where there are none."""
    missing = {name: [model for model in options.models if model not in grid.models] for name, grid in grids.items()}
    parts = [f"{', '.join(models)} of {name}" for name, models in missing.items() if models]
    return f"Left out: {'; '.join(parts)}, since there is no such model." if parts else ""


def _check_data(problem: Problem, grid: Grid) -> None:
    """Download the data where it is not there, and see that every size can be had, before anything is computed."""
    for n in grid.sizes:
        data = ready_data(lambda n: problem.data(n, 0), "sizes", n)
        if not data.val_dataloader():
            raise SettingsError(
                f"Expected the data of {grid.data!r} to have validation images, which choose among models, but it has "
                "none."
            )
        if not isinstance(data, ImageDataModule):  # these see to it themselves
            _check_balance(problem, grid, n, data)


def _check_balance(problem: Problem, grid: Grid, n: int, data: pl.LightningDataModule) -> None:
    """See that a data module of the user's own has n training images, and of no class more than its share."""
    field, found, held_out = problem.batch.get("target", 1), data.train_dataloader(), data.val_dataloader()
    if not all(isinstance(loader, DataLoader) and isinstance(loader.dataset, Sized) for loader in (found, held_out)):
        return  # a stream, or several loaders: not to be told beforehand
    size = len(found.dataset)
    if size != n or not len(found):
        raise SettingsError(
            f"Expected argument `sizes` to be numbers of images that {grid.data!r} has, but got {n}, for which its "
            f"data module has {size} training images in {len(found)} batches."
        )
    train, val = (torch.cat([get(b, field, "target") for b in part]) for part in (found, held_out))
    classes = len(torch.cat([train, val]).unique())
    label, count = max(((int(y), int((train == y).sum())) for y in train.unique()), key=lambda pair: pair[1])
    if count > -(-n // classes):
        raise SettingsError(
            f"Expected the {n} training images of {grid.data!r} to be class-balanced, {n / classes:g} of each of "
            f"{classes} classes, but class {label} has {count}. Choose them with "
            "`lightning_robust.datamodules.balanced_subset`."
        )


def _cost(cell: Cell, grid: Grid) -> float:
    """In passes of a batch through the network."""
    return grid.steps * (3.0 + (float(str(cell["eps_train"])) > 0) * 2.0 * grid.train_steps)


def main(args: Sequence[str]) -> None:
    """Run the study with command-line options; the claims are printed."""
    run_command(
        SampleComplexitySettings,
        _run_and_tell,
        args,
        prog="lightning-robust study sample-complexity",
        description="How many training images accuracy takes, and how many robust accuracy.",
        presets=PRESETS,
    )


def _run_and_tell(options: SampleComplexitySettings) -> None:
    tables = run_sample_complexity(options)
    tell(claims(trusted(tables.models, tables.masking), targets=options.targets), Path(options.out) / "report.html")
