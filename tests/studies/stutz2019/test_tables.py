import pandas as pd

from lightning_robust_studies.stutz2019.tables import PLOT, table_beside_plot, table_of_classes, table_over_seeds
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


def test_classes_stand_in_order_also_where_a_model_lacks_one():
    rows = [
        row_of(value, n=500, scheme=scheme, seed=0, metric=f"off-manifold success in class {label}")
        for scheme, label, value in (("normal", "B", 0.5), ("on-true", "A", 0.25), ("on-true", "B", 0.75))
    ]
    table = table_of_classes(pd.DataFrame(rows))
    assert list(table.columns) == ["training", "threat", "A", "B"]
    assert table["B"].tolist() == ["50.0 %", "75.0 %"]
    assert table["A"].isna().tolist() == [True, False]
    assert table_of_classes(pd.DataFrame([row_of(0.5, n=1, scheme="a", seed=0, metric="test error")])).empty
