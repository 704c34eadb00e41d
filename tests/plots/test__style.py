import ast
import io
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_hex
from PIL import Image

import lightning_robust.plots
from lightning_robust.plots import bar_chart, png, save_png, style
from lightning_robust.plots._style import COLORS, add_legend, looks, new_figure

ROWS = [{"metric": "error", "model": "a", "value": 0.5, "low": 0.4, "high": 0.7}]
SOURCES = sorted(Path(lightning_robust.plots.__file__).parent.glob("*.py"))
LAZY = ("matplotlib", "jinja2", "pandas", "scipy")


def imports(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names))


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_no_source_imports_pyplot_or_a_package_of_the_extra_at_module_level(source):
    tree = ast.parse(source.read_text(encoding="utf-8"))
    assert not any(name.startswith(("matplotlib.pyplot", "pylab", "PIL")) for name in imports(tree))
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            assert not any(name.startswith(LAZY) for name in imports(node))


def test_user_settings_neither_change_nor_leak_in():
    plain = png(bar_chart(ROWS))
    with mpl.rc_context(
        {"figure.facecolor": "black", "font.size": 30, "axes.facecolor": "yellow", "xtick.direction": "in"}
    ):
        before = dict(mpl.rcParams)
        assert png(bar_chart(ROWS)) == plain
        assert dict(mpl.rcParams) == before


def test_settings_are_put_back_after_an_error():
    before = dict(mpl.rcParams)
    with style():
        assert dict(mpl.rcParams) != before
    with pytest.raises(ValueError, match="heights"), style():
        raise ValueError("heights")
    assert dict(mpl.rcParams) == before


def test_the_color_cycle_is_that_of_the_looks():
    with style():
        assert tuple(to_hex(each["color"]) for each in mpl.rcParams["axes.prop_cycle"]) == COLORS


def test_looks_are_distinct_and_stable_and_too_many_are_refused():
    labels = [f"model {i}" for i in range(28)]
    look_of = looks(labels)
    assert list(look_of) == labels
    for shape in ("marker", "dash", "hatch"):
        assert len({(look.color, getattr(look, shape)) for look in look_of.values()}) == 28
    assert looks(labels[:2]) == {label: look_of[label] for label in labels[:2]}
    with pytest.raises(ValueError, match="at most 28 groups in a figure, but got 29"):
        looks(range(29))


def linear_rgb(color):
    rgb = np.array([int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB.
DEFICIENCIES = {
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritan": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}


def lab(linear):
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = to_xyz @ np.clip(linear, 0, 1) / np.array([0.9505, 1.0, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("deficiency", DEFICIENCIES)
def test_colors_are_told_apart_with_color_deficient_vision(deficiency):
    matrix = np.array(DEFICIENCIES[deficiency])
    seen = [lab(matrix @ linear_rgb(color)) for color in COLORS]
    white = lab(np.ones(3))
    distances = [np.linalg.norm(a - b) for i, a in enumerate(seen) for b in [*seen[:i], white]]
    assert min(distances) > 10  # a difference of 2.3 is just noticeable


def test_one_legend_for_all_panels():
    with style():
        figure = new_figure(6, 3)
        left, right = figure.subplots(1, 2)
        left.plot([0], [0], label="a")
        right.plot([0], [0], label="a")
        right.plot([0], [0], label="b")
        add_legend(figure)
        assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]
        empty = new_figure(6, 3)
        empty.add_subplot()
        add_legend(empty)
        assert not empty.legends


@pytest.mark.parametrize(
    ("letters", "columns", "wide"),
    [
        ((9, 30, 20, 30), 2, False),
        ((60, 60), 1, False),
        ((4,) * 7, 6, False),
        ((70, 3, 3, 3), 1, False),
        ((20,) * 6, 3, False),
        ((20,) * 6, 2, True),
        ((77,) * 2, 1, True),
    ],
)
def test_a_legend_has_as_many_columns_as_fit_into_the_figure(letters, columns, wide):
    text = "of the learners and of all bounds, of the mean and of large samples and so on"
    text = text.upper() if wide else text
    with style():
        figure = new_figure(6.4, 4)
        axes = figure.add_subplot()
        for i, length in enumerate(letters):
            axes.plot([0], [0], label=f"{i} {text}"[:length])
        add_legend(figure)
    for dpi in (60, 80, 100, 160):
        figure.set_dpi(dpi)
        figure.draw_without_rendering()
        extent = figure.legends[0].get_window_extent()
        assert 0 <= extent.x0 < extent.x1 <= figure.bbox.width
    assert figure.legends[0]._ncols == columns


def test_png_has_the_size_asked_for_and_is_reproducible(tmp_path):
    figure = bar_chart(ROWS)
    width, height = figure.get_size_inches()
    image = Image.open(io.BytesIO(png(figure, dpi=50)))
    assert image.format == "PNG"
    assert abs(image.width - 50 * width) <= 1
    assert abs(image.height - 50 * height) <= 1
    assert png(figure) == png(bar_chart(ROWS))
    assert save_png(figure, tmp_path / "a.png", dpi=50).read_bytes() == png(figure, dpi=50)
