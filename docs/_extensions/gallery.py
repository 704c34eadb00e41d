"""What the gallery needs: a copy of examples/, the figures and pictures that an example has made, short warnings."""

import shutil
import warnings
from pathlib import Path
from typing import Any

import pytorch_lightning  # noqa: F401  puts a format of warnings in place, which `setup` replaces
from matplotlib.figure import Figure
from sphinx.application import Sphinx
from sphinx_gallery.scrapers import figure_rst

EXAMPLES = Path(__file__).parents[2] / "examples"
_FILES: set[Path] = set()
"""The files that examples have written so far: they all run in one folder."""


def _get_sg_image_scraper() -> Any:
    return pictures


def pictures(block: Any, block_vars: dict[str, Any], gallery_conf: dict[str, Any]) -> str:
    """The figures that a block has made, then the PNG files that it has written and no figure shows."""
    seen = block_vars["example_globals"].setdefault("_shown", set())  # figures by id: they live as long as the example
    made = [value for value in block_vars["example_globals"].values() if isinstance(value, Figure)]
    figures = [figure for figure in made if id(figure) not in seen]
    files = [path for path in _written(block_vars) if path not in _FILES]
    seen |= {id(figure) for figure in figures}
    _FILES.update(files)
    shown = []
    for figure in figures:
        shown.append(next(block_vars["image_path_iterator"]))
        figure.savefig(shown[-1], dpi=160)
    for path in [] if figures else files:
        shown.append(next(block_vars["image_path_iterator"]))
        shutil.copy(path, shown[-1])
    return figure_rst(shown, gallery_conf["src_dir"])


def _written(block_vars: dict[str, Any]) -> list[Path]:
    """The PNG files below the folder of the example, oldest first, that are newer than its copy."""
    source = Path(block_vars["src_file"])
    started = source.stat().st_mtime
    found = (path for path in source.parent.rglob("*.png") if path.stat().st_mtime > started)
    return sorted(found, key=lambda path: path.stat().st_mtime)


def _copy(app: Sphinx) -> None:
    """A new copy of examples/, without what an earlier build has left there."""
    target = Path(app.srcdir) / "_build" / "examples"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(EXAMPLES, target, ignore=shutil.ignore_patterns("__pycache__", "runs", "lightning_logs", "*.png"))


def _said(message: Warning | str, *where: Any, **more: Any) -> str:
    """A warning as it is shown below an example: without a path of the machine that made the page."""
    return f"Warning: {message}\n"


def setup(app: Sphinx) -> dict[str, Any]:
    """Copy before the gallery is made."""
    warnings.formatwarning = _said
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")  # of torch, about Lightning
    app.connect("builder-inited", _copy, priority=1)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
