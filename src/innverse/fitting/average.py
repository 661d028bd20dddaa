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
    weight = max(1 / max(memory, 1.0), 9 / (10 + step))
    torch_private.move_towards_(list(mean), [t.detach() for t in now], weight)
