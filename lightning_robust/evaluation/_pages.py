"""A report as a page and as a table of a notebook."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING, Any

from lightning_robust.evaluation._rows import brief_stages, doubts, samples
from lightning_robust.evaluation.images import LEAST_RADII
from lightning_robust.plots import Facts, Heading, Page, Picture, Table, bar_chart, radius_curve

if TYPE_CHECKING:
    from lightning_robust.evaluation._indicator import Indicator
    from lightning_robust.evaluation.report import Report

_MOST_CLASSES = 100
_MOST_BARS = 28
_READING = (
    "Accuracy under an attack is the share of images that are right on the clean input and under the attack. The worst "
    "case is the share that withstands all attacks. Attacks bound robustness from one side: a stronger attack may find "
    "more. Brackets are 95 % Wilson intervals for the draw of the images."
)
_RADII = (
    "Robust accuracy over the radius, from the least radius at which each image was seen to fall; the band is the 95 % "
    "interval at each radius. It is an upper bound, as every accuracy under attack."
)


def report_page(report: Report, title: str) -> Page:
    """The page of a report: what to doubt first, then the numbers, then what was run."""
    parts: list[Any] = [Heading("Read with care"), *doubts(report)] if doubts(report) else []
    parts += [
        Table(report.rows(), caption=f"Attacked in {report.seconds:.1f} s"),
        *_accuracies(report),
        *_radii(report),
        *_classes(report),
        *_indicators(report),
        _READING,
        *_run(report),
    ]
    return Page(title, f"{report}.", parts)


def _accuracies(report: Report) -> list[Any]:
    """A figure of accuracies, and what each attack added."""
    rows = [row["accuracy"].row(inputs=row["inputs"], measure="accuracy") for row in report.rows()]
    if report.images is None:
        figure = bar_chart(rows[:_MOST_BARS], group="measure", bar="inputs")
        return [Picture(figure, caption="Accuracy with 95 % intervals.", alt=report.table())]
    stages = brief_stages(report)
    if len(report.right) == 1:  # samples left once they were broken: accuracy falls from attack to attack
        names = [f"after {stage['attack']}" if i else "clean" for i, stage in enumerate(stages)]
        pairs = zip(names, stages, strict=True)
        rows = [stage["accuracy after"].row(inputs=name, measure="accuracy") for name, stage in pairs]
    figure = bar_chart(rows[:_MOST_BARS], group="measure", bar="inputs")
    shares = [{**stage, "of the images": f"{100 * stage['broke'] / report.n:.1f} %"} for stage in stages]
    shares[0]["attack"] = "none: wrong when clean"
    columns = ("attack", "broke", "of the images", "accuracy after")
    return [
        Picture(figure, caption="Accuracy with 95 % intervals.", alt=report.table()),
        Heading("Which attack broke how many"),
        Table(shares, columns=columns, caption="An image counts for the first attack that broke it"),
    ]


def _radii(report: Report) -> list[Any]:
    """The radius curve, where it is known. An attack that stays at the full radius gives the accuracy without an attack
    up to there, which is no robustness.
    """
    if report.images is None or not report.about.keys() & LEAST_RADII.keys():
        return []
    try:
        rows = report.radius_curve()
    except ValueError:  # an attack did not say at which radius it succeeded
        return []
    if len(rows) < 2:
        return []
    figure = radius_curve([{"model": "this model", **row} for row in rows])
    middle, last = rows[len(rows) // 2], rows[-1]
    alt = ", ".join(f"{100 * row['value']:.1f} % at radius {row['radius']:.4g}" for row in (rows[0], middle, last))
    return [Heading("Over the radius"), Picture(figure, caption=_RADII, alt=f"Robust accuracy: {alt}.")]


def _classes(report: Report) -> list[Any]:
    """The table of classes."""
    if report.labels is None or len(report.labels.unique()) > _MOST_CLASSES:
        return []
    rows, worst = report.per_class(), report.worst_class
    text = (
        f"Worst class: {worst['class']}, robust accuracy {worst['robust'].text()}. It is the lowest of {len(rows)}, "
        "and so a little too low by chance."
    )
    return [Heading("Class by class"), *([text] if len(rows) > 1 else []), Table(rows)]


def _indicators(report: Report) -> list[Any]:
    """The table of indicators; those that are raised first."""
    if not report.indicators:
        return []
    ordered = sorted(report.indicators, key=lambda one: not one.flagged)
    text = (
        f"{len(report.flagged)} of {len(ordered)} indicators are raised; what that means stands at the top. They prove "
        "nothing: a figure that no indicator doubts can be too high, and a doubt says where to look."
    )
    if not report.robust.any():
        text += " No image withstood, so no figure can be too high: those that are of attacks are not raised."
    return [Heading("Indicators of attacks that failed"), text, Table([_row(one) for one in ordered])]


def _row(one: Indicator) -> dict[str, Any]:
    values = {"value": one.value, "threshold": one.threshold}
    return {"indicator": one.name, "raised": one.flagged, **values, "source": one.source}


def _run(report: Report) -> list[Any]:
    """What was run."""
    facts: dict[str, Any] = {"threat": report.threat} if report.threat else {}
    facts |= {} if report.eps is None else {"eps": f"{report.eps:.6g}"}
    facts |= {"passes": report.passes_text()} if any(report.passes) else {}
    facts |= {str(name): value for name, value in report.about.items()}
    parts = [Facts(facts, caption="What was run")] if facts else []
    return [*parts, *([Facts(report.attacks, caption="Attacks")] if report.attacks else [])]


def report_html(report: Report) -> str:
    """The table of a report for a notebook; what users have named is escaped."""
    lines = "".join(
        f"<tr><th style='text-align: left'>{html.escape(row['inputs'])}</th><td>{row['accuracy'].text()}</td></tr>"
        for row in report.rows()
    )
    if any(report.passes):
        lines += f"<tr><th style='text-align: left'>passes</th><td>{report.passes_text()}</td></tr>"
    notes = "".join(f"<p>{html.escape(text)}</p>" for text in doubts(report))
    return f"<table><caption>{html.escape(samples(report))}</caption>{lines}</table>{notes}"
