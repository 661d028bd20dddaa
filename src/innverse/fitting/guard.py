"""Which steps to refuse: non-finite ones and explosions."""

from __future__ import annotations

import math
from collections import deque
from statistics import median
from typing import Any


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
        reason = self._reason(loss, norm)
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

    def _reason(self, loss: float, norm: float) -> str | None:
        if not math.isfinite(loss):
            return f"loss is {loss}"
        if not math.isfinite(norm):
            return f"gradient norm is {norm}"
        if len(self.norms) < self.warm:
            return None
        usual = median(self.norms)
        if norm > self.factor * usual:
            return f"gradient norm {norm:.3g} against a median of {usual:.3g}"
        usual = median(self.losses)
        if loss > usual + self.jump:
            return f"loss {loss:.3g} nats/dim against a median of {usual:.3g}"
        return None

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
