"""The page of the study of sample complexity."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_robust._versions import versions
from lightning_robust.plots import Facts, Heading, Page, Part, Picture, Table, save_png
from lightning_robust_studies.claims import claim_parts, summary
from lightning_robust_studies.schmidt2018.experiments.claims import claims
from lightning_robust_studies.schmidt2018.experiments.figures import figures_of
from lightning_robust_studies.schmidt2018.experiments.masking import trusted
from lightning_robust_studies.schmidt2018.experiments.settings import Grid
from lightning_robust_studies.schmidt2018.experiments.tables import (
    Tables,
    accuracy_lines,
    checkpoint_lines,
    law_lines,
    masking_lines,
    masking_verdict,
    needed_lines,
)

_ACCURACY = (
    "Accuracy: the share of images that are read correctly as they are and under the attack, {} (radius 0: as they "
    "are); for networks with threshold filters, whose gradients are masked, also under PGD on the linear part of the "
    "filters. Attacks bound robust accuracy from above alone. All curves but those of single radii show the best over "
    "network, training radius and checkpoint, chosen on validation images under the same attack, for each size and "
    "seed; the paper chose on the test set. The best checkpoint is the state of a training that was best on validation "
    "images under the attack of that training. Training images are attacked as they come to the training, augmented "
    "where it does so. Training sets of the built-in problems are class-balanced, and each contains the smaller ones "
    "of its seed."
)
_ATTACKS = {
    "pgd": "PGD with its best iterate",
    "worst": "the worst of PGD on the log-odds, PGD on the margin and a random search",
}
_BANDS = (
    "Bands and brackets: 95 % intervals by Student's t over {} seeds of the choice of training images, their order and "
    "the initial weights; the test images are the same. With one seed: for the draw of test images alone, not of the "
    "seed or of the machine, whose rounding leads a training elsewhere. Numbers of samples "
    "come from monotone curves, interpolated on a logarithmic scale; their intervals, and those of power laws, also "
    "cover the draw of test images."
)
_MASKING = (
    "For models of the largest size and the first seed, at the largest radius: white-box PGD against attacks that "
    "masked gradients do not mislead. A random search asks for scores alone, numerical gradients see across flat "
    "zones, transferred examples were made on the first network of the same cell (of which there is no such column), "
    "and substitute gradients pass threshold filters. The last column is the share of images that withstand PGD but "
    "not all of the others."
)


_REFERENCE = (
    "Schmidt, Santurkar, Tsipras, Talwar, Madry, Adversarially Robust Generalization Requires More Data, NeurIPS 2018."
)


def write_report(
    tables: Tables,
    out: Path,
    *,
    targets: Sequence[float],
    settings: Mapping[str, Any],
    grids: Sequence[Grid],
    left_out: str = "",
) -> Path:
    """Write `report.html` and each figure as a PNG.

    Args:
        tables: what the study found.
        out: the folder.
        targets: accuracies for which the number of samples is told.
        settings: names and values to show at the end.
        grids: what was run of each problem.
        left_out: a sentence on what a problem does not have.

    Returns:
        the page.
    """
    figures = figures_of(tables)
    for name, (figure, _) in figures.items():
        save_png(figure, out / f"{name}.png")
    judged = trusted(tables.models, tables.masking)
    found = claims(judged, targets=targets)
    seeds = len({row["seed"] for row in tables.models})
    shown = {name: Picture(figure, caption=text, alt=text) for name, (figure, text) in figures.items()}
    parts: list[Part] = [Heading("The claims"), *claim_parts(found)]
    parts += [left_out] if left_out else []
    parts += [Heading("Accuracy over the number of training images"), shown.pop("accuracy")]
    parts += [Table(accuracy_lines(judged), caption="Best over hyperparameters, means over seeds")]
    parts += [Heading("How many images an accuracy takes")]
    parts += [Table(needed_lines(judged, targets), caption="Training images for an accuracy, and their ratio")]
    laws = law_lines(judged)
    if laws:
        parts += [shown.pop("power_law"), Table(laws, caption="Power laws: error = a n^-b")]
    parts += [Heading("Radii, networks, checkpoints and training images"), *shown.values()]
    checkpoints = checkpoint_lines(tables.models)
    if checkpoints:
        parts += [Table(checkpoints, caption="The best checkpoint less the last one, on test images")]
    if tables.masking:
        parts += [Heading("Can PGD be believed?"), _MASKING]
        parts += [masking_verdict(tables.masking), Table(masking_lines(tables.masking), caption="Accuracy by attack")]
    parts += [
        Heading("What the numbers are"),
        _ACCURACY.format(_ATTACKS[str(settings.get("attacks", "pgd"))]),
        _BANDS.format(seeds),
        Heading("How it was made"),
        *(Facts({k: v for k, v in vars(grid).items() if k != "data"}, caption=grid.data) for grid in grids),
        Facts(settings),
        Facts(versions(), caption="Versions"),
        _REFERENCE,
    ]
    return Page("How much data robustness takes", summary(found), parts).write(out / "report.html")
