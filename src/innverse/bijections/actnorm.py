"""ActNorm: a scale and a shift for every channel, set from the first batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .bounded import inverse_soft_bound, soft_bound
from .channel_linear import ChannelLinear

_LIMIT = 8.0  # scales between e^-8 and e^8


class ActNorm(ChannelLinear):
    """z = s * x + b per channel (Kingma & Dhariwal 2018, arXiv 1807.03039, section 3.1).

    The identity until `initialize` makes each channel of a batch zero-mean with unit variance.
    Shapes: x, z (B, C, *space) with C = ``channels``.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(channels))
        self.shift = nn.Parameter(torch.zeros(channels))
        self.register_buffer("initialized", torch.tensor(False))

    def matrix(self):
        log_scale = soft_bound(self.log_scale, _LIMIT)
        return log_scale.exp(), self.shift, log_scale.sum()

    def inverse_matrix(self):
        return (-soft_bound(self.log_scale, _LIMIT)).exp()

    def initialize_(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        if not self.initialized:
            over = [d for d in range(x.dim()) if d != 1]
            mean = x.mean(over)
            std = (x - mean.view(1, -1, *[1] * (x.dim() - 2))).square().mean(over).sqrt()
            # a channel that is constant in this batch keeps scale 1
            log_scale = torch.where(std > 1e-6, -std.clamp_min(1e-6).log(), 0.0)
            self.log_scale.data.copy_(inverse_soft_bound(log_scale, _LIMIT))
            scale = soft_bound(self.log_scale.data, _LIMIT).exp()
            self.shift.data.copy_(-mean * scale)
            self.initialized.fill_(True)
        return self(x, c)[0]

    def extra_repr(self) -> str:
        return str(len(self.shift))
