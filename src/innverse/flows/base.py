"""The base distribution of every flow: independent standard normals."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..bijections.base import sum_per_item

_LOG_2PI = math.log(2 * math.pi)


def standard_normal_log_prob(z: Tensor) -> Tensor:
    """log N(z; 0, I) of each item of a batch (B, ...) -> (B,)."""
    return -0.5 * sum_per_item(z.square()) - 0.5 * _LOG_2PI * z[0].numel()


def standard_normal(
    shape: tuple[int, ...],
    temperature: float = 1.0,
    *,
    generator: torch.Generator | None = None,
    like: Tensor,
) -> Tensor:
    """Draw from N(0, temperature^2 I) in the dtype and on the device of ``like``."""
    device = like.device if generator is None else generator.device
    z = torch.randn(shape, generator=generator, device=device, dtype=like.dtype)
    return z.to(like.device) * temperature
