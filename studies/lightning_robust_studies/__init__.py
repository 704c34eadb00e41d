"""Studies: runs over grids of settings, tidy tables, figures and reports, through the public interface."""

from lightning_robust.cells import read_rows, run_grid
from lightning_robust.demo import Settings, run_demo

__all__ = ["Settings", "read_rows", "run_demo", "run_grid"]
