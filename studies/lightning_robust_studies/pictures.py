"""The figures of a report, as its page and its files show them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_robust.plots import Picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def saved(figures: Mapping[str, tuple[Figure, str]], out: Path) -> dict[str, Picture]:
    """The figures, each with its caption, as pictures of a page; each is written to `out` under its name as well."""
    pictures = {name: Picture(figure, caption=caption, alt=caption) for name, (figure, caption) in figures.items()}
    for name, picture in pictures.items():
        picture.save(out / f"{name}.png")
    return pictures
