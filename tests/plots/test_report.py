import re
from html.parser import HTMLParser

import pytest

from lightning_robust.plots import Estimate, Report, bar_chart, heading, picture, settings, table, versions

VOID = {"meta", "img", "br", "link"}


class Page(HTMLParser):
    """Follows opening and closing tags; collects the page's text, tags and attributes."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], {}
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open:
            self.text[self.open[-1]] = self.text.get(self.open[-1], "") + data


@pytest.fixture(scope="module")
def report():
    error = Estimate(0.136, 0.123, 0.15, 2500)
    return Report(
        "Title <script>alert(1)</script>",
        "Error is 13.6 % & falls.",
        [
            heading("Results"),
            "A plain <b>string</b>",
            table([{"model": "on-manifold", "error": error}]),
            picture(bar_chart([error.row(metric="error", model="on-manifold")]), caption="Caption", alt="One bar"),
            settings({"seed": 0}),
            settings(versions(), caption="Versions"),
        ],
    )


def test_page_is_well_formed_and_says_what_it_was_given(report):
    page = Page(report.html())
    assert page.open == []
    assert page.text["title"] == page.text["h1"] == "Title <script>alert(1)</script>"
    assert "Error is 13.6\N{NO-BREAK SPACE}% & falls.A plain <b>string</b>" in page.text["p"]
    assert page.text["h2"] == "Results"
    assert page.text["td"].replace("\N{NO-BREAK SPACE}", " ") == "13.6 % [12.3, 15.0]"
    assert page.text["figcaption"] == "Caption"
    assert ("alt", "One bar") in page.attributes
    assert ("lang", "en") in page.attributes
    order = [page.tags.index(tag) for tag in ("h1", "h2", "table", "figure", "section")]
    assert order == sorted(order)


def test_page_stands_alone(report):
    html = report.html()
    page = Page(html)
    assert not {"script", "link", "iframe", "object", "b"} & set(page.tags)
    for outside in ("http://", "https://", "@import", "url(", "file:", 'src="//'):
        assert outside not in html
    sources = [value for name, value in page.attributes if name in ("src", "href", "srcset", "data")]
    assert len(sources) == 1
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    policy = next(value for name, value in page.attributes if name == "content" and "default-src" in value)
    assert "default-src 'none'" in policy
    assert "script-src" not in policy


def test_page_prints_and_fits_small_screens(report):
    html = report.html()
    assert "@media print" in html
    assert ("name", "viewport") in Page(html).attributes
    style = re.search(r"<style>(.*?)</style>", html, re.DOTALL).group(1)
    assert style.count("{") == style.count("}")


def test_write_is_whole_and_reproducible(report, tmp_path):
    path = report.write(tmp_path / "runs" / "report.html")
    assert path.read_text(encoding="utf-8") == report.html()
    first = path.read_bytes()
    assert report.write(path).read_bytes() == first
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="`title` to be a headline, but got ''"):
        Report("", "Summary", [])
    with pytest.raises(TypeError, match="got str; put it in a list"):
        Report("Title", "Summary", "text")
    with pytest.raises(TypeError, match="but got int"):
        Report("Title", "Summary", [3])
