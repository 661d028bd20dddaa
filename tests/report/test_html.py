from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import PIL.Image
import pytest
import torch

from innverse.errors import InnverseError
from innverse.report import Report, Table, curves

EVIL = '<script>alert("x")</script> & <b>'


class Parsed(HTMLParser):
    """Collects tags and text; checks that what is opened is closed."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.open, self.words, self.sources = [], [], [], []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag == "img":
            self.sources.append(dict(attrs)["src"])
        if tag not in ("img", "meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def full_report():
    t = Table([EVIL, "PSNR"], [[EVIL, 20.0], ["b", 30.0]], title=EVIL, best={"PSNR": "max"})
    image = torch.rand(3, 8, 9, generator=torch.Generator().manual_seed(0))
    page = Report(EVIL, EVIL).heading(EVIL).heading(EVIL, 3).text(EVIL + "\n\n" + EVIL)
    page.note(EVIL).code(EVIL).table(t)
    page.image(image, EVIL, EVIL).images([(EVIL, EVIL, image), ("", "", image[:1])], pixels=True)
    return page, image


def test_text_is_escaped_and_nothing_else_is_loaded():
    page, _ = full_report()
    html = page.html()
    parsed = Parsed(html)
    assert "script" not in parsed.tags and "link" not in parsed.tags
    assert sum(EVIL in words for words in parsed.words) == 16
    assert all(source.startswith("data:image/") for source in parsed.sources)
    assert "http" not in re.sub(r'src="data:[^"]*"', "", html)
    assert "<b>30.00</b>" in html and "<b>20.00</b>" not in html


def test_images_survive_exactly():
    page, image = full_report()
    for source, expected in zip(
        Parsed(page.html()).sources, [image, image, image[:1]], strict=True
    ):
        data = base64.b64decode(source.split(",")[1])
        seen = np.atleast_3d(np.asarray(PIL.Image.open(io.BytesIO(data))))
        np.testing.assert_array_equal(
            seen, (expected.double() * 255).round().movedim(0, -1).numpy()
        )


def test_phone_dark_mode_and_saving(tmp_path):
    page, _ = full_report()
    path = page.save(tmp_path / "new" / "report.html")
    text = path.read_text(encoding="utf-8")
    assert text == page.html() and text.startswith("<!DOCTYPE html>")
    assert "width=device-width" in text and "prefers-color-scheme: dark" in text
    with pytest.raises(InnverseError, match="cannot write"):
        page.save(tmp_path)


def test_matplotlib_figure_is_embedded():
    pytest.importorskip("matplotlib")
    figure = curves({"a<": ([1, 2], [3, 4]), "b": ([1, 2], [4, 3])}, "x", "y", log=True)
    assert len(figure.axes[0].lines) == 2 and figure.axes[0].get_yscale() == "log"
    alone = curves({"b": ([1, 2], [4, 3])}, among=["a<", "b"])
    assert alone.axes[0].lines[0].get_color() == figure.axes[0].lines[1].get_color()
    (source,) = Parsed(Report("t").figure(figure, "Trace").html()).sources
    assert b"<svg" in base64.b64decode(source.removeprefix("data:image/svg+xml;base64,"))


def test_matplotlib_missing_names_the_extra(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(InnverseError, match=r"innverse\[demo\]"):
        curves({})


@pytest.mark.parametrize(
    ("xs", "ticks"),
    [([0.2, 0.041, 0.41], ["0.041", "0.2", "0.41"]), (range(10, 200, 10), ["10", "100"])],
)
def test_a_logarithmic_axis_names_the_few_places_that_were_measured(xs, ticks):
    pytest.importorskip("matplotlib")
    figure = curves({"a": (xs, xs)}, log_x=True)
    figure.canvas.draw()
    low, high = figure.axes[0].get_xlim()
    labels = figure.axes[0].get_xticklabels(which="both")
    shown = [t.get_text() for t in labels if low <= t.get_position()[0] <= high]
    assert [text for text in shown if text] == ticks


def test_contents_link_to_all_headings_with_their_summaries():
    page = Report("t").heading("before").contents()
    page.heading(EVIL, summary="in " + EVIL).heading("small", 3).heading("last")
    html = page.html()
    Parsed(html)
    links = re.findall(r'<li><a href="#(\w+)">', html)
    assert links == re.findall(r'<h2 id="(\w+)">', html) and len(links) == 3
    nav = html[html.index("<nav>") : html.index("</nav>")]
    assert nav.count("<li>") == 3 and "small" not in nav and "in &lt;script" in nav


def layout(html: str) -> list[tuple[int, int, int]]:
    """(images, columns, columns on a narrow screen) of every row."""
    found = re.findall(
        r'<div class="row[^>]*--columns: (\d+); --narrow: (\d+)[^>]*>(.*?)</div>', html, re.S
    )
    return [(row.count("<figure"), int(wide), int(narrow)) for wide, narrow, row in found]


@pytest.mark.parametrize("n", range(2, 10))
def test_no_image_of_a_row_stands_alone(n):
    images = [(f"{k}", "", torch.rand(1, 8, 8)) for k in range(n)]
    ((shown, wide, narrow),) = layout(Report("t").images(images).html())
    assert shown == n and wide <= 4 and narrow <= 2
    assert (n <= 4) == (wide == n), "up to four stand beside each other"
    for columns in (wide, narrow):
        assert columns == 1 or n % columns != 1


def test_a_short_row_fills_the_last_columns_of_a_longer_one():
    images = [(f"{k}", "", torch.rand(1, 8, 8)) for k in range(2)]
    html = Report("t").images(images, columns=4).html()
    assert layout(html) == [(2, 4, 2)] and 'class="row last"' in html and "--first: 3" in html


def test_every_table_scrolls_and_columns_of_written_numbers_are_aligned_as_numbers():
    t = Table(["INN dB", "gain dB", "ended"], [[30.4, "+2.33", "max"], [42.6, "-0.5", "3 %"]])
    html = Report("t").table(t).html()
    assert html.count("<table>") == html.count('<div class="scroll"><table>') == 1
    assert [t.is_numeric(c) for c in range(3)] == [True, True, False]
    assert '<th class="number">gain dB</th>' in html and '<td class="number">+2.33</td>' in html
    # space on both sides of every cell: a number cannot touch its neighbour
    (padding,) = re.findall(r"th, td \{ padding: [.\d]+rem ([.\d]+)rem;", html)
    assert float(padding) > 0 and not re.search(r"\.number \{[^}]*padding", html)


def test_what_has_words_in_it_is_not_shrunk_beyond_reading():
    pytest.importorskip("matplotlib")
    page = Report("t").figure(curves({"a": ([1, 2], [3, 4])}, size=(6.0, 3.0)))
    page.image(torch.rand(1, 8, 900), "a panel", labelled=True).image(torch.rand(1, 8, 900))
    widths = re.findall(r'<figure class="([^"]*)" style="([^"]*)">', page.html())
    assert widths == [("plot labelled", "--width: 576px"), ("labelled", "--width: 900px"), ("", "")]


def test_names_are_not_read_as_formulas():
    pytest.importorskip("matplotlib")
    figure = curves({"b$$": ([1, 2], [3, 4]), "a$x^": ([1, 2], [4, 3])}, "x", "y")
    figure.canvas.draw()
    labels = figure.axes[0].get_legend().get_texts()
    assert [text.get_text().replace(r"\$", "$") for text in labels] == ["b$$", "a$x^"]
