"""A report: one HTML file with everything in it, which opens offline, prints well and needs no scripts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from lightning_robust._checks import text
from lightning_robust.plots.files import write_text
from lightning_robust.plots.parts import Html, paragraph, prose

_CSS = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.25rem 4rem; max-width: 70rem; background: #fff; color: #262626;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.75rem; line-height: 1.25; margin: 0 0 .5rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .75rem; padding-bottom: .3rem; border-bottom: 1px solid #e3e3e3; }
h3 { font-size: 1rem; margin: 1.75rem 0 .5rem; }
p { max-width: 48rem; margin: .75rem 0; }
.summary { font-size: 1.1rem; color: #404040; margin-bottom: 1.75rem; }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding: 0 0 .5rem; }
th, td { padding: .4rem .75rem .4rem 0; text-align: left; vertical-align: baseline; border-bottom: 1px solid #e3e3e3; }
thead th { border-bottom: 1.5px solid #6b6b6b; vertical-align: bottom; }
tbody th { font-weight: 600; }
th.num, td.num { text-align: right; padding: .4rem 0 .4rem 1.1rem; }
td.num { white-space: nowrap; }
.num + th:not(.num), .num + td:not(.num) { padding-left: 1.1rem; }
figure { margin: 1.5rem 0 2rem; }
img { display: block; max-width: 100%; height: auto; }
figcaption { max-width: 48rem; margin-top: .5rem; font-size: .92rem; color: #525252; }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(19rem, 1fr)); gap: .2rem 2rem; margin: 0;
  font-size: .88rem; }
dl div { display: flex; gap: .75rem; justify-content: space-between; padding: .2rem 0;
  border-bottom: 1px solid #e3e3e3; }
dt { color: #525252; }
dd { margin: 0; text-align: right; font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  overflow-wrap: anywhere; min-width: 0; }
@media (max-width: 40rem) { body { padding: 1.25rem .9rem 3rem; } dl { grid-template-columns: 1fr; } }
@media print {
  body { max-width: none; padding: 0; font-size: 10.5pt; }
  figure, tr, dl div { break-inside: avoid; }
  h2, h3, caption { break-after: avoid; }
  .scroll { overflow: visible; }
  table { font-size: 9pt; }
  td.num { white-space: normal; }
}
"""


@dataclass(frozen=True)
class Report:
    """A page: a title, a sentence that says what came out, and parts in reading order.

    The page refers to nothing outside itself, and its content policy forbids a browser to load anything.

    Args:
        title: the headline and the name of the browser's tab.
        summary: the result in a sentence or two.
        parts: from `heading`, `paragraph`, `table`, `picture` and `settings`; a plain string is a paragraph.

    Raises:
        ValueError: if the title is empty.
        TypeError: if a part is neither `Html` nor a string.

    Example:
        >>> page = Report("Fonts", "Error < 14.", ["One paragraph."]).html()
        >>> "<h1>Fonts</h1>" in page, "Error &lt; 14." in page
        (True, True)
    """

    title: str
    summary: str
    parts: Sequence[Html | str]

    def __post_init__(self) -> None:
        if not text("title", self.title, empty=True).strip():
            raise ValueError(f"Expected argument `title` to be a headline, but got {self.title!r}.")
        text("summary", self.summary, empty=True)
        if isinstance(self.parts, str) or not isinstance(self.parts, Sequence):
            got = type(self.parts).__name__
            raise TypeError(f"Expected argument `parts` to be a list of parts, but got {got}; put it in a list.")
        for part in self.parts:
            if not isinstance(part, (Html, str)):
                raise TypeError(
                    "Expected argument `parts` to hold strings and what heading, paragraph, table, picture and "
                    f"settings return, but got {type(part).__name__}."
                )

    def html(self) -> str:
        """The whole page."""
        body = "\n".join((paragraph(part) if isinstance(part, str) else part).markup for part in self.parts)
        return (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            '<meta http-equiv="Content-Security-Policy" '
            "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">\n"
            f"<title>{escape(self.title)}</title>\n<style>{_CSS}</style>\n</head>\n<body>\n<main>\n"
            f'<h1>{escape(self.title)}</h1>\n<p class="summary">{prose(self.summary)}</p>\n{body}\n'
            "</main>\n</body>\n</html>\n"
        )

    def write(self, path: str | Path) -> Path:
        """Writes the page to ``path``, whole or not at all, and returns the path."""
        return write_text(path, self.html())
