"""A smooth bound for log-scales, so that no inverse divides by something tiny."""

from __future__ import annotations

import torch
from torch import Tensor


def soft_bound(s: Tensor, limit: float) -> Tensor:
    """s / sqrt(1 + (s / limit)^2): close to s near 0, inside (-limit, limit); cheaper than tanh."""
    return s * torch.addcmul(s.new_ones(()), s, s, value=limit**-2).rsqrt()


def inverse_soft_bound(v: Tensor, limit: float) -> Tensor:
    """The argument for which `soft_bound` gives ``v``, |v| < limit."""
    v = v.clamp(-0.999 * limit, 0.999 * limit)
    return v * torch.rsqrt(1 - (v * (1 / limit)).square())
