"""The same posterior in latent space: u = G(z), z ~ N(0, I), in the metric M = I.

Where data are weak the prior rules, and there it is round. Where they are sharp, their directions
bound the step, which image space and its metric do not suffer from.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .target import Target


class LatentTarget(Target):
    """log N(z; 0, I) + log p(y | A G(z)) of N chains; draws are images all the same."""

    @classmethod
    def of(cls, target: Target) -> LatentTarget:
        """That of the same measurement; its density has ``decode``."""
        return cls(
            target.density, target.physics, target.y, target.noise, target.crop, target.likelihood
        )

    def log_p(self, u: Tensor) -> Tensor:
        return -0.5 * u.flatten(1).square().sum(1) + self.log_likelihood(self._decode(u))

    @torch.no_grad()
    def images(self, u: Tensor) -> Tensor:
        return self.crop(self._decode(u))

    def _decode(self, z: Tensor) -> Tensor:
        return self.density.decode(z)  # ty: ignore[missing-attribute]  # see `of`
