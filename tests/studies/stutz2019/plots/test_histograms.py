import numpy as np
import pytest
import torch

from lightning_robust.plots import PERCENT
from lightning_robust_studies.stutz2019.plots import histogram_panel
from lightning_robust_studies.stutz2019.plots.histograms import shares

GENERATOR = torch.Generator().manual_seed(4)
VALUES = {
    "off": 2.0 + torch.randn(301, generator=GENERATOR),
    "on": torch.rand(100, generator=GENERATOR),
}


def legend(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_heights_are_those_of_numpy_over_shared_bins():
    axes = histogram_panel(VALUES, bins=25).axes[0]
    everything = np.concatenate([v.double().numpy() for v in VALUES.values()])
    edges = np.linspace(everything.min(), everything.max(), 26)
    for patch, values in zip(axes.patches, VALUES.values(), strict=True):
        drawn = patch.get_data()
        np.testing.assert_allclose(drawn.edges, edges)
        counts, _ = np.histogram(values.double().numpy(), drawn.edges)
        np.testing.assert_allclose(drawn.values, counts / len(values))
        assert drawn.values.sum() == pytest.approx(1.0)


def test_medians_stand_as_lines_and_in_the_legend():
    figure = histogram_panel(VALUES, unit=PERCENT)
    axes = figure.axes[0]
    for line, patch, values, text in zip(axes.lines, axes.patches, VALUES.values(), legend(figure), strict=True):
        median = float(np.median(values.double().numpy()))
        np.testing.assert_allclose(line.get_xdata(), [median, median])
        assert line.get_color() == matplotlib_hex(patch.get_edgecolor())
        assert f"(median {PERCENT.text(median)})" in text
    assert [text.split()[0] for text in legend(figure)] == ["off", "on"]


def matplotlib_hex(rgba):
    from matplotlib.colors import to_hex

    return to_hex(rgba)


def test_a_value_on_an_inner_edge_belongs_to_the_bin_at_its_right_and_the_last_edge_to_the_last_bin():
    edges = torch.tensor([0.0, 1.0, 2.0, 4.0], dtype=torch.float64)
    assert shares(torch.tensor([0.0, 1.0, 2.0, 4.0], dtype=torch.float64), edges).tolist() == [0.25, 0.25, 0.5]
    assert shares(torch.tensor([3.0, 3.0], dtype=torch.float64), edges).tolist() == [0.0, 0.0, 1.0]
    assert shares(torch.tensor([0.5]), edges[:2]).tolist() == [1.0]


@pytest.mark.parametrize("constant", [0.0, 1e-20, 0.25, -3e8])
def test_values_that_are_all_alike_fall_into_one_bin(constant):
    drawn = histogram_panel({"on": [constant] * 5}, bins=11).axes[0].patches[0].get_data()
    assert sorted(drawn.values) == [0.0] * 10 + [1.0]
    assert drawn.edges[0] < constant < drawn.edges[-1]


def test_labels_and_units():
    figure = histogram_panel({"on": [0.1, 0.2]}, unit=PERCENT, xlabel="distance", title="Title")
    axes = figure.axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("distance", "share of samples")
    assert axes.get_title(loc="left") == "Title"
    assert axes.xaxis.get_major_formatter()(0.125, 0) == "12.5 %"


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ({}, {}, "`values` to hold at least one group"),
        ({"on": []}, {}, r"`values\['on'\]` to have shape \(N,\)"),
        ({"on": [1.0], "off": [float("nan")]}, {}, r"`values\['off'\]` to be finite, but got nan"),
        ({"on": [1.0]}, {"bins": [0.0, 2.0, 2.0]}, r"`bins` to be at least two increasing edges, but got \[0\.0, 2\.0"),
        ({"on": [1.0]}, {"bins": [0.0]}, "at least two increasing edges"),
        ({"on": [1.0, 5.0]}, {"bins": [0.0, 2.0]}, "enclose all values, from 1 to 5, but got edges from 0 to 2"),
        ({"on": [-1.0]}, {"bins": [0.0, 2.0]}, "enclose all values, from -1 to -1"),
    ],
)
def test_bad_arguments_are_refused(values, options, message):
    with pytest.raises(ValueError, match=message):
        histogram_panel(values, **options)
