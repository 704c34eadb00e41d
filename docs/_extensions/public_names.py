"""The pages of the API: one for each public part, with every name of its `__all__`.

A name without text is a warning.
"""

import ast
import functools
import importlib
import inspect
import itertools
from pathlib import Path
from typing import Any

from plain_docstrings import escaped
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging

import lightning_robust
from lightning_robust._lightning import pl

PARTS = (*lightning_robust._SUBPACKAGES, "attacks.starts", "evaluation.indicators")
logger = logging.getLogger(__name__)


def names_of(part: str) -> dict[str, Any]:
    """The public names of a part and what they stand for, classes first, then functions."""
    module = importlib.import_module(f"lightning_robust.{part}")
    values = {name: getattr(module, name) for name in module.__all__}
    return dict(sorted(values.items(), key=lambda item: (_kind(item[1]), item[0].lower())))


def _kind(value: Any) -> int:
    return 0 if inspect.isclass(value) else 1 if inspect.isroutine(value) else 2


def page(part: str) -> str:
    """The source of a page."""
    names = names_of(part)
    rows = "".join(
        f"   * - :py:obj:`~lightning_robust.{part}.{name}`\n     - {_first(v, name)}\n" for name, v in names.items()
    )
    entries = "".join(_entry(value, name) for name, value in names.items())
    return (
        f"{part}\n{'=' * len(part)}\n\n.. automodule:: lightning_robust.{part}\n   :no-members:\n\n"
        f".. list-table::\n   :widths: 30 70\n   :class: names\n\n{rows}\n"
        f".. currentmodule:: lightning_robust.{part}\n\n{entries}"
    )


def text_of(value: Any, name: str) -> str:
    """What has a docstring brings it; of other names it is the string that stands below them."""
    return (inspect.getdoc(value) or "") if _kind(value) < 2 else _below().get(name, "")


def _first(value: Any, name: str) -> str:
    return escaped(" ".join(text_of(value, name).partition("\n\n")[0].split()))


def _entry(value: Any, name: str) -> str:
    if _kind(value) < 2:
        return f".. auto{('class', 'function')[_kind(value)]}:: {name}\n\n"
    text = "\n   ".join(map(escaped, text_of(value, name).splitlines()))
    return f".. py:data:: {name}\n\n   {text}\n\n"


@functools.cache
def _below() -> dict[str, str]:
    """The strings below assignments at the top of all modules, by the name that is assigned to."""
    found: dict[str, str] = {}
    for path in Path(lightning_robust.__file__).parent.rglob("*.py"):
        for assigned, below in itertools.pairwise(ast.parse(path.read_text("utf-8")).body):
            targets = getattr(assigned, "targets", [getattr(assigned, "target", None)])
            match below:
                case ast.Expr(value=ast.Constant(value=str(text))):
                    found |= {t.id: inspect.cleandoc(text) for t in targets if isinstance(t, ast.Name)}
    return found


def parts() -> str:
    """The table of the parts, by the first sentences of their texts, and the names that are at the top as well."""
    rows = "".join(f"| [{part}](parts/{part}) | {_sentence(part)} |\n" for part in PARTS)
    homes = sorted(lightning_robust._HOME.items(), key=lambda item: item[0].lower())
    top = ", ".join(f"{{py:obj}}`~lightning_robust.{home}.{name}`" for name, home in homes)
    at_the_top = f"## At the top\n\n`from lightning_robust import ...` has what is needed most: {top}."
    return f"| part | has |\n|---|---|\n{rows}\n{at_the_top}\n"


def _sentence(part: str) -> str:
    text = inspect.getdoc(importlib.import_module(f"lightning_robust.{part}")) or ""
    return " ".join(text.partition("\n\n")[0].split())


def _index(app: Sphinx, name: str, source: list[str]) -> None:
    if name == "api/index":
        source[0] = source[0].replace("<!-- parts -->", parts())


def _hook(app: Sphinx, what: str, name: str, value: Any, skip: bool, options: Any) -> bool | None:
    """Methods of callbacks that Lightning calls are left out: nobody else does."""
    home = getattr(getattr(value, "fget", value), "__module__", None) or ""
    return (
        True
        if home.startswith("lightning_robust.callbacks") and hasattr(pl.Callback, name.rpartition(".")[2])
        else None
    )


def _write(app: Sphinx) -> None:
    folder = Path(app.srcdir) / "api" / "parts"
    folder.mkdir(parents=True, exist_ok=True)
    for part in PARTS:
        path, text = folder / f"{part}.rst", page(part)
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")


def _complete(app: Sphinx, env: BuildEnvironment) -> None:
    known = env.domaindata["py"]["objects"]
    for part in PARTS:
        for name, value in names_of(part).items():
            if f"lightning_robust.{part}.{name}" not in known or not text_of(value, name):
                logger.warning("lightning_robust.%s.%s is public, and the API says nothing of it", part, name)


def setup(app: Sphinx) -> dict[str, Any]:
    """Write the pages before anything is read, and look whether all names are there."""
    app.connect("builder-inited", _write, priority=1)
    app.connect("source-read", _index)
    app.connect("autodoc-skip-member", _hook)
    app.connect("env-check-consistency", _complete)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
