"""Figures and pages: pure functions from tidy tables and tensors to matplotlib figures, and one HTML file of them."""

from lightning_robust.plots._style import add_legend, png, save_png, style
from lightning_robust.plots.bars import bar_chart
from lightning_robust.plots.claims import Claim, Claims
from lightning_robust.plots.curves import curve_panel, radius_curve
from lightning_robust.plots.estimate import PERCENT, PLAIN, POINTS, Estimate, Unit
from lightning_robust.plots.examples import AttackedSamples, example_sheet
from lightning_robust.plots.grid import image_grid
from lightning_robust.plots.images import difference_rgb
from lightning_robust.plots.page import Facts, Heading, Page, Part, Picture, Table

__all__ = [
    "PERCENT",
    "PLAIN",
    "POINTS",
    "AttackedSamples",
    "Claim",
    "Claims",
    "Estimate",
    "Facts",
    "Heading",
    "Page",
    "Part",
    "Picture",
    "Table",
    "Unit",
    "add_legend",
    "bar_chart",
    "curve_panel",
    "difference_rgb",
    "example_sheet",
    "image_grid",
    "png",
    "radius_curve",
    "save_png",
    "style",
]
