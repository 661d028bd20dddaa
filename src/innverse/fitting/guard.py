"""Which steps to refuse: non-finite ones and explosions."""

from __future__ import annotations

import math
from collections import deque
from statistics import median
from typing import Any

LOSS_LOST, NORM_LOST, NORM_FAR, LOSS_FAR = 1, 2, 3, 4
"""Reasons to refuse a step, as numbers; 0 is none."""


def words(reason: int, loss: float, norm: float, usual: float) -> str | None:
    """A reason in words; ``usual`` is the median that was exceeded."""
    return {
        LOSS_LOST: f"loss is {loss}",
        NORM_LOST: f"gradient norm is {norm}",
        NORM_FAR: f"gradient norm {norm:.3g} against a median of {usual:.3g}",
        LOSS_FAR: f"loss {loss:.3g} nats/dim against a median of {usual:.3g}",
    }.get(reason)


class Guard:
    """Judges each step by its loss and gradient norm against running medians.

    A refused step leaves parameters, optimiser and EMA as they were. Finite values of refused steps
    still enter the medians, so a lasting change of scale is accepted after half a window.

    Args:
        factor: refuse when the gradient norm exceeds this multiple of its median.
        jump: refuse when the loss is this much above its median, in nats/dim.
        window: number of steps the medians look back.
        warm: steps to see before explosions are judged at all.
    """

    def __init__(self, factor: float = 20.0, jump: float = 3.0, window: int = 64, warm: int = 16):
        self.factor, self.jump, self.warm = factor, jump, warm
        self.losses: deque[float] = deque(maxlen=window)
        self.norms: deque[float] = deque(maxlen=window)
        self.skipped = 0
        self.in_a_row = 0
        self.lost = 0  # of those in a row, the latest that were not finite

    @classmethod
    def of_finite(cls) -> Guard:
        """One that refuses nothing but what is not finite."""
        return cls(math.inf, math.inf)

    def judge(self, loss: float, norm: float) -> str | None:
        """The reason to skip this step, or None to take it."""
        found, usual = self._reason(loss, norm)
        reason = words(found, loss, norm, usual) if found else None
        if math.isfinite(loss) and math.isfinite(norm):
            self.losses.append(loss)
            self.norms.append(norm)
            self.lost = 0
        else:
            self.lost += 1
        if reason is None:
            self.in_a_row = 0
        else:
            self.skipped += 1
            self.in_a_row += 1
        return reason

    def _reason(self, loss: float, norm: float) -> tuple[int, float]:
        if not math.isfinite(loss):
            return LOSS_LOST, math.nan
        if not math.isfinite(norm):
            return NORM_LOST, math.nan
        if len(self.norms) < self.warm:
            return 0, math.nan
        usual = median(self.norms)
        if norm > self.factor * usual:
            return NORM_FAR, usual
        usual = median(self.losses)
        return (LOSS_FAR if loss > usual + self.jump else 0), usual

    def state(self) -> dict[str, Any]:
        """JSON-able state, exact: a float survives its repr."""
        return {
            "losses": list(self.losses),
            "norms": list(self.norms),
            "skipped": self.skipped,
            "in_a_row": self.in_a_row,
        }

    def load(self, state: dict[str, Any]) -> None:
        self.losses.extend(state["losses"])
        self.norms.extend(state["norms"])
        self.skipped = state["skipped"]
        self.in_a_row = state["in_a_row"]
