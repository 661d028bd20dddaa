"""A training: its losses as curves, and how it ended."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from .card import Block, Card, Facts, Note, number
from .words import words

if TYPE_CHECKING:
    from ..fitting.schedule import History
    from ..train.outcome import Outcome

_POINTS = 200  # of a curve that are drawn
_WIDTH, _HEIGHT, _LEFT, _BELOW = 460, 150, 52, 22  # of the drawing, and its margins
_RIGHT = 90  # pixels for the names
_COLOURS = ("#2f6fb3", "#c8553d")  # both legible on white and on black
_SETTLED = 20  # epochs from which on first losses may leave the picture


@dataclass
class Curves:
    """Losses per epoch {name: values}, as a drawing; words have nothing of it."""

    losses: dict[str, Sequence[float]]
    best: int | None = None
    """The epoch, from 1, that is marked on the first curve."""
    last: str = ""
    """What stands at the end of the axis, the number of epochs by default."""

    def text(self) -> str:
        return ""

    def html(self) -> str:
        finite = [v for values in self.losses.values() for v in values if math.isfinite(v)]
        epochs = max(map(len, self.losses.values()), default=0)
        if not finite:
            return ""
        low, high = min(finite), max(finite)
        if epochs > _SETTLED:
            high = sorted(finite)[int(0.95 * (len(finite) - 1))]
        high = high if high > low else low + 1.0

        def place(epoch: int, value: float) -> tuple[float, float]:
            x = _LEFT + (_WIDTH - _LEFT - _RIGHT) * (epoch - 1) / max(1, epochs - 1)
            height = (min(value, high) - low) / (high - low)
            return x, 8 + (_HEIGHT - _BELOW - 16) * (1 - height)

        bottom, last = _HEIGHT - _BELOW, escape(words(self.last or f"epoch {epochs}"))
        parts = [
            f'<path d="M{_LEFT} {bottom}H{_WIDTH - _RIGHT}" stroke="#888"/>',
            f'<text x="{_LEFT - 6}" y="14" text-anchor="end">{number(high)}</text>',
            f'<text x="{_LEFT - 6}" y="{bottom - 4}" text-anchor="end">{number(low)}</text>',
            f'<text x="{_LEFT}" y="{_HEIGHT - 6}">1</text>',
            f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 6}" text-anchor="end">{last}</text>',
        ]
        for k, (name, values) in enumerate(self.losses.items()):
            colour = _COLOURS[k % 2]
            stride = max(1, math.ceil(len(values) / _POINTS))
            points = [place(e + 1, v) for e, v in enumerate(values) if math.isfinite(v)][::stride]
            drawn = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            parts.append(
                f'<polyline points="{drawn}" fill="none" stroke="{colour}" stroke-width="1.8"/>'
                f'<text x="{_WIDTH - _RIGHT + 12}" y="{18 + 16 * k}">'
                f'<tspan fill="{colour}">■</tspan> {escape(words(name))}</text>'
            )
        if self.best is not None:
            x, y = place(self.best, next(iter(self.losses.values()))[self.best - 1])
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{_COLOURS[0]}"/>')
        return (
            f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" role="img" '
            f'aria-label="{escape(words(", ".join(self.losses)))}">{"".join(parts)}</svg>'
        )


def card(history: History) -> Card:
    best = best_epoch(history)
    blocks: list[Block] = []
    if history.held_out:
        blocks.append(Curves({"held out": history.held_out, "training": history.training}, best))
    if history.skipped:
        blocks.append(Note(f"{history.skipped} of {history.steps} steps refused: not finite"))
    what = f"{history.epochs} epochs, {history.steps} steps, {history.seconds:.1f} s"
    if math.isfinite(history.best):
        where = f"in epoch {best}" if best else "before the first epoch"
        what += f", best held-out loss {number(history.best, 5)} {where}"
    ended = f"ended: {history.ended}" if history.ended else "not ended"
    return Card("History", what, bool(history.ended), ended, blocks)


def outcome(found: Outcome, rows: Sequence[dict[str, Any]]) -> Card:
    """Of a run with its ``metrics.jsonl``."""
    facts = {name: number(value, 5) for name, value in found.held_out.items()}
    facts |= {"folder": str(found.out)} | ({"model": str(found.model)} if found.model else {})
    blocks: list[Block] = [Facts(facts)]
    for name, (steps, values) in judged(found, rows).items():
        blocks.append(Curves({name: values}, last=f"step {steps[-1]}"))
    verdict = "complete" if found.complete else "interrupted: the same call continues"
    what = f"{found.step} steps, {found.skipped} of them refused"
    return Card("Outcome", what, found.complete, verdict, blocks)


def judged(
    found: Outcome, rows: Sequence[dict[str, Any]]
) -> dict[str, tuple[list[int], list[float]]]:
    """The first number that was told of what is held out {name: (steps, values)}, if it was."""
    for name in found.held_out:
        told = [row for row in rows if row.get("kind") == "eval" and name in row]
        values = [math.nan if row[name] is None else float(row[name]) for row in told]
        return {name: ([row["step"] for row in told], values)} if told else {}
    return {}


def best_epoch(history: History) -> int | None:
    """That of the best loss, from 1; None where it was before the first."""
    losses = history.held_out
    return losses.index(history.best) + 1 if history.best in losses else None
