"""The figures of this study that no library needs: regressions, matrices, distributions, surfaces and planes."""

from lightning_robust_studies.stutz2019.plots.panels import embedding, heat_map, histogram_panel, loss_surface
from lightning_robust_studies.stutz2019.plots.regression import LinearFit, linear_fit, regression_scatter

__all__ = [
    "LinearFit",
    "embedding",
    "heat_map",
    "histogram_panel",
    "linear_fit",
    "loss_surface",
    "regression_scatter",
]
