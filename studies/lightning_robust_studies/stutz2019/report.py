"""The page of the manifold study."""

from pathlib import Path
from typing import Any

import pandas as pd

from lightning_robust._versions import versions
from lightning_robust.plots import Facts, Heading, Page, Part, Table
from lightning_robust_studies.claims import claim_parts, summary
from lightning_robust_studies.pictures import saved
from lightning_robust_studies.stutz2019.claims import claims, fits
from lightning_robust_studies.stutz2019.figures import PROJECTION, figures_of
from lightning_robust_studies.stutz2019.kinds import along
from lightning_robust_studies.stutz2019.pictures import picture_figures
from lightning_robust_studies.stutz2019.reading import leak_figures, tables_along, warnings
from lightning_robust_studies.stutz2019.settings import ManifoldSettings
from lightning_robust_studies.stutz2019.tables import (
    Tables,
    table_beside_plot,
    table_of_classes,
    table_of_distances,
    table_of_efforts,
    table_over_seeds,
)

_INTERVALS = (
    "Brackets: 95 % intervals over {} seeds (Student's t) of initial weights and order of images. For letters they do "
    "not cover the draw of the training images, which are the same for all. With one seed they cover the draw of test "
    "images alone, not the seed or the machine, whose rounding leads a training elsewhere. Intervals of r and p-values "
    "take models as independent, but those of one size share their training images."
)
_SUCCESS_RATE = (
    "Success rate: of the test images that are read correctly, the share whose attack succeeds; the mean over "
    "random starts, as in the paper, or the worst of them. Every restart keeps its best iterate. On-manifold "
    "attacks move the parameters that drew the image, within the range of the data. Attacks along a learned "
    "manifold, named like the training along it, move the code that this manifold gives the image. Then the image "
    "before is the decoded one, and only images count whose code is within the bounds: no entry beyond 2 for "
    'VAE-GANs, as in the paper, and the range of the training codes for the others; "the paper\'s count", in '
    "results.csv, applies that to successes alone. Residual manifolds (on-residual-...) add to the decoded image "
    "what it lacks of the image, so that the image before is the image itself. Learned manifolds saw {} images; the "
    "paper's saw more than its classifiers. Half of each batch is attacked in training, all of it in schemes that "
    "end in -100; in those that end in -both each image stands beside its own example."
)
_LEAK = (
    "On-manifold attacks hand the true label to the decoder. If it puts the label into the image, as a picture of the "
    "class or as a trace of the network that drew it, a classifier may read that: it is right on everything that is "
    "decoded, and learns nothing for images. So the errors on images and on what the manifold makes of them stand side "
    "by side, with the right label and with a wrong one. A manifold leaks where the error falls with the right label "
    "and rises with a wrong one, the intervals apart."
)
_COLUMNS = (
    '"The same of the second manifold": read as the decoder\'s class where a manifold of another seed made the image; '
    'what is left there is in the picture, what vanishes is a trace of the network. "Label still right": the share of '
    "successful examples, and of the images before, that the decoder of their own class explains best, by a manifold "
    "of another seed."
)
_DISTANCE = (
    f"Distance: L2 in pixels from a successful example to its projection. {PROJECTION} The angle is that between the "
    "perturbation and its part along the manifold; the tangent share is that of its squared length in the span of the "
    "decoder's derivatives at the code of the clean image."
)
_STANDS_IN = (
    "The true manifold is not known. In claim 1, transfer and distances on-manifold examples are those along {}."
)
_BESIDE = (
    "On-manifold success beside the plot of the authors, on letters of other faces (theirs: eps 0.3 in pixels, attacks "
    "of 40 steps in training)"
)
_CLASSES = "Success rate by class, largest size, means over seeds"
_EFFORTS = (
    "Distances of successful examples from their images, in pixels and in codes, and steps until the first success; "
    "largest size, means over seeds"
)


def write_report(tables: Tables, out: Path, settings: ManifoldSettings) -> Path:
    """Write `report.html` and each figure as a PNG.

    Args:
        tables: the results of the study.
        out: the folder.
        settings: those of the study.

    Returns:
        the page.
    """
    told = saved(leak_figures(tables.leaks, tables.decoders, settings.source.classes), out)
    pictures = saved(figures_of(tables) | picture_figures(tables.pictures, settings), out)
    judgements = claims(tables.models, tables.distances, tables.leaks)
    models = tables.models
    as_in_the_paper = (settings.data, settings.norm, settings.eta) == ("fonts", "linf", 0.3)
    parts: list[Part] = [
        Heading("The four claims"),
        *claim_parts(judgements),
        _INTERVALS.format(models["seed"].nunique()),
        Heading("Along learned manifolds"),
        *([_LEAK, *warnings(tables.leaks), _COLUMNS] if len(tables.leaks) else []),
        *(Table(rows, caption=caption) for caption, rows in tables_along(models, tables.leaks).items()),
        *told.values(),
        Heading("All models"),
        *([settings.left_out] if settings.left_out else []),
        Table(table_over_seeds(models), caption="Means over seeds"),
        *_table(table_beside_plot(models) if as_in_the_paper else pd.DataFrame(), _BESIDE),
        *_table(table_of_classes(models), _CLASSES),
        *_table(table_of_efforts(models), _EFFORTS),
        *pictures.values(),
        Table(_regressions(models), caption="Regression of the success rate on the test error"),
        *_table(table_of_distances(tables.distances), "Distance from the manifold, means over seeds"),
        *_table(tables.manifolds, "Learned manifolds, on held-out images"),
        Heading("What the numbers are"),
        _SUCCESS_RATE.format(settings.manifold_size),
        *([] if settings.on is None else [_STANDS_IN.format(along(settings.on))]),
        _DISTANCE,
        Heading("How it was made"),
        Facts({name: value for name, value in vars(settings).items() if name not in ("out", "root")}),
        Facts(versions(), caption="Versions"),
        "Stutz, Hein, Schiele, Disentangling Adversarial Robustness and Generalization, CVPR 2019.",
    ]
    title = "Robustness and generalization, on and off the manifold"
    return Page(title, summary(judgements), parts).write(out / "report.html")


def _table(rows: pd.DataFrame, caption: str) -> list[Part]:
    return [Table(rows, caption=caption)] if len(rows) else []


def _regressions(models: pd.DataFrame) -> list[dict[str, Any]]:
    return [
        {
            "training": scheme,
            "threat": threat,
            "slope": None if fit is None else fit.slope,
            "fit": "too few models" if fit is None else fit.text(),
        }
        for (scheme, threat), fit in fits(models).items()
    ]
