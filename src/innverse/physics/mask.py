"""Masks as weights in [0, 1], from any of the ways in which masks are kept, and operators with one."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import InputError, ShapeError
from ..shapes import dtype_name, tensor_of
from .base import LinearPhysics


class Masked(LinearPhysics):
    """An operator that measures nothing where its ``mask`` (B or 1, C or 1, H, W) is zero."""

    mask: Tensor

    def forward(self, x, generator=None):
        # what was not measured carries no noise
        return self.noise(self.A(x), generator) * (self.mask != 0)

    @property
    def items(self) -> int:
        return self.mask.shape[0]

    def keep_measured(self, y):
        return torch.where(self.mask != 0, y, 0)

    def select(self, idx):
        chosen = super().select(idx)
        return chosen._copy(mask=self.mask[idx]) if self.items > 1 else chosen

    def _mask(self, like: Tensor) -> Tensor:
        if self.items not in (1, like.shape[0]):
            raise ShapeError(f"{self.items} masks for a batch of {like.shape[0]} images")
        return self.mask.to(like.dtype)


def as_weights(mask, name: str = "mask") -> Tensor:
    """A mask as a floating-point tensor in [0, 1], its shape as it was.

    Booleans, 0 and 1, and 0 and 255 (any type) mean missing and known; floating-point numbers
    between 0 and 1 are kept as weights.

    Raises:
        InputError: other values, NaN, or nothing that is known. ShapeError: an empty mask.
    """
    mask = tensor_of(mask, f"a {name} is a tensor or an array")
    if mask.numel() == 0:
        raise ShapeError(f"the {name} is empty: it has shape {tuple(mask.shape)}")
    if mask.is_complex():
        raise InputError(f"the {name} is complex: give real numbers between 0 and 1")
    given = dtype_name(mask.dtype)
    soft = mask.is_floating_point() and mask.dtype.itemsize >= 2
    if not soft:
        mask = mask.to(torch.get_default_dtype())
    if not bool(torch.isfinite(mask).all()):
        raise InputError(f"the {name} contains NaN or Inf")
    low, high = mask.aminmax()
    if high > 1 and bool(((mask == 0) | (mask == 255)).all()):
        mask = mask / 255
    elif low < 0 or high > 1:
        raise InputError(
            f"the {name} ({given}) has values from {float(low):g} to {float(high):g}: give 0 or "
            "False for missing and 1, True or 255 for known (for a gray picture: mask > 127)"
        )
    if high <= 0:
        raise InputError(f"the {name} has no known entry: 1 means known, 0 missing")
    return mask
