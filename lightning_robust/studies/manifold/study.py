"""The study of Stutz et al. (CVPR 2019): `lightning-robust study manifold`.

Five stages, each a grid whose finished cells survive being killed: the learned manifolds, the models, and, for models
of the largest size, what their adversarial examples do to other models (`transfer`), how far these are from the
manifold (`distances`), and what the figures show of single images (`pictures`). All stages read what earlier ones left
in the folder `out`, which all workers must see.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lightning_robust.studies.command import run_command
from lightning_robust.studies.grid.axes import expand
from lightning_robust.studies.grid.cells import Cell, Row
from lightning_robust.studies.grid.errors import StudyArgumentError
from lightning_robust.studies.grid.files import load_artifact
from lightning_robust.studies.grid.records import cell_folder
from lightning_robust.studies.grid.tables import write_table
from lightning_robust.studies.manifold.cells import (
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
from lightning_robust.studies.manifold.pictures import PICTURES, Illustrate
from lightning_robust.studies.manifold.report import write_report
from lightning_robust.studies.manifold.schemes import SCHEMES
from lightning_robust.studies.manifold.settings import PRESETS, ManifoldSettings
from lightning_robust.studies.manifold.tables import Tables
from lightning_robust.studies.stages import run_stage


def run_manifold_study(options: ManifoldSettings) -> Tables:
    """Train, attack and compare the models, and write tables, figures and `report.html` to `options.out`.

    Returns:
        The rows of all stages. Those of `models` have the columns n, scheme, seed, metric, value, low, high, count.

    Raises:
        StudyArgumentError: an argument is wrong, or the folder holds results of other settings.
        CellsFailedError: cells failed; all others are finished, and the same command goes on with these.
    """
    options = replace(options, out=str(Path(options.out).resolve()), root=str(Path(options.root).resolve()))
    _prepare(options)
    out, seeds, largest = Path(options.out), range(options.seeds), max(options.sizes)
    shown = "normal" if "normal" in options.schemes else options.schemes[0]
    kinds = options.manifolds
    manifolds = run_stage(expand(manifold=kinds), TrainManifold(options), options, MANIFOLDS) if kinds else []
    cells = expand(n=options.sizes, scheme=options.schemes, seed=seeds)
    models = run_stage(cells, TrainModel(options), options, MODELS, cost=lambda cell: _cost(cell, options))
    pairs = expand(
        n=[largest],
        source=options.schemes,
        seed=[0],
        targets=[" ".join(options.schemes)],
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
    write_report(tables, out, settings=settings, classes=options.source.classes)
    return tables


def _prepare(options: ManifoldSettings) -> None:
    """Download the data where it is not there, and see that it is large enough, before anything is computed."""
    wanted = {"sizes": options.sizes, "neighbour_images": (options.neighbour_images,)}
    if options.manifolds:
        wanted["manifold_size"] = (options.manifold_size,)
    for name, sizes in wanted.items():
        for n in sizes:
            data = options.source.make(options.root, train_size=n, batch_size=BATCH)
            data.prepare_data()
            try:
                data.setup("fit")
            except ValueError as error:
                raise StudyArgumentError(
                    f"Expected argument `{name}` to be numbers of images that the data has, but got {n}. {error}"
                ) from error


def _cost(cell: Cell, options: ManifoldSettings) -> float:
    """In passes of an image through the classifier; a pass through a learned decoder is about four."""
    scheme = SCHEMES[str(cell["scheme"])]
    step = 2.0 if scheme.manifold is None else 10.0
    images = BATCH * options.steps(int(str(cell["n"])), BATCH)
    train = images * (3 + (scheme.attack is not None) * scheme.fraction * options.train_steps * step)
    passes = 4.0 + 10 * options.along_learned(int(str(cell["seed"])))
    return train + passes * options.attacked * options.test_steps * options.attempts + options.test_size


def main(args: Sequence[str]) -> None:
    """Run the study with command-line options."""
    run_command(
        ManifoldSettings,
        run_manifold_study,
        args,
        prog="lightning-robust study manifold",
        description="Off- and on-manifold robustness and generalization over sizes, training schemes and seeds.",
        presets=PRESETS,
        lists={"sizes": (int, "training images"), "schemes": (str, "among " + ", ".join(SCHEMES))},
    )
