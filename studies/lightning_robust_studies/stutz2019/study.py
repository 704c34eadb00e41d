"""Robustness and generalization, on and off the data manifold, after Stutz et al. (2019).

The command is `lightning-robust study manifold`.

Eight stages, each a folder of cells that survive being killed: the learned manifolds, the models, their evaluation, off
and on the manifold (`evaluation`) and along learned codes (`along`), what the decoders of these tell of the label
(`leak`), and, for models of the largest size, what their adversarial examples do to other models (`transfer`), how far
these are from the manifold (`distances`), and what the figures show of single images (`pictures`). All stages read what
earlier ones left in the folder `out`, which all workers must see.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from lightning_robust._command import ready_folder
from lightning_robust.cells import Row, cell_folder, expand, load_artifact
from lightning_robust_studies.claims import print_claims
from lightning_robust_studies.stages import note, ready_data, run_stage
from lightning_robust_studies.stutz2019 import trained, works
from lightning_robust_studies.stutz2019.claims import claims
from lightning_robust_studies.stutz2019.kinds import along
from lightning_robust_studies.stutz2019.leaks import MeasureLeak
from lightning_robust_studies.stutz2019.learned import MANIFOLDS
from lightning_robust_studies.stutz2019.pictures import Illustrate
from lightning_robust_studies.stutz2019.report import write_report
from lightning_robust_studies.stutz2019.schemes import SCHEMES
from lightning_robust_studies.stutz2019.settings import (
    BATCH,
    JUDGE_SEED,
    DistanceSettings,
    EvaluationSettings,
    LeakSettings,
    LearnedSettings,
    ManifoldSettings,
    ModelSettings,
)
from lightning_robust_studies.stutz2019.tables import DISTANCE_COLUMNS, LEAK_COLUMNS, MODEL_COLUMNS, Tables, frame


def run_manifold_study(settings: ManifoldSettings) -> Tables:
    """Train, attack and compare the models, and write tables, figures and `report.html` to `settings.out`.

    Returns:
        The rows of all stages.

    Raises:
        SettingsError: an argument does not fit the data, or the folder cannot be written to.
        OSError: the data can be neither read nor downloaded.
        CellsError: the folder holds results of other settings.
        CellsFailedError: cells failed; all others are finished, and the same command goes on with these.
    """
    out = ready_folder(settings.out)
    settings = replace(settings, out=str(out), root=str(Path(settings.root).resolve()))
    _prepare(settings)
    largest = max(settings.sizes)
    evaluation, cells = settings.only(EvaluationSettings), settings.cells()
    schemes = [name for name in settings.possible if SCHEMES[name].network == "standard"] or list(settings.possible)
    shown = "normal" if "normal" in schemes else schemes[0]
    learned = {cell["manifold"] for cell in settings.manifolds if cell["seed"] != JUDGE_SEED}

    learning = works.TrainManifold(settings.only(LearnedSettings))
    manifolds = run_stage(settings.manifolds, learning, settings, MANIFOLDS) if settings.manifolds else []
    training = works.TrainModel(settings.only(ModelSettings))
    run_stage(cells, training, settings, trained.MODELS, cost=lambda cell: _cost(cell, settings))
    models = run_stage(cells, works.Evaluate(evaluation), settings, settings.stage(trained.EVALUATION))
    if settings.measured:
        seeds = settings.learned_seeds if settings.on is None else None
        some = [{**cell, "manifold": name} for name in settings.measured for cell in settings.cells(seeds)]
        models += run_stage(some, works.EvaluateAlong(evaluation), settings, settings.stage(trained.ALONG))
    leaks, tables_of = _leaks(settings)
    target_seed = settings.seeds_at(largest, shown) - 1
    pairs = expand(n=[largest], source=schemes, seed=[0], targets=[" ".join(schemes)], target_seed=[target_seed])
    transfer = run_stage(pairs, works.Transfer(evaluation, settings.on), settings, settings.stage(trained.TRANSFER))
    measured = expand(n=[largest], scheme=[shown], seed=range(settings.seeds_at(largest, shown)))
    distance = works.MeasureDistance(settings.only(DistanceSettings), settings.on, "class" in learned)
    distances = run_stage(measured, distance, settings, settings.stage(trained.DISTANCES))
    illustrating = Illustrate(evaluation, tuple(settings.measured))
    run_stage(measured[:1], illustrating, settings, settings.stage(trained.PICTURES))

    tables = Tables(
        frame(models, MODEL_COLUMNS).sort_values(["n", "scheme", "seed"], kind="stable", key=_as_asked(settings)),
        frame(leaks, LEAK_COLUMNS),
        pd.DataFrame(manifolds),
        pd.DataFrame(transfer),
        frame(distances, DISTANCE_COLUMNS),
        load_artifact(cell_folder(out / settings.stage(trained.DISTANCES), measured[0]) / "examples.pt"),
        load_artifact(cell_folder(out / settings.stage(trained.PICTURES), measured[0]) / "pictures.pt"),
        tables_of,
    )
    _write_tables(tables, out)
    write_report(tables, out, settings)
    return tables


def _leaks(settings: ManifoldSettings) -> tuple[list[Row], dict[str, Tensor]]:
    """The stage `leak`: its rows, and what is read of each decoder, for one model of the largest size by manifold."""
    models = settings.cells(settings.leak_seeds)
    cells = [{**cell, "manifold": name} for name in settings.measured for cell in models]
    if not cells:
        return [], {}
    work = MeasureLeak(settings.only(LeakSettings))
    rows = run_stage(cells, work, settings, settings.stage(trained.LEAK))
    decoders = {}
    for cell in cells:
        path = cell_folder(Path(settings.out) / settings.stage(trained.LEAK), cell) / "leak.pt"
        name = along(str(cell["manifold"]))
        shown = name if name in settings.possible else settings.possible[0]
        if cell["n"] == max(settings.sizes) and cell["scheme"] == shown and cell["seed"] == 0 and path.exists():
            decoders[f"{cell['manifold']} {shown}"] = load_artifact(path)["table"]
    return rows, decoders


def _prepare(settings: ManifoldSettings) -> None:
    """See that the data is there and large enough, before anything is computed, and say what it cannot have."""
    sizes = [("sizes", n) for n in settings.sizes] + [("neighbor_images", settings.neighbor_images)]
    sizes += [("manifold_size", settings.manifold_size)] if settings.manifolds else []
    for name, n in sizes:
        ready_data(lambda n: settings.source.make(settings.root, train_size=n, batch_size=BATCH), name, n)
    if settings.left_out:
        note(settings.left_out)


def _cost(cell: Mapping[str, Any], settings: ManifoldSettings) -> float:
    """In passes of an image through the classifier; a pass through a learned decoder is about four."""
    scheme = SCHEMES[cell["scheme"]]
    step = 2.0 if scheme.manifold is None else 10.0
    images = BATCH * settings.steps(cell["n"], cell["scheme"])
    return images * (3 + (scheme.attack is not None) * scheme.fraction * settings.train_steps * step)


def _as_asked(settings: ManifoldSettings) -> Callable[[pd.Series], pd.Series]:
    """Sizes and schemes in the order of the settings."""
    places = {value: place for axis in (settings.sizes, settings.possible) for place, value in enumerate(axis)}
    return lambda column: column if column.name == "seed" else column.map(places)


def _write_tables(tables: Tables, out: Path) -> None:
    """Write `results.csv` and a table for each further stage, and the same as Parquet where pyarrow is installed."""
    stages = {
        "results": tables.models,
        trained.LEAK: tables.leaks,
        MANIFOLDS: tables.manifolds,
        trained.TRANSFER: tables.transfer,
        trained.DISTANCES: tables.distances,
    }
    for name, rows in stages.items():
        if len(rows):
            rows.to_csv(out / f"{name}.csv", index=False)
            if find_spec("pyarrow") is not None:
                rows.to_parquet(out / f"{name}.parquet", index=False)


def run_and_print(settings: ManifoldSettings) -> None:
    """Run the study, and print the claims and where the report is."""
    tables = run_manifold_study(settings)
    print_claims(claims(tables.models, tables.distances, tables.leaks), Path(settings.out) / "report.html")
