"""The study of Stutz et al. (CVPR 2019): `lightning-robust study manifold`.

Five stages, each a grid whose finished cells survive being killed: the learned manifolds, the models, and, for models
of the largest size, what their adversarial examples do to other models (`transfer`), how far these are from the
manifold (`distances`), and what the figures show of single images (`pictures`). All stages read what earlier ones left
in the folder `out`, which all workers must see.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lightning_robust._command import run_command
from lightning_robust.cells.axes import expand
from lightning_robust.cells.cells import Cell, Row
from lightning_robust.cells.files import load_artifact
from lightning_robust.cells.records import cell_folder
from lightning_robust.cells.tables import write_table
from lightning_robust_studies.claims import tell
from lightning_robust_studies.stages import note, ready_data, ready_folder, run_stage
from lightning_robust_studies.stutz2019.cells import (
    BATCH,
    DISTANCES,
    MANIFOLDS,
    MODELS,
    TRANSFER,
    MeasureDistance,
    TrainManifold,
    TrainModel,
    Transfer,
    load_examples,
)
from lightning_robust_studies.stutz2019.claims import claims
from lightning_robust_studies.stutz2019.pictures import PICTURES, Illustrate
from lightning_robust_studies.stutz2019.report import write_report
from lightning_robust_studies.stutz2019.schemes import SCHEMES
from lightning_robust_studies.stutz2019.settings import PRESETS, ManifoldSettings
from lightning_robust_studies.stutz2019.tables import Tables


def run_manifold_study(options: ManifoldSettings) -> Tables:
    """Train, attack and compare the models, and write tables, figures and `report.html` to `options.out`.

    Returns:
        The rows of all stages. Those of `models` have the columns n, scheme, seed, metric, value, low, high, count.

    Raises:
        StudyArgumentError: an argument is wrong, or the folder cannot be written or holds results of other settings.
        StudyError: the data can be neither read nor downloaded.
        CellsFailedError: cells failed; all others are finished, and the same command goes on with these.
    """
    out = ready_folder(options.out)
    options = replace(options, out=str(out), root=str(Path(options.root).resolve()))
    _prepare(options)
    schemes, seeds, largest = options.possible, range(options.seeds), max(options.sizes)
    shown = "normal" if "normal" in schemes else schemes[0]
    kinds = options.manifolds
    manifolds = run_stage(expand(manifold=kinds), TrainManifold(options), options, MANIFOLDS) if kinds else []
    cells = expand(n=options.sizes, scheme=schemes, seed=seeds)
    models = run_stage(cells, TrainModel(options), options, MODELS, cost=lambda cell: _cost(cell, options))
    pairs = expand(
        n=[largest],
        source=schemes,
        seed=[0],
        targets=[" ".join(schemes)],
        target_seed=[options.seeds - 1],
    )
    transfer = run_stage(pairs, Transfer(options), options, TRANSFER)
    distances = run_stage(expand(n=[largest], scheme=[shown], seed=seeds), MeasureDistance(options), options, DISTANCES)
    pictured: Row = {"n": largest, "scheme": shown, "seed": 0}
    run_stage([pictured], Illustrate(options), options, PICTURES)
    tables = Tables(
        models,
        manifolds,
        transfer,
        distances,
        load_examples(options, pictured),
        load_artifact(cell_folder(out, PICTURES, pictured) / "pictures.pt"),
    )
    write_table(models, out)
    for name, rows in ((MANIFOLDS, manifolds), (TRANSFER, transfer), (DISTANCES, distances)):
        if rows:
            write_table(rows, out, name)
    settings = {name: value for name, value in vars(options).items() if name not in ("out", "root")}
    write_report(tables, out, settings=settings, classes=options.source.classes, left_out=options.left_out)
    return tables


def _prepare(options: ManifoldSettings) -> None:
    """See that the data is there and large enough, before anything is computed, and say what it cannot have."""
    wanted = {"sizes": options.sizes, "neighbour_images": (options.neighbour_images,)}
    if options.manifolds:
        wanted["manifold_size"] = (options.manifold_size,)
    for name, sizes in wanted.items():
        for n in sizes:
            ready_data(lambda n: options.source.make(options.root, train_size=n, batch_size=BATCH), name, n)
    if options.left_out:
        note(options.left_out)


def _cost(cell: Cell, options: ManifoldSettings) -> float:
    """In passes of an image through the classifier; a pass through a learned decoder is about four."""
    scheme = SCHEMES[str(cell["scheme"])]
    step = 2.0 if scheme.manifold is None else 10.0
    images = BATCH * options.steps(int(str(cell["n"])), BATCH)
    train = images * (3 + (scheme.attack is not None) * scheme.fraction * options.train_steps * step)
    passes = 4.0 + 10 * options.along_learned(int(str(cell["seed"])))
    return train + passes * options.attacked * options.test_steps * options.attempts + options.test_size


def main(args: Sequence[str]) -> None:
    """Run the study with command-line options; the claims are printed."""
    run_command(
        ManifoldSettings,
        _run_and_tell,
        args,
        prog="lightning-robust study manifold",
        description="Off- and on-manifold robustness and generalization over sizes, training schemes and seeds.",
        presets=PRESETS,
        lists={"sizes": (int, "training images"), "schemes": (str, "among " + ", ".join(SCHEMES))},
    )


def _run_and_tell(options: ManifoldSettings) -> None:
    tables = run_manifold_study(options)
    tell(claims(tables.models, tables.distances), Path(options.out) / "report.html")
