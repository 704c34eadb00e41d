import pandas as pd

from lightning_robust_studies.stutz2019.tables import PLOT, table_beside_plot, table_over_seeds
from tests.studies.stutz2019.results import row_of


def test_intervals_of_shares_end_at_one():
    rows = [row_of(v, n=500, scheme="normal", seed=s, metric="test error") for s, v in enumerate((0.99, 0.7))]
    (line,) = table_over_seeds(pd.DataFrame(rows)).to_dict("records")
    assert (line["test error"].low, line["test error"].high) == (0.0, 1.0)


def test_sizes_and_schemes_that_the_plot_has_stand_beside_it():
    rows = [
        row_of(0.8, n=n, scheme=scheme, seed=0, metric="on-manifold success")
        for n in (500, 700)
        for scheme in ("normal", "on-learned-data")
    ]
    (line,) = table_beside_plot(pd.DataFrame(rows)).to_dict("records")
    assert (line["N"], line["training"]) == (500, "normal")
    assert line["difference"] == f"{80 - 100 * PLOT['normal'][500]:.1f} points"
