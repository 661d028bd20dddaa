"""Numbers that describe a picture for a comparison of distributions, without trained weights."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ShapeError

DESCRIPTION = (
    "a random convolutional network (seed 0: up to four layers of 64 filters 3x3, modulus, halving; "
    "means of every channel over quarters of the picture), its features standardised on the real "
    "images and projected to 64 numbers"
)

_WIDTH, _LEVELS, _SMALLEST, _KEPT = 64, 4, 4, 64


class RandomFeatures:
    """64 features of an image: a convolutional network with random weights, the same everywhere.

    Random filters and the modulus see colours, edges and their arrangement at several scales, as the
    layers of a scattering transform do (Bruna & Mallat 2013); they know no objects. Distances of such
    features compare models in one setting, and are not those of a trained network: in particular
    they are no published FID.

    Features are standardised on the ``real`` images (N, C, H, W) in [0, 1]: the unit of each is
    its standard deviation over them.

    Raises:
        ShapeError: not at least 2 images.
    """

    def __init__(self, real: Tensor, seed: int = 0):
        if real.dim() != 4 or len(real) < 2:
            raise ShapeError(
                f"features need at least 2 real images (N, C, H, W), not {tuple(real.shape)}"
            )
        rng = np.random.default_rng(seed)  # numpy's generators do not change between versions
        self.filters, channels, side = [], real.shape[1], min(real.shape[-2:])
        while len(self.filters) < _LEVELS and side > _SMALLEST:
            w = rng.standard_normal((_WIDTH, channels, 3, 3))
            if not self.filters:
                w -= w.mean((2, 3), keepdims=True)  # edges; the colours are features of their own
            w /= np.sqrt((w**2).sum((1, 2, 3), keepdims=True))
            self.filters.append(torch.tensor(w, dtype=torch.float32, device=real.device))
            channels, side = _WIDTH, side // 2
        raw = self._raw(real)
        self.mean, spread = raw.mean(0), raw.std(0)
        self.spread = spread.clamp_min(0.05 * float(spread.median()))
        mix = np.linalg.qr(rng.standard_normal((raw.shape[1], _KEPT)))[0]
        self.mix = torch.tensor(mix, dtype=torch.float32, device=real.device)

    def __call__(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W), clipped to [0, 1], to features (N, 64)."""
        return (self._raw(x) - self.mean) / self.spread @ self.mix

    @torch.no_grad()
    def _raw(self, x: Tensor) -> Tensor:
        return torch.cat([self._layers(part.clamp(0, 1)) for part in x.float().split(16)])

    def _layers(self, x: Tensor) -> Tensor:
        found = [F.adaptive_avg_pool2d(x, 4).flatten(1)]
        x = x - 0.5
        for w in self.filters:
            x = math.sqrt(2) * F.conv2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), w).abs()
            found.append(F.adaptive_avg_pool2d(x, 2).flatten(1))
            x = F.avg_pool2d(x, 2)
        return torch.cat(found, 1)
