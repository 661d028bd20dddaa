"""What the checks take: true values, and draws from an object that draws or as an array."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...errors import InputError, ShapeError, UsageError
from ...seeding import stream

LEVELS = (0.5, 0.68, 0.9, 0.95)

Quantity = Callable[[Tensor], Tensor]
"""Of one draw of each posterior (N, ...): its values (N,) or (N, K)."""


def truth_and_draws(
    source, theta, x, draws: int, generator, of: Quantity | None = None
) -> tuple[Tensor, Tensor]:
    """theta (N, D) and draws (L, N, D), float64, of fitting shapes; or what ``of`` says of them."""
    theta = tensor(theta, "theta")
    theta = theta.unsqueeze(1) if theta.dim() == 1 else theta
    samples = drawn(source, x, draws, generator)
    samples = samples.unsqueeze(2) if samples.dim() == 2 else samples
    if not theta.numel() or not samples.numel():
        raise InputError("calibration needs true values and draws: there are none")
    if flat(samples, 2).shape[1:] != flat(theta, 1).shape:
        raise ShapeError(
            f"draws {tuple(samples.shape)} do not fit theta {tuple(theta.shape)}: draws are "
            "(draws, N, D), theta is (N, D)"
        )
    if len(samples) < 2:
        raise InputError("calibration needs at least 2 draws of every posterior")
    if of is not None:
        theta, samples = values(of, theta), torch.stack([values(of, each) for each in samples])
    theta, samples = flat(theta, 1).double(), flat(samples, 2).double()
    if not bool(theta.isfinite().all() and samples.isfinite().all()):
        raise InputError("theta or the draws contain NaN or infinite values")
    return theta, samples


def tensor(value, name: str) -> Tensor:
    try:
        return torch.as_tensor(value)
    except (RuntimeError, TypeError, ValueError):
        raise InputError(f"{name} must be a tensor or an array, got {value!r:.60}") from None


def values(of: Quantity, items: Tensor) -> Tensor:
    """``of`` items (N, ...) as (N, K)."""
    found = tensor(of(items), "a quantity").detach()
    if found.dim() == 0 or len(found) != len(items):
        raise ShapeError(
            f"a quantity must answer with one row for each of {len(items)} items, got "
            f"{tuple(found.shape)}"
        )
    return found.reshape(len(items), -1)


def drawn(source, x, draws: int, generator) -> Tensor:
    """Draws (L, N, ...) from an object, or the array itself."""
    if not hasattr(source, "sample"):
        samples = tensor(getattr(source, "samples", source), "draws")
        if samples.dim() < 2:
            raise ShapeError(f"draws must be (draws, N, D), got {tuple(samples.shape)}")
        return samples
    if x is None:
        raise UsageError("a posterior needs the measurements: pass x, one row per row of theta")
    options = {} if generator is None else {"generator": generator}
    if hasattr(source, "sample_batched"):
        return torch.as_tensor(source.sample_batched((draws,), x, **options))
    each = [torch.as_tensor(source.sample((draws,), x=row, **options)) for row in x]
    return torch.stack(each, 1)


def own(generator: torch.Generator | None) -> torch.Generator:
    """The generator, or one whose numbers are not those of a seed that made the data."""
    return generator or stream(0, 0, "calibration")


def flat(t: Tensor, lead: int) -> Tensor:
    return t.reshape(*t.shape[:lead], -1)


def checked_levels(levels) -> Tensor:
    levels = torch.as_tensor(levels, dtype=torch.float64).reshape(-1)
    if not len(levels) or not bool(((levels >= 0) & (levels <= 1)).all()):
        raise UsageError("levels are probabilities between 0 and 1")
    return levels
