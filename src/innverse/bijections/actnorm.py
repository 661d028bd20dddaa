"""ActNorm: a scale and a shift for every channel, set from the first batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..accelerate.autocast import without_autocast
from ..accelerate.constant import remember
from ..accelerate.regions import region
from ..errors import warn
from ..nets.conditioning import zeroed
from ..shapes import check_channels, check_condition, positions
from .base import Bijection, other_axes
from .bounded import inverse_soft_bound, soft_bound
from .channel_linear import ChannelLinear
from .standardize import spread_of

_LIMIT = 8.0  # scales between e^-8 and e^8


class ActNorm(ChannelLinear):
    """z = s * x + b per channel (Kingma & Dhariwal 2018, arXiv 1807.03039, section 3.1).

    The identity until `initialize` makes each channel of a batch zero-mean with unit variance.
    Shapes: x, z (B, C, *space) with C = ``channels``.

    Example:
        >>> layer = ActNorm(4)
        >>> z, log_det = layer(torch.rand(2, 4, 8, 8))
        >>> log_det.shape
        torch.Size([2])
    """

    initialized: Tensor

    def __init__(self, channels: int):
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(channels))
        self.shift = nn.Parameter(torch.zeros(channels))
        self.register_buffer("initialized", torch.tensor(False))

    def arguments(self):
        return self.log_scale, self.shift

    @staticmethod
    def formula(log_scale, shift):
        log_scale = soft_bound(log_scale, _LIMIT)
        return log_scale.exp(), shift, log_scale.sum(-1)

    def inverse_matrix(self):
        return (-soft_bound(self.log_scale, _LIMIT)).exp()

    def initialize_(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        check_channels(self, x, len(self.shift))
        if not self.initialized:
            mean = x.mean(other_axes(x))
            log_scale = -_log_spread(spread_of(x), mean).to(x.dtype)
            self.log_scale.data.copy_(inverse_soft_bound(log_scale, _LIMIT))
            scale = soft_bound(self.log_scale.data, _LIMIT).exp()
            self.shift.data.copy_(-mean * scale)
            self.initialized.fill_(True)
        return self(x, c)[0]

    def extra_repr(self) -> str:
        return str(len(self.shift))


def _log_spread(spread: Tensor, mean: Tensor) -> Tensor:
    """Its logarithm; 0 for a channel that is constant in the batch up to rounding."""
    rounding = 4 * torch.finfo(mean.dtype).eps * mean.abs().double()
    log_spread = torch.where(spread > rounding, spread, 1.0).log()
    beyond = (log_spread.abs() > 0.999 * _LIMIT).nonzero().flatten().tolist()
    if beyond:
        warn(
            f"ActNorm scales by e^-{_LIMIT:g} to e^{_LIMIT:g}, and the spread of channel "
            f"{', '.join(map(str, beyond))} is further from 1: put a Standardize layer before it",
        )
    return log_spread


class ConditionalScale(Bijection):
    """z = exp(s(c)) x + t(c) per channel, with s and t linear in a vector condition c (B, k).

    Starts as the identity; before an `ActNorm` it lets the normalisation follow the condition,
    a noise level for example.

    Example:
        >>> layer = ConditionalScale(4, condition=2)
        >>> z, log_det = layer(torch.rand(3, 4, 8, 8), torch.rand(3, 2))
        >>> log_det.shape
        torch.Size([3])
    """

    def __init__(self, channels: int, condition: int):
        super().__init__()
        self.channels, self.condition = channels, condition
        self.linear = zeroed(nn.Linear(condition, 2 * channels))

    def forward(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        check_channels(self, x, self.channels)
        return _scaled(x, self._kept(x, c), inverse=False)

    def inverse(self, z: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        check_channels(self, z, self.channels)
        return _scaled(z, self._kept(z, c), inverse=True)

    def given(self, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The scale, the shift and log|det| for the condition c (1, k) of all items."""
        c = c.to(self.linear.weight.dtype)
        s, t = self._scale_and_shift(c, c)[0].chunk(2)
        s = soft_bound(s, _LIMIT)
        return s.exp(), t, s.sum()

    def _kept(self, x: Tensor, c: Tensor | None) -> Tensor:
        return remember(self, (c, x.dtype), lambda: self._scale_and_shift(x, c))

    def _scale_and_shift(self, x: Tensor, c: Tensor | None) -> Tensor:
        """s before it is bounded, and t: (B, 2 channels)."""
        c = check_condition(self, x, c, self.condition)
        with without_autocast(x.device.type):
            return self.linear(c.to(x.dtype))

    def extra_repr(self) -> str:
        return str(self.channels)


@region
def _scaled(x: Tensor, p: Tensor, *, inverse: bool) -> tuple[Tensor, Tensor]:
    s, t = p.view(*p.shape, *[1] * (x.dim() - 2)).chunk(2, 1)
    s = soft_bound(s, _LIMIT)
    logdet = (s.flatten(1).sum(1) * positions(x)).expand(x.shape[0])
    return ((x - t) * (-s).exp(), -logdet) if inverse else (torch.addcmul(t, x, s.exp()), logdet)
