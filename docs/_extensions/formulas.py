"""Formulas as MathML, which browsers show without a script: docutils converts them."""

import re
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.util import logging

logger = logging.getLogger(__name__)
UNKNOWN = {r"\\[bB]igg?[lrm]?(?![a-zA-Z])": "", r"\\dots(?![a-zA-Z])": r"\\ldots "}
"""Commands that docutils does not know, and what stands for them."""


def _visit(writer: Any, node: nodes.math | nodes.math_block, block: bool) -> None:
    text = node.astext()
    for unknown, known in UNKNOWN.items():
        text = re.sub(unknown, known, text)
    try:
        formula = tex2mathml(text, as_block=block)
    except ValueError as error:  # docutils' MathError
        logger.warning("no formula can be made of %r: %s", text, error, location=node)
        raise nodes.SkipNode from error
    writer.body.append(f'<div class="math">{formula}</div>' if block else formula)
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Make it the way of the HTML builder."""
    inline = (lambda writer, node: _visit(writer, node, block=False), None)
    display = (lambda writer, node: _visit(writer, node, block=True), None)
    app.add_html_math_renderer("mathml", inline, display)
    app.config.html_math_renderer = "mathml"
    return {"parallel_read_safe": True, "parallel_write_safe": True}
