"""Small line plots by matplotlib, without pyplot and its global state."""

from __future__ import annotations

import functools
import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..errors import InnverseError

COLOURS = (
    "#2f6fb3", "#c8553d", "#3a8f5c", "#8a5fb0", "#b8860b", "#5b6770", "#2a9d9d", "#c2568f", "#7a7a1c",
    "#7a4a2b",
)  # fmt: skip
_MOST_TICKS = 8


def new_figure(size: tuple[float, float]) -> Any:
    """An empty matplotlib figure, ``size`` in inches.

    Raises:
        InnverseError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise InnverseError('plots need matplotlib: pip install "innverse[demo]"') from None
    return _shown(Figure)(figsize=size, layout="constrained")


@functools.cache
def _shown(base: Any) -> Any:
    class Drawing(base):
        """A figure that a notebook shows, also where nobody imported pyplot."""

        def _repr_png_(self) -> bytes:
            buffer = io.BytesIO()
            self.savefig(buffer, format="png", dpi=100)
            return buffer.getvalue()

    return Drawing


def plain(text: str) -> str:
    """A name as it is: for matplotlib what stands between two $ is a formula."""
    return text.replace("$", r"\$")


def tidy(axes: Any) -> None:
    """The look that all plots share."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", linewidth=0.8)


def _mark_log_x(axes: Any, xs: Iterable[float]) -> None:
    """A logarithmic x axis with its ticks at the values ``xs``, if they are few, in plain digits."""
    from matplotlib.ticker import NullFormatter

    axes.set_xscale("log")
    values = sorted(set(xs))
    if 1 < len(values) <= _MOST_TICKS:
        axes.set_xticks(values)
        axes.minorticks_off()
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())


def curves(
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    xlabel: str = "",
    ylabel: str = "",
    log: bool = False,
    size: tuple[float, float] = (6.4, 3.2),
    *,
    log_x: bool = False,
    errors: Mapping[str, Sequence[float]] | None = None,
    dashed: Mapping[str, tuple[Sequence[float], Sequence[float]]] | None = None,
    among: Sequence[str] | None = None,
) -> Any:
    """A figure with one line per entry of ``series`` {label: (xs, ys)}.

    Args:
        log, log_x: logarithmic y axis, x axis.
        size: in inches.
        errors: {label: half the length of the bar at each x}; these lines get markers.
        dashed: lines to compare with, {label: (xs, ys)}, drawn thin and dashed; in the colour of
            the series whose label they begin with, if there is one.
        among: the labels of all figures of a kind, so that one label has the same colour in each.

    Raises:
        InnverseError: matplotlib is not installed.

    Example:
        >>> figure = curves({"loss": ([1, 2, 3], [0.5, 0.3, 0.2])}, "epoch", "nats")
        >>> len(figure.axes)
        1
    """
    figure = new_figure(size)
    axes = figure.add_subplot()
    draw_curves(axes, series, log_x=log_x, errors=errors, dashed=dashed, among=among)
    axes.set(xlabel=xlabel, ylabel=ylabel)
    if log:
        axes.set_yscale("log")
    many = len(series) + len(dashed or {})
    if many > 6:  # beside the lines, not over them
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize="small")
    elif many > 1:
        axes.legend(frameon=False)
    return figure


def draw_curves(
    axes: Any,
    series: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    log_x: bool = False,
    errors: Mapping[str, Sequence[float]] | None = None,
    dashed: Mapping[str, tuple[Sequence[float], Sequence[float]]] | None = None,
    among: Sequence[str] | None = None,
) -> None:
    """The lines of `curves` on ``axes`` of a larger figure, without a legend."""
    colours = {label: COLOURS[k % len(COLOURS)] for k, label in enumerate(among or series)}
    for label, (xs, ys) in series.items():
        bars = None if errors is None else errors.get(label)
        line = {"color": colours[label], "linewidth": 1.8, "label": plain(label)}
        if bars is None:
            axes.plot(xs, ys, **line)
        else:
            axes.errorbar(xs, ys, bars, marker="o", markersize=3.5, capsize=2, **line)
    for label, (xs, ys) in (dashed or {}).items():
        colour = next((c for name, c in colours.items() if label.startswith(name)), "#888888")
        axes.plot(xs, ys, "--", color=colour, linewidth=1.0, label=plain(label))
    if log_x:
        _mark_log_x(axes, (x for xs, _ in series.values() for x in xs))
    tidy(axes)
