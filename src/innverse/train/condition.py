"""Pictures and measurements of them: what a flow that answers measurements is trained on.

    u = x + sigma e    y = A u + s n    c = `as_images`(y)

e, n, s and, where the operator is a random one, A are functions of (seed, step, place in the batch).
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..catalog import OPERATORS
from ..data import as_unit
from ..physics import GaussianNoise, LinearPhysics
from ..physics.as_images import as_images, channels_of
from ..seeding import stream
from .losses import log_uniform

if TYPE_CHECKING:
    from .config import ConditionConfig

__all__ = ["Measurements"]


class Measurements:
    """The operators and the noise of ``[condition]``, for crops of ``shape`` (C, H, W)."""

    def __init__(self, config: ConditionConfig, shape: tuple[int, int, int], seed: int):
        self.config, self.shape, self.seed = config, shape, seed
        self.channels = channels_of(shape[0])

    def batch(
        self, images: Tensor, step: int, purpose: str, first: int = 0
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Noise e, sigma (B,) and c (B, channels, H, W) for crops (B, C, H, W) uint8 or uint16.

        They are the items from ``first`` on of the batch of a step.
        """
        noise, rows = [], []
        for place, image in enumerate(images.split(1), first):
            g = stream(self.seed, step, f"{purpose} {place}")
            noise.append(torch.randn(image.shape, generator=g))
            u = as_unit(image) + self.config.sigma * noise[-1]
            level = torch.rand((), generator=g, dtype=torch.float64)
            s = float(log_uniform(level, *self.config.levels))
            physics = self._drawn(g) if self.config.draws_operators else self._fixed
            y = physics._copy(noise=GaussianNoise(s))(u, g)
            rows.append(as_images(y, physics, s))
        sigma = torch.full((len(images),), self.config.sigma)
        return torch.cat(noise), sigma, torch.cat(rows)

    def _drawn(self, g: torch.Generator) -> LinearPhysics:
        """Another operator for every crop."""
        options = self.config.options | {"seed": int(torch.randint(2**31, (), generator=g))}
        return OPERATORS[self.config.physics](**options).build(self.shape)

    @functools.cached_property
    def _fixed(self) -> LinearPhysics:
        return OPERATORS[self.config.physics](**self.config.options).build(self.shape)
