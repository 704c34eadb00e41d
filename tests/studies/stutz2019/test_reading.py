import pandas as pd
import torch

from lightning_robust_studies.stutz2019.reading import leak_figures, leaking, tables_along, warnings
from lightning_robust_studies.stutz2019.tables import LEAK_COLUMNS, frame
from tests.studies.stutz2019.results import leaks_of, row_of

LEAKS = leaks_of({"class": 1.0, "residual-class": 0.0})


def test_a_manifold_leaks_where_it_does_for_any_model():
    both = pd.concat([LEAKS, leaks_of({"class": 0.0}, scheme="normal")])
    assert leaking(both) == {"on-learned-class": True, "on-residual-class": False}
    assert leaking(frame([], LEAK_COLUMNS)) == {}


def test_the_warning_is_of_the_model_that_reads_the_images_best():
    worse = leaks_of({"class": 1.0}, scheme="normal")
    worse.loc[worse["metric"] == "error on reconstructions", "value"] = 0.05
    (text,) = warnings(pd.concat([worse, LEAKS]))
    assert text == (
        "on-learned-class leaks the label for 2 of 2 models. on-learned-class training on 2500 images, the clearest: "
        "What is seen along class."
    )


def test_the_error_on_reconstructions_stands_beside_every_success():
    cell = {"n": 2500, "scheme": "on-learned-class", "seed": 0}
    names = ("on-learned-class success", "on-flow success", "on-manifold success", "on-flow error on reconstructions")
    models = pd.DataFrame([row_of(0.5, **cell, metric=name) for name in names])
    models = pd.concat(
        [models, pd.DataFrame([row_of(115.0, **cell, metric="on-flow success, L1 distance")])], ignore_index=True
    )
    tables = tables_along(models, LEAKS)
    first, *more = tables.values()
    lines = {line["along"]: line for line in first.to_dict("records")}
    assert list(lines) == ["on-learned-class", "on-flow", "on-manifold", "on-residual-class"]
    assert lines["on-learned-class"]["success"].value == 0.5
    assert lines["on-learned-class"]["error on reconstructions"].value == 0.02
    assert (lines["on-learned-class"]["leak"], lines["on-residual-class"]["leak"]) == ("yes", "no")
    assert lines["on-flow"]["error on reconstructions"].value == 0.5
    assert [len(table) for table in more] == [2, 2]  # what was not measured along a manifold has no line
    assert max(len(table.columns) for table in tables.values()) <= 8
    assert sum(len(table.columns) - 3 for table in tables.values()) == 6
    assert tables_along(models[:0], LEAKS[:0]) == {}


def test_what_is_read_of_each_decoder_is_in_per_cent_of_it():
    figures = leak_figures(LEAKS, {"class on-learned-class": torch.tensor([[1, 3], [0, 8]])}, ("a", "b"))
    assert set(figures) == {"leak_class", "leak_residual-class", "decoders_class"}
    texts = [text.get_text() for text in figures["decoders_class"][0].axes[0].texts]
    assert texts == ["25.0", "75.0", "0.0", "100.0"]
    heights = [float(bar.get_height()) for bar in figures["leak_class"][0].axes[0].patches]
    assert heights == [0.3, 0.02, 0.6]
