import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from lightning_robust._versions import versions
from lightning_robust.plots import (
    PLAIN,
    Claim,
    Claims,
    Estimate,
    Facts,
    Heading,
    Page,
    Picture,
    Table,
    bar_chart,
    page as pages,
)

ERROR = Estimate(0.136, 0.123, 0.15, 2500)
FIGURE = bar_chart([ERROR.row(metric="error", model="on-manifold")])
EVIL = "<script>alert(\"1\") & 'more'</script>"
VOID = {"meta", "img", "br", "link", "input"}


class Read(HTMLParser):
    """Follows opening and closing tags; collects the elements (tag, attributes, text) in order of their ends."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.attributes, self.elements = [], [], [], []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append([tag, dict(attrs), ""])

    def handle_endtag(self, tag):
        element = self.open.pop()
        assert element[0] == tag
        self.elements.append(tuple(element))

    def handle_data(self, data):
        if self.open:
            self.open[-1][2] += data

    def all(self, *tags):
        return [(t, a, text.replace("\N{NO-BREAK SPACE}", " ")) for t, a, text in self.elements if t in tags]

    def texts(self, *tags):
        return [text for _, _, text in self.all(*tags)]


def read(*parts):
    return Read(Page("Title", "Summary", parts).html())


@pytest.fixture(scope="module")
def page():
    return Page(
        "Title <script>alert(1)</script>",
        "Error is 13.6 % & falls.",
        [
            Heading("Results"),
            "A plain <b>string</b>",
            Claims([Claim("It falls.", "holds", "13.6 %", "Below 20 %.")]),
            Table([{"model": "on-manifold", "error": ERROR}]),
            Picture(FIGURE, caption="Caption", alt="One bar"),
            Facts({"seed": 0}),
            Facts(versions(), caption="Versions"),
        ],
    )


# ---- the page


def test_the_page_is_well_formed_and_says_what_it_was_given(page):
    html = Read(page.html())
    assert html.texts("title", "h1") == ["Title <script>alert(1)</script>"] * 2
    assert html.texts("p") == ["Error is 13.6 % & falls.", "A plain <b>string</b>"]
    assert html.texts("h2", "td", "figcaption") == [
        "Results", "holds", "13.6 %", "Below 20 %.", "13.6 % [12.3, 15.0]", "Caption",
    ]  # fmt: skip
    assert html.texts("h3") == ["Settings", "Versions"]
    assert ("lang", "en") in html.attributes
    order = [html.tags.index(tag) for tag in ("h1", "h2", "table", "figure", "section")]
    assert order == sorted(order)


def test_the_page_stands_alone(page):
    html = page.html()
    shown = Read(html)
    assert not {"script", "link", "iframe", "object", "b"} & set(shown.tags)
    for outside in ("http://", "https://", "@import", "url(", "file:", 'src="//'):
        assert outside not in html
    sources = [value for name, value in shown.attributes if name in ("src", "href", "srcset", "data")]
    assert len(sources) == 1
    assert sources[0].startswith("data:image/png;base64,")
    policy = next(value for name, value in shown.attributes if name == "content" and "default-src" in value)
    assert "default-src 'none'" in policy
    assert "script-src" not in policy


def test_the_page_prints_and_fits_small_screens_and_dark_ones(page):
    html = page.html()
    assert "@media print" in html
    assert "prefers-color-scheme: dark" in html
    assert ("name", "viewport") in Read(html).attributes
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL).group(1)
    assert style.count("{") == style.count("}")


def test_numbers_and_intervals_are_not_broken_over_lines(page):
    html = page.html()
    assert "13.6\N{NO-BREAK SPACE}% [12.3,\N{NO-BREAK SPACE}15.0]" in html
    assert "Error is 13.6\N{NO-BREAK SPACE}% &amp; falls." in html


def test_the_file_is_whole_and_reproducible(page, tmp_path):
    path = page.write(tmp_path / "runs" / "report.html")
    assert path.read_text(encoding="utf-8") == page.html()
    first = path.read_bytes()
    assert page.write(path).read_bytes() == first
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


def test_every_text_is_escaped():
    parts = [
        Heading(EVIL), EVIL, Table([{EVIL: EVIL}, {EVIL: EVIL}], caption=EVIL),
        Facts({EVIL: {EVIL: EVIL}}, caption=EVIL), Picture(FIGURE, caption=EVIL, alt=EVIL),
    ]  # fmt: skip
    html = Page(EVIL, EVIL, parts).html()
    shown = Read(html)
    assert "<script" not in html
    assert ("alt", EVIL) in shown.attributes
    texts = ("title", "h1", "p", "h2", "span", "th", "h3", "figcaption")
    assert {text for _, _, text in shown.all(*texts)} == {EVIL}
    assert shown.texts("dt", "dd") == [f"{EVIL}.{EVIL}", EVIL]


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="`title` to be a headline, but got ''"):
        Page("", "Summary", [])
    with pytest.raises(TypeError, match="`parts` to be a list of strings, Heading, Table, Claims, Picture and Facts"):
        Page("Title", "Summary", "text")
    with pytest.raises(TypeError, match=r"`parts\[0\]` to be one of .*, but got 3"):
        Page("Title", "Summary", [3])


# ---- its parts


def test_a_table_writes_each_kind_of_value():
    row = {
        "model": "normal", "error": ERROR, "parameters": 100262, "seconds": np.float32(61.2345), "note": None,
        "nan": float("nan"), "best": np.bool_(True),
    }  # fmt: skip
    assert read(Table([row])).texts("th", "td") == [
        *row, "normal", "13.6 % [12.3, 15.0]", "100,262", "61.23", "–", "–", "yes",
    ]  # fmt: skip


def test_numbers_stand_at_the_right_with_their_heading():
    rows = [{"model": "a", "error": ERROR, "n": 3}, {"model": "b", "error": None, "n": 4}]
    cells = read(Table(rows)).all("th", "td")
    right = [text for _, attributes, text in cells if attributes.get("class") == "num"]
    assert right == ["error", "n", "13.6 % [12.3, 15.0]", "3", "–", "4"]
    assert [text for _, attributes, text in cells if attributes.get("scope") == "row"] == ["a", "b"]


def test_columns_caption_unit_and_digits_of_a_table():
    rows = [{"a": 1.23456, "b": Estimate(0.5, 0.25, 1.0, 3), "c": "x"}]
    shown = read(Table(rows, columns=["c", "b", "a"], caption="A < B", unit=PLAIN, digits=2))
    assert shown.texts("th", "td") == ["c", "b", "a", "x", "0.500 [0.250, 1.000]", "1.2"]
    assert shown.texts("span") == ["A < B"]
    with pytest.raises(ValueError, match=r"lacks \['d'\]"):
        Table(rows, columns=["d"])
    with pytest.raises(ValueError, match=r"row 1 lacks \['b', 'c'\]"):
        Table([*rows, {"a": 1}])


def test_a_claim_has_its_verdict_its_numbers_and_its_criterion():
    verdicts = ["holds", "does not hold here", "not decided"]
    claims = Claims([Claim(EVIL, verdict, f"1 {EVIL}", f"2 {EVIL}") for verdict in verdicts])
    cells = read(claims).all("td")
    assert [text for _, _, text in cells] == [t for v in verdicts for t in (v, f"1 {EVIL}", f"2 {EVIL}")]
    assert [a["class"] for _, a, _ in cells if "class" in a] == ["verdict yes", "verdict no", "verdict open"]
    assert read(claims).texts("th") == ["claim", "verdict", "numbers", "criterion", *[EVIL] * 3]
    with pytest.raises(ValueError, match="`claims` to hold at least one Claim"):
        Claims([])
    with pytest.raises(TypeError, match=r"`claims\[0\]` to be a Claim"):
        Claims(["It falls."])
    with pytest.raises(TypeError, match="`verdict`"):
        Claim("It falls.", "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "A 1.5. Criterion: at most 2.5 points, at d. Not in it. B.",
            ("A 1.5.", "At most 2.5 points, at d.", "Not in it. B."),
        ),
        ("A. Criterion: more than none.", ("A.", "More than none.", "")),
        ("A. Criterion: r at least 0.9.", ("A.", "r at least 0.9.", "")),
        ("None was measured.", ("None was measured.", "", "")),
    ],
)
def test_a_claim_is_read_from_a_text(text, expected):
    claim, more = Claim.from_text("C", "holds", text)
    assert (claim.numbers, claim.criterion, more) == expected


def test_a_figure_can_be_enlarged_without_scripts():
    shown = read(Picture(FIGURE, caption="Caption", alt="Half of all"))
    assert shown.tags.index("label") < shown.tags.index("input") < shown.tags.index("img")
    assert ("type", "checkbox") in shown.attributes
    assert ".zoom input:checked + img" in Page("Title", "", []).html()


def test_a_data_frame_is_a_table():
    frame = pd.DataFrame({"model": ["a", "b"], "count": [1000, 2], "loss": [0.5, np.nan]})
    assert read(Table(frame)).texts("th", "td") == ["model", "count", "loss", "a", "1,000", "0.5", "b", "2", "–"]


def test_a_picture_is_drawn_once_for_the_page_and_the_file(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(pages, "png", lambda figure: drawn.append(figure) or b"png")
    picture = Picture(FIGURE, caption="Caption", alt="Half of all")
    file = picture.save(tmp_path / "figure.png")
    assert picture.source == f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}"
    assert drawn == [FIGURE]


def test_a_picture_embeds_the_figure_as_png():
    shown = dict(read(Picture(FIGURE, caption="Caption", alt="Half of all")).attributes)
    data = shown["src"].removeprefix("data:image/png;base64,")
    image = Image.open(io.BytesIO(base64.b64decode(data, validate=True)))
    image.load()
    assert image.format == "PNG"
    assert len(np.unique(np.asarray(image.convert("L")))) > 10
    width = int(re.fullmatch(r"--width: (\d+)px", shown["style"]).group(1))
    assert width == round(96 * FIGURE.get_figwidth())
    assert image.width > 1.5 * width  # sharp on screens with small pixels
    assert shown["alt"] == "Half of all"
    with pytest.raises(ValueError, match="`alt` to say in words"):
        Picture(FIGURE, caption="Caption", alt=" ")


def test_facts_flatten_mappings():
    shown = read(Facts({"a": 1, "b": {"c": {"d": None}, "e": (1, 2)}}))
    assert shown.texts("dt", "dd") == ["a", "1", "b.c.d", "None", "b.e", "(1, 2)"]


def test_long_facts_are_folded_and_long_values_have_a_line_of_their_own():
    brief, wide, many = {"a": "x"}, {"a": "x" * 81}, {f"attack {i}": "x" * 400 for i in range(4)}
    assert not {"details", "summary"} & set(read(Facts(brief), Facts(wide)).tags)
    assert read(Facts(many, caption="Attacks")).texts("summary") == ["Attacks"]
    assert [("class", "long") in read(Facts(facts)).attributes for facts in (brief, wide, many)] == [False, True, True]
