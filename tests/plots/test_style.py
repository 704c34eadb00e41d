import ast
import io
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

import lightning_robust.plots
from lightning_robust.plots import bar_chart, png, save_png
from lightning_robust.plots.style import (
    COLOURS,
    even_columns,
    legend_below,
    looks,
    new_figure,
    shorten,
    text_inches,
    themed,
    wrap_evenly,
)

ROWS = [{"metric": "error", "model": "a", "value": 0.5, "low": 0.4, "high": 0.7}]


def imports(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield node, [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            yield node, [node.module or ""] + [f"{node.module}.{alias.name}" for alias in node.names]


def test_no_source_imports_pyplot_or_matplotlib_at_module_level():
    sources = sorted(Path(lightning_robust.plots.__file__).parent.glob("*.py"))
    assert len(sources) > 5
    for source in sources:
        tree = ast.parse(source.read_text(encoding="utf-8"))
        for _, names in imports(tree):
            assert not any(name.startswith(("matplotlib.pyplot", "pylab", "PIL")) for name in names), source
        for node in tree.body:
            for _, names in imports(ast.Module([node], [])) if isinstance(node, (ast.Import, ast.ImportFrom)) else ():
                assert not any(name.startswith("matplotlib") for name in names), source


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
    with themed():
        assert dict(mpl.rcParams) != before
    with pytest.raises(ValueError, match="heights"), themed():
        raise ValueError("heights")
    assert dict(mpl.rcParams) == before


def test_looks_are_distinct_and_stable():
    labels = [f"model {i}" for i in range(20)]
    found = looks(labels)
    assert list(found) == labels
    assert len({(look.colour, look.dash) for look in found.values()}) == 20
    assert len({(look.colour, look.hatch) for look in found.values()}) == 20
    assert looks(labels[:2]) == {label: found[label] for label in labels[:2]}


def linear_rgb(colour):
    rgb = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
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
def test_colours_are_told_apart_with_colour_deficient_vision(deficiency):
    matrix = np.array(DEFICIENCIES[deficiency])
    seen = [lab(matrix @ linear_rgb(colour)) for colour in COLOURS]
    white = lab(np.ones(3))
    distances = [np.linalg.norm(a - b) for i, a in enumerate(seen) for b in [*seen[:i], white]]
    assert min(distances) > 10  # a difference of 2.3 is just noticeable


def test_even_columns():
    for n in range(1, 30):
        for most in range(1, 8):
            columns = even_columns(n, most)
            assert 1 <= columns <= most
            assert -(-n // columns) == -(-n // min(n, most))  # as few rows


def test_wrap_evenly_loses_no_word_and_adds_no_line():
    text = "on-manifold robust error of the model under PGD-40"
    for characters in range(12, 60):
        lines = wrap_evenly(text, characters).splitlines()
        assert " ".join(lines) == text
        assert max(map(len, lines)) <= characters
    assert wrap_evenly("one two three four", 15).splitlines() == ["one two", "three four"]
    assert wrap_evenly("", 10) == ""


def test_shorten_keeps_what_fits():
    text = "a class with a long name"
    for inches in (0.3, 0.8, 1.2):
        cut = shorten(text, inches, 8.0)
        assert cut.endswith("…")
        assert text.startswith(cut[:-1])
        assert text_inches(cut, 8.0) <= inches < text_inches(text[: len(cut) + 1] + "…", 8.0)
    assert shorten(text, text_inches(text, 8.0), 8.0) == text
    assert shorten("W", 0.01, 8.0) == "…"
    assert text_inches(text, 16.0) == pytest.approx(2 * text_inches(text, 8.0), rel=0.02)
    assert text_inches(" ", 8.0) == 0.0


def test_one_legend_for_all_panels():
    with themed():
        figure = new_figure(6, 3)
        left, right = figure.subplots(1, 2)
        left.plot([0], [0], label="a")
        right.plot([0], [0], label="a")
        right.plot([0], [0], label="b")
        legend_below(figure, [left, right])
        assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]
        empty = new_figure(6, 3)
        legend_below(empty, [empty.add_subplot()])
        assert not empty.legends


def test_png_has_the_size_asked_for_and_is_reproducible(tmp_path):
    figure = bar_chart(ROWS)
    width, height = figure.get_size_inches()
    image = Image.open(io.BytesIO(png(figure, dpi=50)))
    assert image.format == "PNG"
    assert abs(image.width - 50 * width) <= 1
    assert abs(image.height - 50 * height) <= 1
    assert png(figure) == png(bar_chart(ROWS))
    assert save_png(figure, tmp_path / "a.png", dpi=50).read_bytes() == png(figure, dpi=50)
