"""How many images robust accuracy takes on image data sets, after Schmidt et al. (2018).

The command is `lightning-robust study sample-complexity`.

For each problem four folders of cells: the models; whether PGD can be believed on those of the largest size
(`masking`); what the best of these withstand by the standard plan (`verdicts`); what no classifier can beat (`bounds`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from lightning_robust._command import SettingsError, ready_folder
from lightning_robust._lightning import pl
from lightning_robust.attacks import Attack
from lightning_robust.cells import Cell, Row, expand
from lightning_robust.datamodules import ImageDataModule
from lightning_robust.learning_curves import FindMasking, LearningCurves, TrainAndEvaluate, check_data
from lightning_robust_studies.claims import print_claims
from lightning_robust_studies.schmidt2018.experiments.attacks import Attacks
from lightning_robust_studies.schmidt2018.experiments.claims import claims
from lightning_robust_studies.schmidt2018.experiments.problems import Make, Problem, problems
from lightning_robust_studies.schmidt2018.experiments.report import write_report
from lightning_robust_studies.schmidt2018.experiments.settings import Grid, SampleComplexitySettings, Steps
from lightning_robust_studies.schmidt2018.experiments.tables import write_tables
from lightning_robust_studies.schmidt2018.experiments.verdicts import Judge, Least, best_cells
from lightning_robust_studies.settings import choose
from lightning_robust_studies.stages import note, run_stage


def run_sample_complexity(
    options: SampleComplexitySettings, own: Mapping[str, Problem] | None = None
) -> dict[str, LearningCurves]:
    """Train and evaluate models over sizes, radii and seeds; write tables, figures and `report.html` to `options.out`.

    Args:
        options: What to run; `options.data` names the problems.
        own: Problems of your own by name, besides the built-in ones.

    Returns:
        The learning curves by the name of the problem.

    Raises:
        SettingsError: An argument is wrong, a data set is smaller than asked for, or the folder cannot be written to.
        CellsError: The folder holds results of other settings.
        CellsFailedError: Cells failed; all others are finished, and the same call continues with these.
        OSError: A data set can be neither read nor downloaded.

    Example:
        >>> run_sample_complexity(
        ...     SampleComplexitySettings(data=["mine"], sizes=[500, 2000], eps_train=[0, 0.1], eps_test=[0, 0.1]),
        ...     own={"mine": Problem(data=my_data, models={"mine": my_module}, steps=1000, ...)},
        ... )  # doctest: +SKIP
    """
    out = ready_folder(options.out)
    options = replace(options, out=str(out), root=str(Path(options.root).resolve()))
    known = problems(options.root) | dict(own or {})
    try:
        chosen = {name: known[name] for name in choose("data", options.data, known)}
        if options.models:
            choose("models", options.models, dict.fromkeys(model for each in chosen.values() for model in each.models))
    except ValueError as error:
        raise SettingsError(str(error)) from error
    grids = {name: options.of(name, problem) for name, problem in chosen.items()}
    for name, problem in chosen.items():
        _check_data(problem, grids[name])
    left_out = _left_out(options, grids)
    if left_out:
        note(left_out)
    curves: dict[str, LearningCurves] = {}
    verdicts: dict[str, list[Row]] = {}
    least: dict[str, list[Row]] = {}
    for name, problem in chosen.items():
        curves[name], of_models, of_none = _run(options, problem, grids[name])
        verdicts |= {name: of_models} if of_models else {}
        least |= {name: of_none} if of_none else {}
    write_tables(curves, out, verdicts=verdicts, least=least)
    write_report(
        curves,
        out,
        targets=options.targets,
        settings={name: value for name, value in vars(options).items() if name not in ("out", "root")},
        grids=list(grids.values()),
        left_out=left_out,
        verdicts=verdicts,
        least=least,
    )
    return curves


def _run(
    options: SampleComplexitySettings, problem: Problem, grid: Grid
) -> tuple[LearningCurves, list[Row], list[Row]]:
    """The learning curves, the verdicts on the best models, and the least errors of any classifier."""
    attacks, models = options.attacks_on(problem), Path(options.out) / f"{grid.data}-models"
    steps = Steps(grid.steps, grid.steps_per_image) if grid.steps_per_image else grid.steps
    training = TrainAndEvaluate(
        data=problem.data,
        module=_Untrained(problem.models, steps),
        attacks=attacks,
        eps_test=grid.eps_test,
        steps=steps,
        checks=options.checks,
        images=options.images,
        gap_images=options.gap_images,
        batch=problem.batch,
    )
    cells = expand(
        data=[grid.data], n=grid.sizes, model=grid.models, eps_train=grid.eps_train, seed=range(options.seeds)
    )
    largest, most = grid.sizes[-1], options.largest_seeds or options.seeds
    cells = [cell for cell in cells if cell["n"] != largest or int(str(cell["seed"])) < most]
    rows, masking = run_stage(cells, training, options, models.name, partial(_cost, grid)), []
    if options.masked_images:
        eps = max(grid.eps_test)
        suspicious = _Suspicious(training, attacks, grid.models[0], models)
        find = FindMasking(training=training, models=models, attacks=suspicious, eps=eps)
        cells = [
            {**cell, "images": options.masked_images} for cell in cells if cell["n"] == largest and cell["seed"] == 0
        ]
        masking = run_stage(cells, find, options, f"{grid.data}-masking")
    accuracies, gaps = ([row for row in rows if row["metric"] == metric] for metric in ("accuracy", "gap"))
    curves, verdicts, least = LearningCurves(accuracies, gaps, masking), [], []
    if options.verdict_images:
        judge = Judge(training=training, models=models, attacks=attacks)
        chosen = best_cells(curves.trusted(), largest, options.verdict_images)
        verdicts = run_stage(
            chosen, judge, options, f"{grid.data}-verdicts", lambda cell: 1.0 + int(str(cell["images"]))
        )
    if options.bound_images and not attacks.own_inputs:
        fields, width = (problem.batch.get("input", 0), problem.batch.get("target", 1)), problem.high - problem.low
        bound = Least(data=problem.data, n=grid.sizes[0], fields=fields, eps_test=grid.eps_test, width=width)
        cells = [{"data": grid.data, "images": options.bound_images}]
        least = run_stage(cells, bound, options, f"{grid.data}-bounds")
    return curves, verdicts, least


@dataclass(frozen=True)
class _Untrained:
    """The untrained module of a cell."""

    models: Mapping[str, Make]
    steps: int | Steps

    def __call__(self, cell: Cell) -> pl.LightningModule:
        steps = self.steps if isinstance(self.steps, int) else self.steps(int(str(cell["n"])))
        return self.models[str(cell["model"])](float(str(cell["eps_train"])), steps)


@dataclass(frozen=True)
class _Suspicious:
    """The attacks that find out if PGD is misled; transferred ones come from the `plain` model of the same cell."""

    training: TrainAndEvaluate = field(repr=False)
    attacks: Attacks
    plain: str
    models: Path = field(repr=False)

    def __call__(self, eps: float, module: pl.LightningModule, cell: Cell) -> Mapping[str, Attack]:
        other = {**cell, "model": self.plain}
        plain = self.training.trained(other, self.models) if other != dict(cell) else None
        return self.attacks.suspicious(eps, module, plain)


def _left_out(options: SampleComplexitySettings, grids: Mapping[str, Grid]) -> str:
    """A sentence on the models that were asked for and that a problem does not have; empty if there are none."""
    missing = {name: [model for model in options.models if model not in grid.models] for name, grid in grids.items()}
    parts = [f"{', '.join(models)} of {name}" for name, models in missing.items() if models]
    return f"Left out: {'; '.join(parts)}, since there is no such model." if parts else ""


def _check_data(problem: Problem, grid: Grid) -> None:
    """Download the data if it is not there, and see that every size can be had, before anything is computed."""
    for n in grid.sizes:
        try:
            data = problem.data(n, 0)
            check_data(data, n)
            _check_balance(problem, n, data)
        except ValueError as error:
            raise SettingsError(f"Expected argument `sizes` to suit the data of {grid.data!r}. {error}") from error


def _check_balance(problem: Problem, n: int, data: pl.LightningDataModule) -> None:
    """See that no class of the training images has more than its share."""
    loaders = data.train_dataloader(), data.val_dataloader()
    if isinstance(data, ImageDataModule) or not all(isinstance(loader, DataLoader) for loader in loaders):
        return  # it sees to it itself, or has several loaders
    target = problem.batch.get("target", 1)
    train, val = (torch.cat([batch[target] for batch in loader]) for loader in loaders)
    labels, counts = train.unique(return_counts=True)
    classes = len(torch.cat([train, val]).unique())
    if counts.max() > -(-n // classes):
        label, count = int(labels[counts.argmax()]), int(counts.max())
        raise ValueError(
            f"The {n} training images are not class-balanced: {n / classes:g} of each of {classes} classes are needed, "
            f"but class {label} has {count}. Choose them with `lightning_robust.datamodules.balanced_subset`."
        )


def _cost(grid: Grid, cell: Cell) -> float:
    """The cost of a cell in passes of a batch through the network."""
    steps = Steps(grid.steps, grid.steps_per_image)(int(str(cell["n"])))
    return steps * (3.0 + 2.0 * grid.train_steps * bool(cell["eps_train"]))


def run_and_print(options: SampleComplexitySettings) -> None:
    """Run the study, and print the claims and where the report is."""
    curves = run_sample_complexity(options)
    trusted = {name: each.trusted() for name, each in curves.items()}
    print_claims(claims(trusted, targets=options.targets), Path(options.out) / "report.html")
