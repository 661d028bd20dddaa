"""A measurement as images, whatever its operator: what a network can be told of it."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import UsageError
from .base import LinearPhysics, per_item


def channels_of(channels: int) -> int:
    """Of `as_images`, for images of so many channels."""
    return 2 * channels + 1


@torch.no_grad()
def as_images(y: Tensor, physics: LinearPhysics, noise) -> Tensor:
    """A^T y, A^T A 1 and log s side by side, (B, 2 C + 1, H, W).

    A^T y is all that y says of x if A is known (it is sufficient under white noise); A^T A 1 tells
    where A looked: of a mask it is the mask.

    Args:
        y: (B, ...).
        noise: its standard deviation s > 0, a number or one of each item (B,).
    """
    back = physics.A_adjoint(y)
    if back.is_complex():
        raise UsageError("images of complex numbers are no condition: take them apart first")
    seen = physics.A_normal(torch.ones_like(back))
    level = per_item(noise, back).log().expand(len(back), 1, *back.shape[2:])
    return torch.cat((back, seen, level), 1)
