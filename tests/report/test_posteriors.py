"""The pictures of posteriors show what they were given."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("matplotlib")

from matplotlib.patches import Rectangle

from innverse.report import Report
from innverse.report.posteriors import (
    contraction_plot,
    coverage_curves,
    pair_plot,
    rank_histograms,
)


@pytest.mark.parametrize(("d", "shown"), [(1, 1), (3, 6), (9, 21)])
def test_pair_plot_has_the_lower_triangle_of_at_most_six(d, shown):
    draws = {"before": torch.randn(300, d), "after": torch.randn(300, d)}
    figure = pair_plot(draws, [f"p{i}" for i in range(d)], truth=torch.zeros(d))
    assert sum(axes.get_visible() for axes in figure.axes) == shown
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["before", "after"]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_draws_at_a_bound_are_drawn(value):
    figure = pair_plot({"posterior": torch.full((100, 2), value)}, ["a", "b"])
    low, high = figure.axes[0].get_xlim()
    assert low < value < high and figure.axes[0].patches


def test_rank_histograms_count_every_pair_once():
    ranks = torch.randint(0, 101, (500, 2))
    ranks[:2] = torch.tensor([[0], [100]])  # both ends belong to a bar
    figure = rank_histograms(ranks, 100, ["a", "b"], bins=20)
    for axes in figure.axes:
        bars = [p for p in axes.patches if isinstance(p, Rectangle) and p.get_width() < 0.5]
        assert len(bars) == 20 and sum(bar.get_height() for bar in bars) == 500


def test_coverage_curves_are_drawn_as_given():
    levels, covered = torch.tensor([0.5, 0.9]), torch.tensor([0.4, 0.8])
    figure = coverage_curves({"before": (levels, covered)}, "inside", pairs=100)
    line = next(line for line in figure.axes[0].lines if line.get_label() == "before")
    assert torch.equal(torch.tensor(line.get_ydata()), covered)


def test_contraction_plot_has_one_cloud_per_parameter():
    figure = contraction_plot(torch.rand(50, 2), torch.randn(50, 2), ["a", "b"])
    assert [t.get_text() for t in figure.axes[0].get_legend().get_texts()] == ["a", "b"]


NAMES = ["b$$", "$\\frac{1}{$", "_hidden", "<b>&", "line\nbreak\x00", "", "x" * 300, "\u91cf"]


@pytest.mark.filterwarnings("ignore:Glyph")
def test_names_are_shown_as_they_are():
    """No mathematics between dollars, no tags, nothing left out; the drawing is valid XML."""
    import base64
    import re
    import xml.dom.minidom

    draws = {name: torch.randn(50, 6) for name in ("$a$", "_b")}
    pair = pair_plot(draws, NAMES[:6])
    cloud = contraction_plot(torch.rand(50, 8), torch.randn(50, 8), NAMES)
    page = Report("names")
    for figure in (pair, cloud, rank_histograms(torch.randint(0, 99, (50, 8)), 99, NAMES)):
        page.figure(figure, ", ".join(NAMES))
    html = page.html()
    drawn = re.findall(r"svg\+xml;base64,([^\"]+)", html)
    assert len(drawn) == 3 and "<b>&" not in html
    for svg in drawn:
        xml.dom.minidom.parseString(base64.b64decode(svg))
    assert [t.get_text() for t in pair.legends[0].get_texts()] == ["$a$", "_b"]
    shown = [t.get_text() for t in cloud.axes[0].get_legend().get_texts()]
    assert shown == [*NAMES[:4], "line break", "[5]"]
    below = [axes.get_xlabel() for axes in pair.axes if axes.get_xlabel()]
    assert below == shown


def test_small_differences_of_large_numbers_are_drawn():
    draws = 1e9 + torch.randn(400, 1, dtype=torch.float64)
    figure = pair_plot({"posterior": draws}, ["a"])
    low, high = figure.axes[0].get_xlim()
    assert high - low < 20
