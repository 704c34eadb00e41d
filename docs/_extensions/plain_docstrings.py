"""Docstrings are read in editors: a lone `*` or `|` in them is a character, not markup."""

import re
from typing import Any

from sphinx.application import Sphinx

_KEPT = re.compile(
    r":math:`[^`]*`|``.*?``|`[^`]*`_?|\*\*[^\s*](?:[^*]*[^\s*])?\*\*|(?<![\w*])\*[^\s*][^*]*[^\s*\d]\*(?![\w*])"
)
"""Markup that is meant: formulas, code, links, bold and emphasized text."""

_LONE = re.compile(r"(?<!\\)([*|])")


def escaped(line: str) -> str:
    r"""A line of text with its lone stars and bars escaped.

    Example:
        >>> escaped("*args, |x| and *this*")
        '\\*args, \\|x\\| and *this*'
    """
    parts, end = [], 0
    for kept in _KEPT.finditer(line):
        suffix = "\\ " if line[kept.end() :][:1].isalnum() else ""  # `Attack`s
        parts += [_LONE.sub(r"\\\1", line[end : kept.start()]), kept.group(), suffix]
        end = kept.end()
    return "".join([*parts, _LONE.sub(r"\\\1", line[end:])])


def _process(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Escape text; examples, formulas and other indented blocks stay as they are."""
    block = None  # the indentation of the directive or the paragraph that ended in `::`
    open_code = False
    for i, line in enumerate(lines):
        text = line.lstrip()
        indent = len(line) - len(text)
        if block is not None and text and indent <= block:
            block = None
        if text.startswith(">>>"):
            open_code = True
        elif not text:
            open_code = False
        if block is None and not open_code:
            code = text.count("`") % 2  # a literal that goes on in the next line
            if not code and not text.startswith(".. "):
                lines[i] = escaped(line)
            if text.startswith(".. ") or text.endswith("::"):
                block = indent


def setup(app: Sphinx) -> dict[str, Any]:
    """After napoleon, which reads the sections."""
    app.connect("autodoc-process-docstring", _process, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
