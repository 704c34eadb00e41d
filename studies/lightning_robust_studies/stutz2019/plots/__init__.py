"""The figures of this study that no library needs: matrices, distributions, surfaces, planes and regressions."""

from lightning_robust_studies.stutz2019.plots.embedding import embedding, principal_plane
from lightning_robust_studies.stutz2019.plots.heat_map import heat_map
from lightning_robust_studies.stutz2019.plots.histograms import histogram_panel
from lightning_robust_studies.stutz2019.plots.scatter import LinearFit, linear_fit, regression_scatter
from lightning_robust_studies.stutz2019.plots.surface import loss_surface

__all__ = [
    "LinearFit",
    "embedding",
    "heat_map",
    "histogram_panel",
    "linear_fit",
    "loss_surface",
    "principal_plane",
    "regression_scatter",
]
