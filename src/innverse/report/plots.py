"""Small line plots by matplotlib, without pyplot and its global state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import InnverseError

COLOURS = ("#2f6fb3", "#c8553d", "#3a8f5c", "#8a5fb0", "#b8860b", "#5b6770")


def new_figure(size: tuple[float, float]) -> Any:
    """An empty matplotlib figure, ``size`` in inches.

    Raises:
        InnverseError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise InnverseError('plots need matplotlib: pip install "innverse[demo]"') from None
    return Figure(figsize=size, layout="constrained")


def tidy(axes: Any) -> None:
    """The look that all plots share."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)


def curves(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    xlabel: str = "",
    ylabel: str = "",
    log: bool = False,
    size: tuple[float, float] = (6.4, 3.2),
) -> Any:
    """A figure with one line per entry of ``series`` {label: (xs, ys)}.

    Args:
        log: logarithmic y axis.
        size: in inches.

    Raises:
        InnverseError: matplotlib is not installed.
    """
    figure = new_figure(size)
    axes = figure.add_subplot()
    for k, (label, (xs, ys)) in enumerate(series.items()):
        axes.plot(xs, ys, color=COLOURS[k % len(COLOURS)], linewidth=1.8, label=label)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    if log:
        axes.set_yscale("log")
    tidy(axes)
    if len(series) > 1:
        axes.legend(frameon=False)
    return figure
