"""The parts of a report: pure functions from tables, figures and settings to HTML in which every text is escaped."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from lightning_robust import _checks
from lightning_robust._checks import count, instance, sequence
from lightning_robust.plots.estimate import Estimate
from lightning_robust.plots.rows import Rows, check_columns, check_texts
from lightning_robust.plots.style import png
from lightning_robust.plots.units import PERCENT, Unit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_CSS_PIXELS_AN_INCH = 96


@dataclass(frozen=True)
class Html:
    """Markup that is ready for the page: its texts are escaped. The functions of this module make it."""

    markup: str


def prose(text: str) -> str:
    """Escaped text in which a number and its percent sign stay on one line, and so do the ends of an interval.

    Example:
        >>> prose("x < 5 % [4.1, 6.0]")
        'x &lt; 5&nbsp;% [4.1,&nbsp;6.0]'
    """
    text = re.sub(r"(?<=\d) %", "&nbsp;%", escape(_checks.text("text", text, empty=True)))
    return re.sub(r"(\[-?[\d.,]+,) (?=-?\d)", r"\1&nbsp;", text)


def heading(text: str) -> Html:
    """A section heading.

    Example:
        >>> heading("Error & success").markup
        '<h2>Error &amp; success</h2>'
    """
    return Html(f"<h2>{escape(_checks.text('text', text))}</h2>")


def paragraph(text: str) -> Html:
    """A paragraph of plain text."""
    return Html(f"<p>{prose(text)}</p>")


def table(
    rows: Rows, *, columns: Sequence[str] | None = None, caption: str = "", unit: Unit = PERCENT, digits: int = 4
) -> Html:
    """A table with one line for each row; numbers stand at the right, texts at the left.

    Written are: an `Estimate` as ``13.6 % [12.3, 15.0]``, whole numbers with thousands separators, other numbers with
    ``digits`` significant digits, None and NaN as a dash, everything else by ``str``.

    Args:
        rows: a tidy table.
        columns: which columns, in which order; by default those of the first row.
        caption: above the table.
        unit: how estimates are written.
        digits: significant digits of numbers without an interval.

    Raises:
        ValueError: if there is no row, or a row lacks a column.

    Example:
        >>> markup = table([{"model": "normal", "error": Estimate(0.236, 0.220, 0.253, 2500)}]).markup
        >>> '<td class="num">23.6&nbsp;% [22.0,&nbsp;25.3]</td>' in markup
        True
    """
    if columns is not None:
        columns = [_checks.text(f"columns[{i}]", c) for i, c in enumerate(sequence("columns", columns, "column names"))]
        if not columns:
            raise ValueError("Expected argument `columns` to name at least one column, but got none.")
    check_columns(rows, columns or ())
    check_texts(caption=caption)
    instance("unit", unit, Unit, "a Unit")
    digits = count("digits", digits)
    names = list(rows[0]) if columns is None else columns
    check_columns(rows, names)
    numeric = {name: all(_is_number(row[name]) for row in rows if row[name] is not None) for name in names}
    head = "".join(f'<th scope="col"{_num(numeric[name])}>{escape(name)}</th>' for name in names)
    body = "\n".join(
        "<tr>" + "".join(_cell(row[n], i, numeric[n], unit, digits) for i, n in enumerate(names)) + "</tr>"
        for row in rows
    )
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return Html(
        f'<div class="scroll"><table>{title}\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table></div>'
    )


def picture(figure: Figure, *, caption: str, alt: str) -> Html:
    """A figure, embedded as a PNG, with a caption.

    Args:
        figure: a matplotlib figure; it is not changed.
        caption: below it, what it shows.
        alt: what it says, in words, for those who do not see it.

    Raises:
        ValueError: if ``alt`` is empty.
    """
    check_texts(caption=caption)
    if not _checks.text("alt", alt, empty=True).strip():
        raise ValueError(f"Expected argument `alt` to say in words what the figure shows, but got {alt!r}.")
    data = base64.b64encode(png(figure)).decode("ascii")
    width = round(figure.get_figwidth() * _CSS_PIXELS_AN_INCH)
    return Html(
        f'<figure><img width="{width}" src="data:image/png;base64,{data}" alt="{escape(alt)}">'
        f"<figcaption>{prose(caption)}</figcaption></figure>"
    )


def settings(values: Mapping[str, Any], *, caption: str = "Settings") -> Html:
    """Names and values: settings, seeds, versions. Nested mappings are written as ``outer.inner``.

    Example:
        >>> "<dt>pgd.steps</dt><dd>40</dd>" in settings({"pgd": {"steps": 40}}).markup
        True
    """
    instance("values", values, Mapping, "a mapping from names to values")
    check_texts(caption=caption)
    pairs = "\n".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(str(value))}</dd></div>" for name, value in _flat(values)
    )
    return Html(f'<section class="settings"><h3>{escape(caption)}</h3><dl>\n{pairs}\n</dl></section>')


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for name, value in values.items():
        pairs += _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(f"{prefix}{name}", value)]
    return pairs


def _is_number(value: object) -> bool:
    return isinstance(value, (Estimate, Real)) and not isinstance(value, bool)


def _num(numeric: bool) -> str:
    return ' class="num"' if numeric else ""


def _cell(value: object, column: int, numeric: bool, unit: Unit, digits: int) -> str:
    text = prose(_text(value, unit, digits))
    if column == 0 and not numeric:
        return f'<th scope="row">{text}</th>'
    return f"<td{_num(numeric or _is_number(value))}>{text}</td>"


def _text(value: object, unit: Unit, digits: int) -> str:
    if value is None or (isinstance(value, Real) and math.isnan(value)):
        return "–"
    if isinstance(value, Estimate):
        return value.text(unit)
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Integral):
        return f"{int(value):,}"
    if isinstance(value, Real):
        return f"{float(value):.{digits}g}"
    return str(value)
