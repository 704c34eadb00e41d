"""A page: one HTML file with everything in it, which opens offline, prints well and needs no scripts."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Integral, Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from lightning_robust import _checks
from lightning_robust._files import write_bytes, write_text
from lightning_robust._optional import optional
from lightning_robust.plots._style import png
from lightning_robust.plots.claims import Claims
from lightning_robust.plots.estimate import PERCENT, Estimate, Unit
from lightning_robust.plots.rows import Rows, check_texts, checked_rows

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_TEMPLATE = Path(__file__).with_name("page.html.jinja")
_CSS_PIXELS_PER_INCH = 96
_MOST_LETTERS = 1500  # of a list that is not folded


@dataclass(frozen=True)
class Heading:
    """A section heading.

    Args:
        text: the heading.
    """

    kind: ClassVar = "heading"
    text: str

    def __post_init__(self) -> None:
        _checks.text("text", self.text)


@dataclass(frozen=True)
class Table:
    """A table with one line for each row; columns of numbers are aligned at the right.

    An `Estimate` is written as `13.6 % [12.3, 15.0]`, an integer with thousands separators, another number with
    `digits` significant digits, None and NaN as a dash, everything else by `str`.

    Args:
        rows: a list of dicts, or a data frame, whose index is left out.
        columns: which columns, in which order; by default those of the first row.
        caption: above the table.
        unit: how estimates are written.
        digits: significant digits of numbers without an interval.

    Raises:
        ValueError: there is no row, or a row lacks a column.

    Example:
        >>> Table([{"model": "normal", "error": Estimate(0.236, 0.220, 0.253, 2500)}]).columns
        ('model', 'error')
    """

    kind: ClassVar = "table"
    rows: Rows | pd.DataFrame
    columns: Sequence[str] | None = None
    caption: str = ""
    unit: Unit = PERCENT
    digits: int = 4

    def __post_init__(self) -> None:
        columns = None if self.columns is None else _checks.sequence("columns", self.columns, "column names")
        if columns == ():
            raise ValueError("Expected argument `columns` to name at least one column, but got none.")
        columns = tuple(checked_rows(self.rows)[0]) if columns is None else columns
        rows = checked_rows(self.rows, **{f"columns[{i}]": column for i, column in enumerate(columns)})
        check_texts(caption=self.caption)
        _checks.instance("unit", self.unit, Unit, "a Unit")
        for name, value in (("rows", rows), ("columns", columns), ("digits", _checks.count("digits", self.digits))):
            object.__setattr__(self, name, value)

    def is_numeric(self, column: str) -> bool:
        """Does the column hold numbers alone?"""
        values = [row[column] for row in checked_rows(self.rows) if row[column] is not None]
        return all(isinstance(value, (Estimate, Real)) and not isinstance(value, bool) for value in values)

    def text(self, value: object) -> str:
        """How a value is written."""
        if value is None or (isinstance(value, Real) and math.isnan(value)):
            return "–"
        if isinstance(value, Estimate):
            return value.text(self.unit)
        if isinstance(value, bool | np.bool_):
            return "yes" if value else "no"
        if isinstance(value, Integral):
            return f"{int(value):,}"
        return f"{float(value):.{self.digits}g}" if isinstance(value, Real) else str(value)


@dataclass(frozen=True)
class Picture:
    """A figure, embedded as a PNG, with a caption. It is drawn once, when it is first asked for.

    Args:
        figure: a matplotlib figure; it is not changed.
        caption: below it, what it shows.
        alt: what it says, in words, for those who do not see it.

    Raises:
        ValueError: `alt` is empty.
    """

    kind: ClassVar = "picture"
    figure: Figure
    caption: str = field(kw_only=True)
    alt: str = field(kw_only=True)

    def __post_init__(self) -> None:
        _checks.instance("figure", self.figure, optional("matplotlib.figure", "report").Figure, "a matplotlib figure")
        check_texts(caption=self.caption, alt=self.alt)
        if not self.alt.strip():
            raise ValueError(f"Expected argument `alt` to say in words what the figure shows, but got {self.alt!r}.")

    @property
    def width(self) -> int:
        """The width on the page, in CSS pixels."""
        return round(self.figure.get_figwidth() * _CSS_PIXELS_PER_INCH)

    @property
    def source(self) -> str:
        """The figure as a data URL."""
        return f"data:image/png;base64,{base64.b64encode(self._png).decode('ascii')}"

    def save(self, path: str | Path) -> Path:
        """Write the figure to `path` as the PNG of the page, whole or not at all, and return the path."""
        return write_bytes(path, self._png)

    @cached_property
    def _png(self) -> bytes:
        return png(self.figure)


@dataclass(frozen=True)
class Facts:
    """Names and values: settings, seeds, versions. Nested mappings are written as `outer.inner`. Long lists are folded.

    Args:
        values: the mapping from names to values.
        caption: above the list.

    Example:
        >>> Facts({"pgd": {"steps": 40}}).pairs
        [('pgd.steps', '40')]
    """

    kind: ClassVar = "facts"
    values: Mapping[str, Any]
    caption: str = "Settings"

    def __post_init__(self) -> None:
        _checks.instance("values", self.values, Mapping, "a mapping from names to values")
        check_texts(caption=self.caption)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """All names with their values."""
        return _flat(self.values)

    @property
    def is_long(self) -> bool:
        """Is the list so long that a page shows it folded?"""
        return sum(len(name) + len(value) for name, value in self.pairs) > _MOST_LETTERS


Part = str | Heading | Table | Claims | Picture | Facts
"""A part of a page; a string is a paragraph."""


@dataclass(frozen=True)
class Page:
    """A page: a title, a sentence that says what came out, and parts in reading order.

    The page refers to nothing outside itself, and its content policy forbids a browser to load anything.

    Args:
        title: the headline and the name of the browser's tab.
        summary: the result in a sentence or two.
        parts: strings (paragraphs), `Heading`, `Table`, `Claims`, `Picture` and `Facts`.

    Raises:
        ValueError: the title is empty.
        TypeError: a part is of another kind.

    Example:
        >>> page = Page("Fonts", "Error < 14 %.", ["One paragraph."]).html()
        >>> "<h1>Fonts</h1>" in page, "Error &lt; 14\N{NO-BREAK SPACE}%." in page
        (True, True)
    """

    title: str
    summary: str
    parts: Sequence[Part]

    def __post_init__(self) -> None:
        check_texts(title=self.title, summary=self.summary)
        if not self.title.strip():
            raise ValueError(f"Expected argument `title` to be a headline, but got {self.title!r}.")
        wanted = "a list of strings, Heading, Table, Claims, Picture and Facts"
        for i, part in enumerate(_checks.sequence("parts", self.parts, wanted)):
            _checks.instance(f"parts[{i}]", part, (str, Heading, Table, Claims, Picture, Facts), f"one of {wanted}")

    def html(self) -> str:
        """The whole page."""
        environment = optional("jinja2", "report").Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
        environment.filters["unbroken"] = unbroken
        template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
        return template.render(title=self.title, summary=self.summary, parts=list(self.parts)) + "\n"

    def write(self, path: str | Path) -> Path:
        """Write the page to `path`, whole or not at all, and return the path."""
        return write_text(path, self.html())


def unbroken(text: str) -> str:
    r"""Text in which a number and its percent sign stay on one line, and so do the ends of an interval.

    Example:
        >>> unbroken("x < 5 % [4.1, 6.0]")
        'x < 5\xa0% [4.1,\xa06.0]'
    """
    text = re.sub(r"(?<=\d) %", "\N{NO-BREAK SPACE}%", text)
    return re.sub(r"(\[-?[\d.,]+,) (?=-?\d)", "\\1\N{NO-BREAK SPACE}", text)


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for name, value in values.items():
        pairs += _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else [(f"{prefix}{name}", str(value))]
    return pairs
