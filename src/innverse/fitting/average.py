"""Averages of weights over steps: what is judged and kept, since the last step carries its noise."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from .. import torch_private


def average_(mean: Iterable[Tensor], now: Iterable[Tensor], step: int, memory: float) -> None:
    """Move ``mean`` towards ``now`` in place: an exponential average over about ``memory`` steps.

    It is a plain mean at first, so that the start is soon forgotten; ``step`` counts from 0. A memory
    of one step or less keeps the weights of now.
    """
    goals = [t.detach() for t in now]
    torch_private.move_towards_(list(mean), goals, average_weight(step, memory))


def average_weight(step: int, memory: float) -> float:
    """By how much `average_` moves."""
    return max(1 / max(memory, 1.0), 9 / (10 + step))
