"""What draws of a posterior say: intervals, probabilities, and what of their spread the data see."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...errors import ShapeError, UsageError

__all__ = ["interval", "probability", "quantiles", "spread_seen_and_unseen"]


def quantiles(draws: Tensor, q: float | Tensor) -> Tensor:
    """Of draws (S, B, ...), at one q in [0, 1] (B, ...) or at several (Q, B, ...)."""
    at = torch.as_tensor(q, dtype=draws.dtype, device=draws.device)
    if not bool(((at >= 0) & (at <= 1)).all()):
        raise UsageError(f"q={q!r}: quantiles lie between 0 and 1")
    place = at.reshape(-1) * (len(draws) - 1)
    ordered = draws.sort(0).values
    below = place.floor().long()
    above = place.ceil().long()
    t = (place - below).view(-1, *[1] * (draws.dim() - 1))
    found = torch.lerp(ordered[below], ordered[above], t)
    return found[0] if at.dim() == 0 else found


def interval(draws: Tensor, level: float = 0.9) -> tuple[Tensor, Tensor]:
    """Both ends of the central interval that holds ``level`` of the draws (S, B, ...)."""
    if not 0 < level < 1:
        raise UsageError(f"level={level!r}: give a probability between 0 and 1")
    low, high = quantiles(draws, torch.tensor([(1 - level) / 2, (1 + level) / 2]))
    return low, high


def probability(draws: Tensor, event: Callable[[Tensor], Tensor]) -> Tensor:
    """The share of draws (S, B, C, H, W) of which ``event`` is true, for each item (B,).

    ``event`` takes images (N, C, H, W) and answers with (N,) booleans: "is the mean of this region
    above .5?".
    """
    answers = event(draws.flatten(0, 1))
    if answers.shape != (draws.shape[0] * draws.shape[1],):
        raise ShapeError(
            f"event must answer with one boolean an image, {(draws.shape[0] * draws.shape[1],)}, "
            f"got {tuple(answers.shape)}"
        )
    return answers.view(draws.shape[:2]).double().mean(0)


@torch.no_grad()
def spread_seen_and_unseen(draws: Tensor, physics) -> tuple[Tensor, Tensor]:
    """Standard deviations (B, C, H, W) of the part of the draws that A sees, and of the rest.

    The part in the row space of A, A^+ A x, is what more or better data would make certain; what
    lies in its null space is known from the prior alone.
    """
    apart = draws - draws.mean(0)
    seen = torch.stack([physics.A_dagger(physics.A(d)) for d in apart])
    return seen.std(0), (apart - seen).std(0)
