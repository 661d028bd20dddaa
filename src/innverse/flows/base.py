"""The base distribution of every flow: independent standard normals."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..bijections.base import sum_per_item
from ..errors import UsageError
from ..gaussian import HALF_LOG_2PI


def standard_normal_log_prob(z: Tensor) -> Tensor:
    """log N(z; 0, I) of each item of a batch (B, ...) -> (B,)."""
    return -0.5 * sum_per_item(z.square()) - HALF_LOG_2PI * math.prod(z.shape[1:])


def standard_normal(
    shape: tuple[int, ...],
    temperature: float = 1.0,
    *,
    truncation: float | None = None,
    generator: torch.Generator | None = None,
    like: Tensor,
) -> Tensor:
    """Draw from N(0, temperature^2 I) in the dtype and on the device of ``like``.

    Coordinates beyond ``truncation`` standard deviations are drawn again, so that each follows the
    normal cut off there; the temperature scales the result.
    """
    if not temperature >= 0:
        raise UsageError(f"temperature={temperature:g}: must be 0 or more")
    device = like.device if generator is None else generator.device
    z = torch.randn(shape, generator=generator, device=device, dtype=like.dtype)
    if truncation is not None:
        z = _redraw_beyond(z, truncation, generator)
    return z.to(like.device) * temperature


def _redraw_beyond(z: Tensor, bound: float, generator: torch.Generator | None) -> Tensor:
    """z where |z| <= bound; elsewhere a draw of the cut-off normal by its quantile function, so
    that one more draw is enough, however small the bound."""
    if not bound > 0:
        raise UsageError(f"truncation={bound:g}: must be above 0")
    u = 2 * torch.rand(z.shape, generator=generator, device=z.device, dtype=z.dtype) - 1
    inside = math.sqrt(2) * torch.erfinv(u * math.erf(bound / math.sqrt(2)))
    return torch.where(z.abs() > bound, inside.clamp(-bound, bound), z)
