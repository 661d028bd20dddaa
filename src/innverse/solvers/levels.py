"""The noise levels at which a solver takes a noise-conditional prior."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..errors import UsageError
from ..protocols import NoiseConditional, noise_range

SHARP = 0.02  # where a noise-conditional density is sharp, yet smooth enough to climb


def map_level(ratio: float) -> float:
    """Where "map" ends, for ``ratio`` measurements per number of the image.

    As `latent_level`: what tuning on held-out faces chose (``reproduce/tuned.json``), to within
    0.1 dB. Few data are no use to a sharp density, and all pixels need none.
    """
    return 0.04 if ratio < 0.03 else SHARP if ratio > 0.95 else 0.01


def latent_level(ratio: float, holes: bool) -> float:
    """Where "latent" searches; ``holes`` says that some pixels are not measured at all."""
    if ratio < 0.03:
        return 0.04
    return 0.01 if 0.06 <= ratio <= 0.95 and not holes else SHARP


def levels_of(prior: object, sigma: float | Sequence[float] | None = None) -> list[float] | None:
    """The levels of ``sigma`` that the prior knows, in that order; None for a prior without levels.

    Levels beyond ``prior.noise_range`` are moved to its nearest end; None is `SHARP`.

    Raises:
        UsageError: an empty list of levels, or one that is not positive.
    """
    if not isinstance(prior, NoiseConditional) or (span := prior.noise_range) is None:
        return None
    levels = [SHARP] if sigma is None else [sigma] if isinstance(sigma, (int, float)) else sigma
    if not levels or not all(level > 0 for level in levels):
        raise UsageError(f"sigma={sigma!r}: give one noise level > 0, or several to go through")
    low, high = span
    return [float(min(max(level, low), high)) for level in levels]


def priors_at(prior: Any, sigma: float | Sequence[float] | None = None) -> list:
    """The prior at each of its `levels_of`; a prior without levels as it is, once."""
    levels = levels_of(prior, sigma)
    return [prior] if levels is None else [prior.at(level) for level in levels]


def level_of(density: object) -> float | None:
    """The one noise level of a prior that is taken at one; None of any other density."""
    level = getattr(density, "c", None)
    if level is None or noise_range(density) is None:
        return None
    level = torch.as_tensor(level)
    return float(level) if level.numel() == 1 else None
