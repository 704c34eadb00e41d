"""Studies: runs over grids of settings, tidy tables, figures and reports, through the public interface."""

from lightning_robust.studies.demo import Settings, run_demo
from lightning_robust.studies.grid import read_rows, run_grid

__all__ = ["Settings", "read_rows", "run_demo", "run_grid"]
