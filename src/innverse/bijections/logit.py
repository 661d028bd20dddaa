"""From the unit interval to the real line."""

from __future__ import annotations

import math

import torch.nn.functional as F
from torch import Tensor

from .base import Bijection, sum_per_item


class Logit(Bijection):
    """z = logit(alpha + (1 - 2 alpha) x) for x in [0, 1] (Dinh et al. 2016, section 4.1).

    ``alpha`` in (0, 0.5) keeps 0 and 1 finite. x outside [-a, 1 + a], a = alpha / (1 - 2 alpha),
    has no image and gives NaN.

    Example:
        >>> z, log_det = Logit()(torch.rand(2, 4))
        >>> log_det.shape
        torch.Size([2])
    """

    def __init__(self, alpha: float = 0.05):
        super().__init__()
        if not 0 < alpha < 0.5:
            raise ValueError(f"alpha={alpha}: must lie in (0, 0.5)")
        self.alpha = float(alpha)

    def forward(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        u = self.alpha + (1 - 2 * self.alpha) * x
        z = u.log() - (-u).log1p()
        return z, sum_per_item(self._log_derivative(z))

    def inverse(self, z: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x = (z.sigmoid() - self.alpha) / (1 - 2 * self.alpha)
        return x, -sum_per_item(self._log_derivative(z))

    def _log_derivative(self, z: Tensor) -> Tensor:
        # d/dx = (1 - 2 alpha) / (u (1 - u)) with u = sigmoid(z)
        return F.softplus(z) + F.softplus(-z) + math.log1p(-2 * self.alpha)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}"
