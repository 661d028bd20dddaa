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
