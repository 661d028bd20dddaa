"""Pictures of posteriors and of how right they are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from .plots import COLOURS, new_figure, tidy

_LONGEST = 32  # letters of a name beside an axis
_MOST = 6  # parameters of a pair plot; more would be too small to read


def label_of(names: Sequence[str], k: int) -> str:
    """The k-th name as matplotlib can draw it: printable, on one line, not too long."""
    name = "".join(c if c.isprintable() else " " for c in str(names[k])).strip() or f"[{k}]"
    return name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"


def _legend(where: Any, handles: list[Any], labels: Sequence[str], **options) -> None:
    """A legend whose labels are shown as they are: no mathematics between dollars, and also what
    begins with an underscore, which matplotlib leaves out."""
    made = where.legend(handles, [f"{k}" for k in range(len(labels))], frameon=False, **options)
    for text, label in zip(made.get_texts(), labels):
        text.set_parse_math(False)
        text.set_text(label)


def pair_plot(
    draws: Tensor | Mapping[str, Tensor],
    names: Sequence[str] | None = None,
    truth: Tensor | None = None,
    points: int = 1000,
) -> Any:
    """Marginals on the diagonal, draws of each pair of parameters below it.

    Args:
        draws: (L, D), or several {label: (L, D)}, drawn over each other; the first six parameters
            are shown.
        names: D labels.
        truth: (D,), marked if given.
        points: draws shown of each.

    Returns:
        A matplotlib figure: ``figure.savefig("pairs.png")``.

    Raises:
        InnverseError: matplotlib is not installed.

    Example:
        >>> figure = pair_plot(torch.randn(500, 3), ["mass", "spin", "distance"])
        >>> sum(axes.get_visible() for axes in figure.axes)
        6
    """
    draws = {"": draws} if isinstance(draws, Tensor) else draws
    names = names or [f"[{k}]" for k in range(next(iter(draws.values())).shape[1])]
    d = min(len(names), _MOST)
    size = 1.9 * d if d > 2 else 2.6 * d
    figure = new_figure((size, size))
    grid = figure.subplots(d, d, squeeze=False)
    everything = torch.cat([t[:, :d] for t in draws.values()]).double()
    ends = everything.quantile(torch.tensor([0.001, 0.999], dtype=torch.float64), 0)
    spread = ends[1] - ends[0]
    # draws that all lie at one bound of a parameter still get a picture
    margin = torch.where(spread > 1e-9 * ends[1].abs(), 0.08 * spread, 0.01 * ends[1].abs() + 1e-6)
    low, high = (ends[0] - margin).tolist(), (ends[1] + margin).tolist()
    shown: list[Any] = []
    for i in range(d):
        for j in range(d):
            axes = grid[i][j]
            if j > i:
                axes.set_visible(False)
                continue
            for k, t in enumerate(draws.values()):
                colour = COLOURS[k % len(COLOURS)]
                if i == j:
                    bins = torch.linspace(low[i], high[i], 41, dtype=torch.float64)
                    options = {"histtype": "step", "density": True, "linewidth": 1.4}
                    steps = axes.hist(t[:, i].numpy(), bins.numpy(), color=colour, **options)[2]
                    shown += steps if i == 0 else []
                else:
                    x, y = t[:points, j].numpy(), t[:points, i].numpy()
                    axes.plot(x, y, ".", color=colour, markersize=2, alpha=0.5, rasterized=True)
                    axes.set_ylim(low[i], high[i])
            if truth is not None:
                axes.axvline(float(truth[j]), color="#1d1d1b", linewidth=0.8)
                if i != j:
                    axes.axhline(float(truth[i]), color="#1d1d1b", linewidth=0.8)
            axes.set_xlim(low[j], high[j])
            axes.tick_params(labelsize=7, labelbottom=i == d - 1, labelleft=j == 0 and i > 0)
            if i == d - 1:
                axes.set_xlabel(label_of(names, j), fontsize=9, parse_math=False)
            if j == 0 and i > 0:
                axes.set_ylabel(label_of(names, i), fontsize=9, parse_math=False)
            axes.spines[["top", "right"]].set_visible(False)
            if i == j:
                axes.set_yticks([])
    if len(draws) > 1:
        _legend(figure, shown, list(draws), loc="upper right")
    return figure


def coverage_curves(
    series: Mapping[str, tuple[Tensor, Tensor]], ylabel: str, pairs: int, title: str = ""
) -> Any:
    """What is covered against what is promised, {label: (levels, covered)}, with the band in which
    19 of 20 points of an exact posterior lie that was tested on ``pairs`` pairs."""
    figure = new_figure((4.2, 3.8))
    axes = figure.add_subplot()
    t = torch.linspace(0, 1, 101)
    half = 1.96 * (t * (1 - t) / pairs).sqrt()
    band = ((t - half).clamp(0, 1).numpy(), (t + half).clamp(0, 1).numpy())
    axes.fill_between(t.numpy(), *band, color="#dddddd", linewidth=0, label="exact, 95 %")
    axes.plot([0, 1], [0, 1], color="#66645f", linewidth=0.8)
    for k, (label, (levels, covered)) in enumerate(series.items()):
        axes.plot(levels.numpy(), covered.numpy(), color=COLOURS[k], linewidth=1.8, label=label)
    axes.set(xlabel="credibility", ylabel=ylabel, xlim=(0, 1), ylim=(0, 1))
    axes.set_title(title, parse_math=False)
    axes.set_aspect("equal")
    tidy(axes)
    axes.legend(frameon=False)
    return figure


def rank_histograms(ranks: Tensor, draws: int, names: Sequence[str], bins: int = 20) -> Any:
    """Ranks (N, D) of the truth among ``draws`` draws; flat within the band when exact: piled up at
    the ends it is too narrow, in the middle too wide, at one side biased."""
    n, d = ranks.shape
    columns = min(d, 4)
    rows = math.ceil(d / columns)
    figure = new_figure((2.3 * columns, 1.9 * rows))
    grid = figure.subplots(rows, columns, squeeze=False)
    expected = n / bins
    spread = 1.96 * math.sqrt(expected * (1 - 1 / bins))
    for k, axes in enumerate(grid.flat):
        if k >= d:
            axes.set_visible(False)
            continue
        counts = torch.histc(ranks[:, k].double() + 0.5, bins, 0, draws + 1)
        axes.axhspan(expected - spread, expected + spread, color="#dddddd", linewidth=0)
        centres = (torch.arange(bins) + 0.5) / bins
        axes.bar(centres.numpy(), counts.numpy(), 0.9 / bins, color=COLOURS[0])
        axes.set_title(label_of(names, k), fontsize=9, parse_math=False)
        axes.tick_params(labelsize=7)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def contraction_plot(contraction: Tensor, z_score: Tensor, names: Sequence[str]) -> Any:
    """One point per measurement and parameter: contraction (N, D) to the right, z-score upwards.

    Right and near zero is what one hopes for; left: the data say nothing; far from zero: sure and
    wrong."""
    figure = new_figure((5.2, 3.6))
    axes = figure.add_subplot()
    shown: list[Any] = []
    for k in range(min(len(names), _MOST)):
        x, y = contraction[:300, k].numpy(), z_score[:300, k].numpy()
        colour = COLOURS[k % len(COLOURS)]
        style = {"color": colour, "markersize": 3, "alpha": 0.6, "rasterized": True}
        shown += axes.plot(x, y, ".", **style)
    for edge in (-2, 2):
        axes.axhline(edge, color="#66645f", linewidth=0.8, linestyle=":")
    axes.set(xlabel="posterior contraction", ylabel="posterior z-score", xlim=(None, 1.02))
    tidy(axes)
    labels = [label_of(names, k) for k in range(len(shown))]
    _legend(axes, shown, labels, fontsize=8, markerscale=3)
    return figure
