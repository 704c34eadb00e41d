"""Figures and reports: pure functions from tidy tables and tensors to matplotlib figures and one HTML page."""

from lightning_robust.plots.bars import bar_chart
from lightning_robust.plots.curves import curve_panel
from lightning_robust.plots.estimate import Estimate
from lightning_robust.plots.examples import AttackedSamples, example_sheet
from lightning_robust.plots.files import write_bytes, write_text
from lightning_robust.plots.grid import image_grid
from lightning_robust.plots.images import difference_rgb
from lightning_robust.plots.parts import Html, heading, paragraph, picture, settings, table
from lightning_robust.plots.report import Report
from lightning_robust.plots.style import png, save_png
from lightning_robust.plots.units import PERCENT, PLAIN, POINTS, Unit
from lightning_robust.plots.versions import versions

__all__ = [
    "PERCENT",
    "PLAIN",
    "POINTS",
    "AttackedSamples",
    "Estimate",
    "Html",
    "Report",
    "Unit",
    "bar_chart",
    "curve_panel",
    "difference_rgb",
    "example_sheet",
    "heading",
    "image_grid",
    "paragraph",
    "picture",
    "png",
    "save_png",
    "settings",
    "table",
    "versions",
    "write_bytes",
    "write_text",
]
