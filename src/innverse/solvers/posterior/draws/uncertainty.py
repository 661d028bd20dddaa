"""What draws of a posterior say: intervals, probabilities, and what of their spread the data see."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ....errors import ShapeError, UsageError

__all__ = [
    "Spread",
    "interval",
    "level_of_region",
    "normal_interval",
    "probability",
    "quantiles",
    "share",
    "spread",
]

_OF_REGION = ("mean", "max", "min")


def quantiles(draws: Tensor, q: float | Tensor) -> Tensor:
    """Of draws (S, B, ...), at one q in [0, 1] (B, ...) or at several (Q, B, ...)."""
    try:
        at = torch.as_tensor(q, dtype=draws.dtype, device=draws.device)
    except (TypeError, ValueError):
        raise UsageError(f"q={q!r}: quantiles lie between 0 and 1") from None
    if at.dim() > 1 or not bool(((at >= 0) & (at <= 1)).all()):
        raise UsageError(f"q={q!r}: quantiles lie between 0 and 1")
    return _between_ranks(draws, at * (len(draws) - 1))


def interval(draws: Tensor, level: float = 0.9) -> tuple[Tensor, Tensor]:
    """Both ends (B, ...) of the central interval that holds a further draw with probability
    ``level``; never beyond the draws (S, B, ...).

    Of S independent draws and one more, the k-th smallest has the last below it with probability
    k / (S + 1): so that few draws promise no more than they keep.
    """
    if not 0 < level < 1:
        raise UsageError(f"level={level!r}: give a probability between 0 and 1")
    tails = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=draws.dtype)
    places = (tails * (len(draws) + 1) - 1).clamp(0, len(draws) - 1)
    low, high = _between_ranks(draws, places.to(draws.device))
    return low, high


def normal_interval(mean: Tensor, std: Tensor, level: float = 0.9) -> tuple[Tensor, Tensor]:
    """Both ends of the central interval of a normal law: what a mean and a deviation tell alone."""
    if not 0 < level < 1:
        raise UsageError(f"level={level!r}: give a probability between 0 and 1")
    reach = std * torch.special.ndtri(torch.tensor((1 + level) / 2, dtype=torch.float64)).to(std)
    return mean - reach, mean + reach


def _between_ranks(draws: Tensor, places: Tensor) -> Tensor:
    """The draws in order, from 0, at places between them."""
    ordered = draws.sort(0).values
    flat = places.reshape(-1)
    t = flat.frac().view(-1, *[1] * (draws.dim() - 1))
    found = torch.lerp(ordered[flat.floor().long()], ordered[flat.ceil().long()], t)
    return found[0] if places.dim() == 0 else found


def probability(draws: Tensor, event: Callable[[Tensor], Tensor]) -> Tensor:
    """The share of draws (S, B, C, H, W) of which ``event`` is true, for each item (B,).

    ``event`` takes images (N, C, H, W) and answers with (N,) booleans: "is the mean of this region
    above .5?".
    """
    if not callable(event):
        raise UsageError(f"event={event!r}: give a function of images, or a region")
    answers = torch.as_tensor(event(draws.flatten(0, 1)))
    if answers.shape != (draws.shape[0] * draws.shape[1],):
        raise ShapeError(
            f"event must answer with one boolean an image, {(draws.shape[0] * draws.shape[1],)}, "
            f"got {tuple(answers.shape)}"
        )
    if not bool(((answers == 0) | (answers == 1)).all()):
        raise UsageError("event must answer with booleans, such as images.mean((1, 2, 3)) > 0.5")
    return share(answers.view(draws.shape[:2]))


def share(true: Tensor) -> Tensor:
    """Of the draws (S, B) of which something is true, (B,)."""
    return true.double().mean(0)


def level_of_region(draws: Tensor, region, by: str = "mean") -> Tensor:
    """Mean, largest or smallest value of draws (S, B, C, H, W) within a region, (S, B).

    ``region`` is true inside: (H, W), (C, H, W), or one per item (B, C or 1, H, W).
    """
    if by not in _OF_REGION:
        raise UsageError(f"by={by!r}: choose one of {', '.join(_OF_REGION)}")
    inside = torch.as_tensor(region, device=draws.device)
    if not bool(((inside == 0) | (inside == 1)).all()):
        raise UsageError("a region is a mask of True and False (or 1 and 0)")
    try:
        fits = inside.dim() > 1 and torch.broadcast_shapes(inside.shape, draws.shape[1:])
    except RuntimeError:
        fits = False
    if fits != draws.shape[1:]:
        raise ShapeError(
            f"a region of shape {tuple(inside.shape)} does not fit images "
            f"{tuple(draws.shape[1:])}: give (H, W), (C, H, W) or one per item"
        )
    inside = inside.bool().expand(draws.shape[1:])
    if not bool(inside.flatten(1).any(1).all()):
        raise UsageError("the region is empty: give a mask that is true somewhere")
    if by == "mean":
        return (draws * inside).flatten(2).sum(2) / inside.flatten(1).sum(1)
    if by == "max":
        return draws.masked_fill(~inside, -torch.inf).flatten(2).amax(2)
    return draws.masked_fill(~inside, torch.inf).flatten(2).amin(2)


class Spread(NamedTuple):
    """Standard deviations (B, C, H, W) of what A sees of the draws, and of what it does not."""

    seen: Tensor
    unseen: Tensor


@torch.no_grad()
def spread(draws: Tensor, physics) -> Spread:
    """`Spread` of draws (S, B, C, H, W): of their part in the row space of A, and of the rest.

    The part in the row space, A^+ A x, is what more or better data of the same kind would make
    certain; what lies in the null space is known from the prior alone.
    """
    apart, physics = draws - draws.mean(0), physics.at(draws.mean(0))
    seen = torch.stack([physics.A_dagger(physics.A(d)) for d in apart])
    return Spread(seen.std(0), (apart - seen).std(0))
