"""Numbers stay on one line in tables: `44.1 % [41.1, 47.2]` breaks before the bracket alone."""

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

_NUMBER = re.compile(r"(?<=\d) (?=%)|(?<=[\[(])[-+.\d]+, (?:[-+.\d]+|inf)(?=[\])])|(?<=\d) / (?=\d)")


def unbroken(text: str) -> str:
    r"""The text, where spaces within a number are such that no line breaks.

    Example:
        >>> unbroken("44.1 % [41.1, 47.2]")
        '44.1\xa0% [41.1,\xa047.2]'
    """
    return _NUMBER.sub(lambda found: found.group().replace(" ", "\xa0"), text)


class Unbroken(SphinxPostTransform):
    """In the cells of all tables."""

    default_priority = 900

    def run(self, **kwargs: Any) -> None:
        for cell in self.document.findall(nodes.entry):
            for text in list(cell.findall(nodes.Text)):
                if not isinstance(text.parent, nodes.literal):
                    text.parent.replace(text, nodes.Text(unbroken(text.astext())))


def setup(app: Sphinx) -> dict[str, Any]:
    """After all links are resolved."""
    app.add_post_transform(Unbroken)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
