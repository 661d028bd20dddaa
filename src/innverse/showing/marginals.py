"""Draws of some numbers: mean, deviation, quantiles and a small histogram of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import torch
from torch import Tensor

from ..report.table import Table
from .card import Rows, number
from .words import words

SHOWN = 12  # numbers; of the others there is a count
_BINS, _HIGH, _WIDE = 24, 22, 96  # of a histogram, in pixels
_QUANTILES = (0.05, 0.5, 0.95)


@dataclass
class Marginals:
    """Of draws (n, D) under D names."""

    draws: Tensor
    names: Sequence[str]

    def table(self) -> Table:
        """Name, mean, standard deviation, and the quantiles at 5, 50 and 95 %."""
        draws = self.draws[:, :SHOWN].double()
        ends = draws.quantile(torch.tensor(_QUANTILES, dtype=torch.float64, device=draws.device), 0)
        columns = torch.stack([draws.mean(0), draws.std(0), *ends], 1).tolist()
        table = Table(["", "mean", "std", *(f"{100 * q:g} %" for q in _QUANTILES)])
        for name, values in zip(self.names, columns):
            table.add(words(name, 40), *(number(v) for v in values))
        return table

    def text(self) -> str:
        lines = [Rows(self.table()).text()]
        return "\n".join(lines + [f"  {self._more()}"] * bool(self._more()))

    def html(self) -> str:
        table = self.table()
        head = "".join(f"<th>{escape(h)}</th>" for h in table.headers)
        rows = [f"<table><thead><tr>{head}<th></th></tr></thead><tbody>"]
        for k, row in enumerate(table.rows):
            cells = "".join(f'<td class="number">{escape(v)}</td>' for v in row[1:])
            bars = histogram(self.draws[:, k])
            rows.append(f"<tr><td>{escape(row[0])}</td>{cells}<td>{bars}</td></tr>")
        more = f'<p class="soft">{self._more()}</p>' if self._more() else ""
        return f'<div class="scroll">{"".join(rows)}</tbody></table></div>{more}'

    def _more(self) -> str:
        hidden = len(self.names) - SHOWN
        return f"… and {hidden} more" if hidden > 0 else ""


def histogram(draws: Tensor) -> str:
    """A small drawing of draws (n,), from the least to the largest."""
    draws = draws.detach().cpu().double()
    draws = draws[draws.isfinite()]
    if not len(draws):
        return ""
    counts = torch.histc(draws, _BINS)
    heights = (_HIGH * counts / counts.max()).tolist()
    step = _WIDE / _BINS
    bars = "".join(
        f'<rect x="{k * step:.1f}" y="{_HIGH - h:.1f}" width="{step - 0.6:.1f}" height="{h:.1f}"/>'
        for k, h in enumerate(heights)
        if h
    )
    return (
        f'<svg viewBox="0 0 {_WIDE} {_HIGH}" width="{_WIDE}" height="{_HIGH}" fill="#2f6fb3" '
        f'role="img" aria-label="histogram">{bars}</svg>'
    )
