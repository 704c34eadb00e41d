"""The study of Stutz et al. (CVPR 2019): `lightning-robust study manifold`.

Seven stages, each a folder of cells that survive being killed: the learned manifolds, the models, their evaluation, off
and on the manifold (`evaluation`) and along learned codes (`learned`), and, for models of the largest size, what their
adversarial examples do to other models (`transfer`), how far these are from the manifold (`distances`), and what the
figures show of single images (`pictures`). All stages read what earlier ones left in the folder `out`, which all
workers must see.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd

from lightning_robust._command import ready_folder, run_command
from lightning_robust.cells import cell_folder, expand, load_artifact
from lightning_robust_studies.claims import print_claims
from lightning_robust_studies.stages import note, ready_data, run_stage
from lightning_robust_studies.stutz2019 import trained, works
from lightning_robust_studies.stutz2019.claims import claims
from lightning_robust_studies.stutz2019.pictures import Illustrate
from lightning_robust_studies.stutz2019.report import write_report
from lightning_robust_studies.stutz2019.schemes import SCHEMES
from lightning_robust_studies.stutz2019.settings import (
    BATCH,
    PRESETS,
    DistanceSettings,
    EvaluationSettings,
    LearnedSettings,
    ManifoldSettings,
    ModelSettings,
)
from lightning_robust_studies.stutz2019.tables import DISTANCE_COLUMNS, MODEL_COLUMNS, Tables, frame


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
    schemes, seeds, largest = settings.possible, range(settings.seeds), max(settings.sizes)
    shown = "normal" if "normal" in schemes else schemes[0]
    kinds, evaluation = settings.manifolds, settings.only(EvaluationSettings)
    has_learned = "class" in kinds

    learning = works.TrainManifold(settings.only(LearnedSettings))
    manifolds = run_stage(expand(manifold=kinds), learning, settings, trained.MANIFOLDS) if kinds else []
    cells = expand(n=settings.sizes, scheme=schemes, seed=seeds)
    training = works.TrainModel(settings.only(ModelSettings))
    run_stage(cells, training, settings, trained.MODELS, cost=lambda cell: _cost(cell, settings))
    models = run_stage(cells, works.Evaluate(evaluation), settings, trained.EVALUATION)
    if has_learned and settings.learned_seeds and settings.source.true is not None:
        some = expand(n=settings.sizes, scheme=schemes, seed=seeds[: settings.learned_seeds])
        models += run_stage(some, works.EvaluateAlongLearned(evaluation), settings, trained.LEARNED)
    pairs = expand(n=[largest], source=schemes, seed=[0], targets=[" ".join(schemes)], target_seed=[settings.seeds - 1])
    transfer = run_stage(pairs, works.Transfer(evaluation), settings, trained.TRANSFER)
    measured = expand(n=[largest], scheme=[shown], seed=seeds)
    distance = works.MeasureDistance(settings.only(DistanceSettings), has_learned)
    distances = run_stage(measured, distance, settings, trained.DISTANCES)
    run_stage(measured[:1], Illustrate(evaluation, has_learned), settings, trained.PICTURES)

    tables = Tables(
        frame(models, MODEL_COLUMNS).sort_values(["n", "scheme", "seed"], kind="stable", key=_as_asked(settings)),
        pd.DataFrame(manifolds),
        pd.DataFrame(transfer),
        frame(distances, DISTANCE_COLUMNS),
        load_artifact(cell_folder(out / trained.DISTANCES, measured[0]) / "examples.pt"),
        load_artifact(cell_folder(out / trained.PICTURES, measured[0]) / "pictures.pt"),
    )
    _write_tables(tables, out)
    write_report(tables, out, settings)
    return tables


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
    images = BATCH * settings.steps(cell["n"])
    return images * (3 + (scheme.attack is not None) * scheme.fraction * settings.train_steps * step)


def _as_asked(settings: ManifoldSettings) -> Callable[[pd.Series], pd.Series]:
    """Sizes and schemes in the order of the settings."""
    places = {value: place for axis in (settings.sizes, settings.possible) for place, value in enumerate(axis)}
    return lambda column: column if column.name == "seed" else column.map(places)


def _write_tables(tables: Tables, out: Path) -> None:
    """Write `results.csv` and a table for each further stage, and the same as Parquet where pyarrow is installed."""
    stages = {
        "results": tables.models,
        trained.MANIFOLDS: tables.manifolds,
        trained.TRANSFER: tables.transfer,
        trained.DISTANCES: tables.distances,
    }
    for name, rows in stages.items():
        if len(rows):
            rows.to_csv(out / f"{name}.csv", index=False)
            if find_spec("pyarrow") is not None:
                rows.to_parquet(out / f"{name}.parquet", index=False)


def main(args: Sequence[str]) -> None:
    """Run the study with command-line options; the claims are printed."""
    run_command(
        ManifoldSettings,
        _run_and_print,
        args,
        prog="lightning-robust study manifold",
        description="Off- and on-manifold robustness and generalization over sizes, training schemes and seeds.",
        presets=PRESETS,
    )


def _run_and_print(settings: ManifoldSettings) -> None:
    tables = run_manifold_study(settings)
    print_claims(claims(tables.models, tables.distances), Path(settings.out) / "report.html")
