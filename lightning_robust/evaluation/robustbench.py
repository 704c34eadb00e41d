"""The result of an evaluation in the form in which RobustBench lists models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lightning_robust import _checks

if TYPE_CHECKING:
    from lightning_robust.evaluation.report import Report

_LARGEST = 255


def model_info(
    report: Report,
    *,
    name: str = "",
    authors: str = "",
    link: str = "",
    venue: str = "Unpublished",
    dataset: str = "",
    architecture: str = "",
    additional_data: bool = False,
    number_forward_passes: int = 1,
    autoattack_acc: float | None = None,
    footnote: str = "",
) -> dict[str, Any]:
    """The entry of a model, as the files of RobustBench's folder `model_info` have it.

    Accuracies are in percent, as text with two decimals. This report's robust accuracy is `reported`. RobustBench keeps
    `autoattack_acc` for the attack of that name, and `external` for a lower one that other attacks have found: this
    report's is there where it is lower. Where AutoAttack was made in full, under the name "autoattack", its
    accuracy is taken. An entry is `unreliable` where the report has a warning or an indicator that is raised.

    Args:
        report: The evaluation.
        name: Title of the paper.
        authors: Its authors.
        link: Its address.
        venue: Where it appeared.
        dataset: Name of the data set, such as "cifar10".
        architecture: Name of the network, such as "WideResNet-28-10".
        additional_data: Was the model trained with more data than the data set has?
        number_forward_passes: Number of forward passes of a prediction.
        autoattack_acc: Robust accuracy under AutoAttack, from 0 to 1; None: not known.
        footnote: What else is to be said.

    Raises:
        ValueError: if the report does not say the radius.

    Example:
        >>> import torch
        >>> from lightning_robust.evaluation import Report
        >>> right = {"clean": torch.tensor([True, True, False]), "pgd": torch.tensor([True, False, False])}
        >>> info = model_info(Report(right, eps=8 / 255), dataset="cifar10", autoattack_acc=0.34)
        >>> [info[field] for field in ("eps", "clean_acc", "reported", "autoattack_acc", "external")]
        ['8/255', '66.67', '33.33', '34.00', '33.33']

    References:
        F. Croce et al., RobustBench: a standardized adversarial robustness benchmark, NeurIPS Datasets and Benchmarks
        2021; the fields are those of its files.
    """
    if report.eps is None:
        raise ValueError("Expected a report with `eps`, the radius of the threat, but this one does not say it.")
    texts = {"link": link, "name": name, "authors": authors, "dataset": dataset, "venue": venue}
    for field, text in {**texts, "architecture": architecture, "footnote": footnote}.items():
        _checks.text(field, text, empty=True)
    theirs = report.right.get("autoattack")
    known = None if theirs is None else float(theirs.double().mean())
    known = known if autoattack_acc is None else _checks.number("autoattack_acc", autoattack_acc, 0, 1)
    ours = report.robust_acc.value
    return {
        "link": link,
        "name": name,
        "authors": authors,
        "additional_data": _checks.boolean("additional_data", additional_data),
        "number_forward_passes": _checks.count("number_forward_passes", number_forward_passes),
        "dataset": dataset,
        "venue": venue,
        "architecture": architecture,
        "eps": _radius(report.eps),
        "clean_acc": _percent(report.clean_acc.value),
        "reported": _percent(ours),
        **({} if known is None else {"autoattack_acc": _percent(known)}),
        **({} if known is None or ours >= known else {"external": _percent(ours)}),
        "footnote": footnote,
        "unreliable": bool(report.flagged or report.warnings),
    }


def _percent(share: float) -> str:
    return f"{100 * share:.2f}"


def _radius(eps: float) -> str:
    """A radius as RobustBench writes it: `8/255`, `0.5`."""
    steps = eps * _LARGEST
    return f"{round(steps)}/{_LARGEST}" if eps < 1 and abs(steps - round(steps)) < 1e-4 and round(steps) else f"{eps:g}"
