"""The page of the study of sample complexity."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lightning_robust._versions import versions
from lightning_robust.plots import Facts, Heading, Page, Part, Table
from lightning_robust_studies.claims import claim_parts, summary
from lightning_robust_studies.pictures import saved
from lightning_robust_studies.schmidt2018.experiments.claims import claims
from lightning_robust_studies.schmidt2018.experiments.figures import figures_of
from lightning_robust_studies.schmidt2018.experiments.settings import Grid
from lightning_robust_studies.schmidt2018.experiments.tables import (
    Curves,
    RowsOf,
    accuracy_table,
    checkpoint_table,
    law_table,
    least_table,
    masking_table,
    masking_verdict,
    needed_table,
    verdict_table,
)

_ACCURACY = (
    "Accuracy: the share of images that are classified correctly as they are and under the attack, {} (radius 0: as "
    "they are). Networks with threshold filters, whose gradients are masked, are also attacked by PGD on the linear "
    "part of the filters. Attacks bound robust accuracy from above only. All curves but those of single radii show "
    "the best over network, training radius and checkpoint, chosen on validation images under the same attack, for "
    "each size and seed; the paper chose on the test set. The best checkpoint is the state of a training that was "
    "best on validation images under the attack of that training. Training images are attacked as the training sees "
    "them, with its augmentation. Training sets of the built-in problems are class-balanced, and each contains the "
    "smaller ones of its seed."
)
_ATTACKS = {
    "pgd": "PGD with its best iterate",
    "worst": "the worst of PGD on the log-odds, PGD on the margin and a random search",
}
_BANDS = (
    "Bands and brackets: 95 % intervals by Student's t over {} seeds of the choice of training images, their order "
    "and the initial weights; the test images are the same. With one seed they are for the draw of test images only, "
    "not for the seed or the machine, whose rounding changes a training. Numbers of samples come from monotone "
    "curves, one for each seed, interpolated on a logarithmic scale; their means and intervals are those of the "
    "logarithm. A seed whose curve does not cross the target within the sizes is called censored: its number is "
    "bounded from one side only, and so is the mean. Where the largest size has fewer seeds, numbers of samples, power "
    "laws and claim 1 are of the sizes that all seeds have; claims 2 and 4 are of the seeds that have all sizes."
)
_MASKING = (
    "For models of the largest size and the first seed, at the largest radius: white-box PGD against attacks that "
    "masked gradients do not mislead. A random search uses scores only, numerical gradients see across flat zones, "
    "transferred examples were made on the first network of the same cell (for which there is no such column), and "
    "substitute gradients pass threshold filters. The last column is the share of images that withstand PGD but not "
    "all of the others."
)
_VERDICT = (
    "For each seed and radius the model that validation images chose, and its accuracy on the first test images: "
    "without an attack, under PGD, and by the standard plan of lightning_robust.evaluation, which is the number to "
    "quote. In the lines without an attack it is the accuracy on all test images. Doubts: why the evaluation takes its "
    "own number for too high."
)
_LEAST = (
    "Two images of different classes conflict at a radius if one image is within it of both, in the maximum norm: no "
    "classifier is robust on both. The least error is what the conflicts between the first test images cost any "
    "classifier on these, in pairs (Dai et al., Characterizing the optimal 0-1 loss for multi-class classification "
    "with a test-time attacker, NeurIPS 2023). It says nothing of other images; more images have "
    "more conflicts."
)
_REFERENCE = (
    "Schmidt, Santurkar, Tsipras, Talwar, Madry, Adversarially Robust Generalization Requires More Data, NeurIPS 2018."
)


def write_report(
    curves: Curves,
    out: Path,
    *,
    targets: Sequence[float],
    settings: Mapping[str, Any],
    grids: Sequence[Grid],
    left_out: str = "",
    verdicts: RowsOf = MappingProxyType({}),
    least: RowsOf = MappingProxyType({}),
) -> Path:
    """Write `report.html` and each figure as a PNG.

    Args:
        curves: The learning curves by data set.
        out: The folder.
        targets: Accuracies for which the number of samples is asked.
        settings: Names and values to show at the end.
        grids: What was run of each problem.
        left_out: A sentence on what a problem does not have.
        verdicts: What the best models of the largest size withstand, by data set.
        least: The least errors of any classifier, by data set.

    Returns:
        The page.
    """
    pictures = saved(figures_of(curves, least), out)
    trusted = {data: each.trusted() for data, each in curves.items()}
    judged = claims(trusted, targets=targets)
    seeds = len({row["seed"] for each in curves.values() for row in each.rows})
    laws, masked = law_table(trusted), any(each.masking for each in curves.values())
    parts: list[Part] = [Heading("The claims"), *claim_parts(judged), *([left_out] if left_out else [])]
    parts += [Heading("Accuracy over the number of training images"), pictures.pop("accuracy")]
    parts += [Table(accuracy_table(trusted), caption="Best over hyperparameters, means over seeds")]
    if verdicts:
        text = "The best models of the largest size, judged by the standard plan"
        parts += [Heading("The verdict"), _VERDICT, Table(verdict_table(verdicts), caption=text)]
    if least:
        text = "Conflicts among test images, and the least error of any classifier on them"
        parts += [Heading("What no classifier can beat"), _LEAST, Table(least_table(least), caption=text)]
    parts += [Heading("How many images an accuracy takes")]
    parts += [Table(needed_table(trusted, targets), caption="Training images for an accuracy, and their ratio")]
    if len(laws):
        parts += [pictures.pop("power_law"), Table(laws, caption="Power laws: error = a n^-b")]
    parts += [Heading("Radii, networks, checkpoints and training images"), *pictures.values()]
    checkpoints = checkpoint_table(curves)
    if len(checkpoints):
        parts += [Table(checkpoints, caption="The best checkpoint less the last one, on test images")]
    if masked:
        parts += [Heading("Can PGD be believed?"), _MASKING, masking_verdict(curves)]
        parts += [Table(masking_table(curves), caption="Accuracy by attack")]
    return Page(
        "How much data robustness takes",
        summary(judged),
        [
            *parts,
            Heading("What the numbers are"),
            _ACCURACY.format(_ATTACKS[str(settings.get("attacks", "pgd"))]),
            _BANDS.format(seeds),
            Heading("How it was made"),
            *(Facts({k: v for k, v in vars(grid).items() if k != "data"}, caption=grid.data) for grid in grids),
            Facts(settings),
            Facts(versions(), caption="Versions"),
            _REFERENCE,
        ],
    ).write(out / "report.html")
