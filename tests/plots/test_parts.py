import base64
import io
import re
from html import unescape

import numpy as np
import pytest
from PIL import Image

from lightning_robust.plots import PLAIN, Estimate, bar_chart, heading, paragraph, picture, settings, table

EVIL = "<script>alert(\"1\") & 'more'</script>"


def cells_of(markup):
    found = re.findall(r"<(td|th)\b([^>]*)>(.*?)</\1>", markup)
    return [(tag, attributes, unescape(text).replace("\N{NO-BREAK SPACE}", " ")) for tag, attributes, text in found]


def test_table_writes_each_kind_of_value():
    row = {
        "model": "normal",
        "error": Estimate(0.136, 0.123, 0.15, 2500),
        "parameters": 100262,
        "seconds": np.float32(61.2345),
        "note": None,
        "nan": float("nan"),
        "best": True,
    }
    cells = cells_of(table([row]).markup)
    assert [text for _, _, text in cells[:7]] == list(row)
    assert [text for _, _, text in cells[7:]] == [
        "normal", "13.6 % [12.3, 15.0]", "100,262", "61.23", "–", "–", "yes",
    ]  # fmt: skip


def test_numbers_stand_at_the_right_with_their_heading():
    rows = [{"model": "a", "error": Estimate(0.5, 0.4, 0.6, 9), "n": 3}, {"model": "b", "error": None, "n": 4}]
    cells = cells_of(table(rows).markup)
    right = [text for _, attributes, text in cells if 'class="num"' in attributes]
    assert right == ["error", "n", "50.0 % [40.0, 60.0]", "3", "–", "4"]
    assert [text for tag, attributes, text in cells if 'scope="row"' in attributes] == ["a", "b"]


def test_columns_caption_unit_and_digits():
    rows = [{"a": 1.23456, "b": Estimate(0.5, 0.25, 1.0, 3), "c": "x"}]
    markup = table(rows, columns=["c", "b", "a"], caption="A < B", unit=PLAIN, digits=2).markup
    assert [text for _, _, text in cells_of(markup)] == ["c", "b", "a", "x", "0.500 [0.250, 1.000]", "1.2"]
    assert "<caption>A &lt; B</caption>" in markup
    with pytest.raises(ValueError, match=r"lacks \['d'\]"):
        table(rows, columns=["d"])
    with pytest.raises(ValueError, match="at least one row"):
        table([])
    with pytest.raises(ValueError, match=r"row 1 lacks \['b', 'c'\]"):
        table([*rows, {"a": 1}])


def test_every_text_is_escaped():
    figure = bar_chart([Estimate(0.5, 0.4, 0.6, 9).row(metric="m", model="a")])
    parts = [
        heading(EVIL),
        paragraph(EVIL),
        table([{EVIL: EVIL}], caption=EVIL),
        settings({EVIL: {EVIL: EVIL}}, caption=EVIL),
        picture(figure, caption=EVIL, alt=EVIL),
    ]
    for part in parts:
        assert "<script" not in part.markup
        assert "&lt;script&gt;alert(&quot;1&quot;) &amp; &#x27;more&#x27;&lt;/script&gt;" in part.markup


def test_picture_embeds_the_figure_as_png():
    figure = bar_chart([Estimate(0.5, 0.4, 0.6, 9).row(metric="m", model="a")])
    markup = picture(figure, caption="Caption", alt="Half of all").markup
    data = re.search(r'src="data:image/png;base64,([^"]+)"', markup).group(1)
    image = Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
    image.load()
    assert image.format == "PNG"
    assert len(np.unique(np.asarray(image.convert("L")))) > 10
    width = int(re.search(r'width="(\d+)"', markup).group(1))
    assert width == round(96 * figure.get_figwidth())
    assert image.width > 1.5 * width  # sharp on screens with small pixels
    assert 'alt="Half of all"' in markup
    assert "<figcaption>Caption</figcaption>" in markup
    with pytest.raises(ValueError, match="`alt` to say in words"):
        picture(figure, caption="Caption", alt=" ")


def test_settings_flatten_mappings():
    pairs = re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", settings({"a": 1, "b": {"c": {"d": None}, "e": (1, 2)}}).markup)
    assert pairs == [("a", "1"), ("b.c.d", "None"), ("b.e", "(1, 2)")]
