"""CONTRIBUTING.md and CHANGELOG.md lie at the root of the repository; on the site they are pages like all others."""

import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

ROOT = Path(__file__).parents[2]
PAGES = {"contributing": "CONTRIBUTING.md", "changelog": "CHANGELOG.md"}


def _read(app: Sphinx, name: str, source: list[str]) -> None:
    """The text of a page: that of the root for its stub, with links that lead to pages of the site."""
    if name in PAGES:
        source[0] = re.sub(r"\]\(docs/", "](", (ROOT / PAGES[name]).read_text("utf-8"))
    for page, file in PAGES.items():
        up = "../" * name.count("/")
        source[0] = re.sub(rf"\]\((?:\.\./)*{re.escape(file)}", f"]({up}{page}.md", source[0])


def setup(app: Sphinx) -> dict[str, Any]:
    """When a page is read."""
    app.connect("source-read", _read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
