"""The page of the manifold study."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_robust.plots import Html, Report, heading, picture, save_png, table, versions
from lightning_robust.plots import settings as settings_part
from lightning_robust_studies.claims import claim_parts, summary
from lightning_robust_studies.stutz2019.claims import claims, fits
from lightning_robust_studies.stutz2019.figures import PROJECTION, figures_of
from lightning_robust_studies.stutz2019.pictures import picture_figures
from lightning_robust_studies.stutz2019.tables import (
    Tables,
    table_beside_plot,
    table_of_classes,
    table_of_distances,
    table_of_efforts,
    table_over_seeds,
)

_INTERVALS = (
    "Brackets: 95 % intervals over {} seeds (Student's t) of initial weights and order of images; for letters they "
    "do not cover the draw of the training images, which are the same for all. With one seed: for the draw of test "
    "images alone, not of the seed or of the machine, whose rounding leads a training elsewhere. Intervals of r and "
    "p-values take models as independent, but those of one size share their training images."
)
_SUCCESS_RATE = (
    "Success rate: of the test images that are read correctly, the share whose attack succeeds; the mean over random "
    "starts, as in the paper, or the worst of them. Every attempt keeps its best iterate. On-manifold attacks move the "
    "parameters that drew the image, within the range of the data; where these are not known (data but letters), "
    "and in what is called learned-manifold success, they move the code that the learned manifold of the image's class "
    "gives it: then the image before is the decoded one, and only images whose code has no entry beyond 2 count, "
    'successful or not ("the paper\'s count", in the table of all results, applies that to successes alone). Learned '
    "manifolds saw {} images; the paper's saw more than its classifiers. Half of each batch is attacked in training, "
    "all of it in schemes that end in -100."
)
_BESIDE = (
    "On-manifold success beside the plot of the authors, on letters of other faces (theirs: eps 0.3 in pixels, attacks "
    "of 40 steps in training)"
)
_DISTANCE = (
    f"Distance: L2 in pixels from a successful example to its projection. {PROJECTION} The angle is that between the "
    "perturbation and its part along the manifold."
)


def write_report(
    tables: Tables, out: Path, settings: Mapping[str, Any], classes: Sequence[str] = (), left_out: str = ""
) -> Path:
    """Write `report.html` and each figure as a PNG.

    Args:
        tables: what the study found.
        out: the folder.
        settings: names and values to show at the end.
        classes: names of the classes.
        left_out: a sentence on what the data cannot have.

    Returns:
        the page.
    """
    figures = figures_of(tables) | picture_figures(tables.pictures, settings, tuple(classes))
    for name, (figure, _) in figures.items():
        save_png(figure, out / f"{name}.png")
    found = claims(tables.models, tables.distances)
    seeds = len({row["seed"] for row in tables.models})
    parts: list[Html | str] = [heading("The four claims"), *claim_parts(found)]
    parts += [
        _INTERVALS.format(seeds),
        heading("All models"),
        *([left_out] if left_out else []),
        table(table_over_seeds(tables.models), caption="Means over seeds"),
        *_extra_tables(tables, settings),
        *(picture(figure, caption=caption, alt=caption) for figure, caption in figures.values()),
        table(
            [
                {
                    "training": row["schemes"],
                    "threat": row["threat"],
                    "slope": math.nan if row["fit"] is None else row["fit"].slope,
                    "fit": "too few models" if row["fit"] is None else row["fit"].text(),
                }
                for row in fits(tables.models)
            ],
            caption="Regression of the success rate on the test error",
        ),
    ]
    if tables.distances:
        parts += [table(table_of_distances(tables.distances), caption="Distance from the manifold, means over seeds")]
    if tables.manifolds:
        parts += [table(tables.manifolds, caption="Learned manifolds, on held-out images")]
    parts += [
        heading("What the numbers are"),
        _SUCCESS_RATE.format(settings.get("manifold_size", "their own")),
        _DISTANCE,
        heading("How it was made"),
        settings_part(settings),
        settings_part(versions(), caption="Versions"),
        "Stutz, Hein, Schiele, Disentangling Adversarial Robustness and Generalization, CVPR 2019.",
    ]
    return Report("Robustness and generalization, on and off the manifold", summary(found), parts).write(
        out / "report.html"
    )


def _extra_tables(tables: Tables, settings: Mapping[str, Any]) -> list[Html]:
    theirs = {"data": "fonts", "norm": "linf", "eta": 0.3}
    comparable = all(settings.get(name, value) == value for name, value in theirs.items())
    beside = table_beside_plot(tables.models) if comparable else []
    found = {
        _BESIDE: beside,
        "Success rate by class, largest size, means over seeds": table_of_classes(tables.models),
        "Distances of successful examples from their images, in pixels and in codes, and steps until the first "
        "success; largest size, means over seeds": table_of_efforts(tables.models),
    }
    return [table(rows, caption=caption) for caption, rows in found.items() if rows]
