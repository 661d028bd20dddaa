"""From the histogram of a bounded variable to a standard normal one."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..gaussian import HALF_LOG_2PI
from .base import Bijection, sum_per_item

_ALPHA = 1e-6  # of probability beyond each end, which keeps z finite there


class Gaussianize(Bijection):
    """z = Phi^-1(F(x)) elementwise, F the distribution function of a learned histogram on [0, 1]
    (marginal Gaussianization: Chen & Gopinath, NeurIPS 2000).

    Pixels that are mostly black are far from normal, and affine couplings cannot bend: with one
    bin for each grey level this map leaves them a marginal they can deal with. `initialize` takes
    the histogram of a batch; until then x is taken to be uniform. All channels share ``bins``.
    x outside [0, 1] has no image and gives NaN.

    Example:
        >>> layer = Gaussianize(bins=4)
        >>> z, log_det = layer(torch.tensor([[0.5, 0.75]]))
        >>> [round(v, 2) for v in z.flatten().tolist()]  # quantiles of a uniform variable
        [0.0, 0.67]
    """

    initialized: Tensor

    def __init__(self, bins: int = 256):
        super().__init__()
        if bins < 2:
            raise ValueError(f"bins={bins}: at least 2")
        self.bins = int(bins)
        self.logits = nn.Parameter(torch.zeros(self.bins))
        self.register_buffer("initialized", torch.tensor(False))

    def forward(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_p, p, left = self._histogram(x)
        bin = (x.detach() * self.bins).long().clamp(0, self.bins - 1)
        within = x * self.bins - bin
        u = _pick(left, bin) + _pick(p, bin) * within
        z = torch.special.ndtri(_ALPHA + (1 - 2 * _ALPHA) * u)
        return z, sum_per_item(self._log_derivative(z, _pick(log_p, bin)))

    def inverse(self, z: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_p, p, left = self._histogram(z)
        u = (torch.special.ndtr(z) - _ALPHA) / (1 - 2 * _ALPHA)
        bin = (torch.searchsorted(left.detach(), u.detach().contiguous(), right=True) - 1).clamp(0)
        x = (bin + (u - _pick(left, bin)) / _pick(p, bin)) / self.bins
        return x, -sum_per_item(self._log_derivative(z, _pick(log_p, bin)))

    def initialize_(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        if not self.initialized:
            bin = (x * self.bins).long().clamp(0, self.bins - 1)
            count = torch.bincount(bin.flatten(), minlength=self.bins).to(self.logits)
            # a hundredth is spread evenly, so that no bin is empty
            self.logits.data.copy_((count + 0.01 * bin.numel() / self.bins).log())
            self.logits.data.sub_(self.logits.data.mean())
            self.initialized.fill_(True)
        return self(x, c)[0]

    def _histogram(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probability, probability and left end (as a probability) of every bin."""
        log_p = self.logits.double().log_softmax(0)  # its sums are near 1 and need the digits
        p = log_p.exp()
        return log_p.to(x), p.to(x), (p.cumsum(0) - p).to(x)

    def _log_derivative(self, z: Tensor, log_p: Tensor) -> Tensor:
        # dx/du = 1 / (bins p), du/dz = phi(z)
        constant = math.log(self.bins) + math.log1p(-2 * _ALPHA) + HALF_LOG_2PI
        return log_p + 0.5 * z.square() + constant

    def extra_repr(self) -> str:
        return f"bins={self.bins}"


def _pick(table: Tensor, index: Tensor) -> Tensor:
    return table.index_select(0, index.flatten()).view(index.shape)
