"""Observations of any unit to features of about unit size; learned once and saved."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_ROWS = 20_000  # so many simulations are enough for a median
_HEAVY = 12.0  # deviations in units of the scale from which a feature counts as heavy-tailed


class Standardize(nn.Module):
    """z = (x - median) / scale per feature, and asinh(z) where a feature has heavy tails.

    The scale is half the distance between the 16 % and 84 % quantiles, or a quarter of that between
    2.5 % and 97.5 % where this is larger (for a normal both are its standard deviation); where
    they coincide it is the standard deviation, and a constant feature keeps scale 1. asinh is
    close to the identity near 0 and loses nothing.

    Args:
        shape: of one observation.
        shared: the axes of an observation over which one scale is shared (the members of a set,
            the time of a series, the pixels of an image).
    """

    loc: Tensor
    scale: Tensor
    heavy: Tensor

    def __init__(self, shape: tuple[int, ...], shared: tuple[int, ...] = ()):
        super().__init__()
        self.shape, self.shared = tuple(shape), tuple(shared)
        size = [1 if i in self.shared else n for i, n in enumerate(self.shape)]
        self.register_buffer("loc", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(size, dtype=torch.float64))
        self.register_buffer("heavy", torch.zeros(size, dtype=torch.bool))

    def learn(self, x: Tensor) -> None:
        """Set location, scale and the heavy-tailed features from observations (N, *shape)."""
        x = x.double()
        # (values, features), the features in the order of the buffers
        kept = [i + 1 for i in range(len(self.shape)) if i not in self.shared]
        order = [0, *(i + 1 for i in self.shared), *kept]
        rows = x[torch.linspace(0, len(x) - 1, min(len(x), _ROWS)).long()]
        values = rows.permute(order).reshape(-1, self.loc.numel())
        if len(values) > _ROWS:
            values = values[torch.linspace(0, len(values) - 1, _ROWS).long()]
        at = values.new_tensor([0.025, 0.16, 0.5, 0.84, 0.975])
        lowest, low, middle, high, highest = values.quantile(at, 0)
        scale = torch.maximum((high - low) / 2, (highest - lowest) / 4)
        scale = torch.where(scale > 0, scale, values.std(0))
        scale = torch.where(scale > 0, scale, 1.0)
        self.loc.copy_(middle.view_as(self.loc))
        self.scale.copy_(scale.view_as(self.scale))
        over = [0, *(i + 1 for i in self.shared)]
        self.heavy.copy_(((x - self.loc) / self.scale).abs().amax(over, True)[0] > _HEAVY)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, *shape) of any float type -> float32 of the same shape."""
        z = (x.double() - self.loc) / self.scale
        return torch.where(self.heavy, z.asinh(), z).float()
