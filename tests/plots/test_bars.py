import numpy as np
import pytest
from matplotlib.container import BarContainer

from lightning_robust.plots import PLAIN, Estimate, bar_chart

MODELS = ("normal", "adversarial", "on-manifold")
METRICS = ("test error", "robust error", "success rate")


def estimates():
    rng = np.random.default_rng(0)
    return {
        (metric, model): Estimate(value, value - low, value + high, 1000)
        for metric in METRICS
        for model in MODELS
        for value, low, high in [rng.uniform([0.2, 0.01, 0.01], [0.8, 0.1, 0.2])]
    }


def rows_of(cells):
    return [estimate.row(metric=metric, model=model) for (metric, model), estimate in cells.items()]


def whiskers(axes):
    """x -> (low, high) for each vertical error bar drawn."""
    segments = [segment for lines in axes.collections for segment in lines.get_segments()]
    return {segment[0][0]: (segment[0][1], segment[1][1]) for segment in segments}


def bars(axes):
    return [container for container in axes.containers if isinstance(container, BarContainer)]


def test_heights_whiskers_and_written_values_are_the_input():
    cells = estimates()
    axes = bar_chart(rows_of(cells)).axes[0]
    ends = whiskers(axes)
    ticks = dict(zip([t.get_text().replace("\n", " ") for t in axes.get_xticklabels()], axes.get_xticks(), strict=True))
    assert list(ticks) == list(METRICS)
    legend = {container.get_label(): container for container in bars(axes)}
    assert list(legend) == list(MODELS)
    written = {text.xy[0]: text for text in axes.texts}
    assert len(written) == len(cells)
    for model, container in legend.items():
        for metric, patch in zip(METRICS, container.patches, strict=True):
            estimate = cells[metric, model]
            middle = patch.get_x() + patch.get_width() / 2
            assert abs(middle - ticks[metric]) <= 1.0 + 1e-9  # three bars around their tick
            assert patch.get_height() == pytest.approx(estimate.value)
            x = min(ends, key=lambda x, middle=middle: abs(x - middle))
            assert x == pytest.approx(middle)
            assert ends[x] == pytest.approx((estimate.low, estimate.high))
            text = written[min(written, key=lambda x, middle=middle: abs(x - middle))]
            assert text.get_text() == f"{100 * estimate.value:.1f}"
            assert text.xy[1] == pytest.approx(estimate.high)


def test_one_color_for_each_model_in_all_groups():
    containers = bars(bar_chart(rows_of(estimates())).axes[0])
    colors = [{patch.get_facecolor() for patch in container.patches} for container in containers]
    assert all(len(color) == 1 for color in colors)
    assert len(set.union(*colors)) == len(MODELS)


def test_axis_is_in_percent_or_the_unit_given():
    rows = rows_of(estimates())
    assert bar_chart(rows).axes[0].yaxis.get_major_formatter()(0.2, 0) == "20 %"
    plain = bar_chart(rows, unit=PLAIN).axes[0]
    assert plain.yaxis.get_major_formatter()(0.2, 0) == "0.2"
    assert plain.texts[0].get_text() == f"{rows[0]['value']:.3f}"


def test_columns_may_have_other_names_and_roles():
    rows = [{"m": "a", "k": "x", "v": 0.5, "l": 0.25, "h": 0.75}, {"m": "b", "k": "x", "v": 0.1, "l": 0.0, "h": 0.2}]
    axes = bar_chart(rows, group="m", bar="k", value="v", low="l", high="h", title="T", ylabel="Y", note="N").axes[0]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["a", "b"]
    assert [p.get_height() for p in axes.patches] == [0.5, 0.1]
    assert (axes.get_title(loc="left"), axes.get_ylabel(), axes.get_xlabel()) == ("T", "Y", "N")


def test_a_missing_combination_leaves_a_gap():
    cells = estimates()
    full = {round(p.get_x(), 6) for p in bar_chart(rows_of(cells)).axes[0].patches}
    del cells["robust error", "adversarial"]
    left = {round(p.get_x(), 6) for p in bar_chart(rows_of(cells)).axes[0].patches}
    assert left < full
    assert len(full - left) == 1


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_zero_and_one_have_one_sided_whiskers(value):
    estimate = Estimate(value, max(0.0, value - 0.04), min(1.0, value + 0.04), 100)
    axes = bar_chart([estimate.row(metric="m", model="a")]).axes[0]
    assert next(iter(whiskers(axes).values())) == pytest.approx((estimate.low, estimate.high))
    assert axes.get_ylim()[0] == 0.0
    assert axes.get_ylim()[1] > estimate.high


def overlaps(figure):
    """Pairs of texts on the figure whose boxes overlap, and texts that leave the figure."""
    figure.draw_without_rendering()
    renderer = figure._get_renderer()
    axes = figure.axes[0]
    ticks = [label for label in axes.get_yticklabels() if label.get_position()[1] <= axes.get_ylim()[1]]
    texts = [*axes.texts, *axes.get_xticklabels(), *ticks, axes.xaxis.label, axes.yaxis.label, axes.title]
    texts += figure.legends[0].get_texts()
    boxes = [(t.get_text(), t.get_window_extent(renderer)) for t in texts if t.get_text()]
    pairs = [(a, b) for i, (a, box) in enumerate(boxes) for b, other in boxes[:i] if box.overlaps(other)]
    width, height = figure.bbox.size
    return pairs + [(a, "edge") for a, b in boxes if b.x0 < 0 or b.y0 < 0 or b.x1 > width or b.y1 > height]


@pytest.mark.parametrize(("groups", "bars"), [(1, 1), (4, 4), (3, 10), (6, 2)])
def test_no_text_overlaps_another_or_is_cut(groups, bars):
    rows = [
        Estimate(0.9, 0.85, 1.0, 50).row(
            metric=f"on-manifold robust error {g}", model=f"adversarial transformations {b}"
        )
        for g in range(groups)
        for b in range(bars)
    ]
    assert overlaps(bar_chart(rows, title="A title", ylabel="error")) == []


def test_bad_rows_are_refused():
    row = Estimate(0.5, 0.4, 0.6, 10).row(metric="m", model="a")
    with pytest.raises(ValueError, match="at least one row"):
        bar_chart([])
    with pytest.raises(ValueError, match="two for \\('m', 'a'\\)"):
        bar_chart([row, row])
    with pytest.raises(ValueError, match=r"row 0 lacks \['value'\]"):
        bar_chart([{k: v for k, v in row.items() if k != "value"}])
    for bad in ({"value": float("nan")}, {"low": 0.55}, {"high": 0.45}, {"value": -0.1, "low": -0.2}):
        with pytest.raises(ValueError, match="Expected argument `rows` to have finite numbers"):
            bar_chart([{**row, **bad}])
