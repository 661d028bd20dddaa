"""The units of the data: each channel to mean 0 and spread 1, by numbers that no training moves."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..derived import register_derived
from ..shapes import check_channels, positions
from .base import Bijection, other_axes


class Standardize(Bijection):
    """z = (x - loc) / scale per channel; x, z (B, C, *space) with C = ``channels``.

    The identity until `initialize` takes mean and standard deviation of a batch. Both are kept, and
    x is taken apart, in float64, so columns of 1e9 and of 1e-9, or 1e9 with a spread of 1, lose no
    digits; z has the type of the other layers. A channel that is constant in the batch keeps
    scale 1.

    Example:
        >>> layer = Standardize(2)
        >>> x = 100 + 5 * torch.randn(1000, 2)
        >>> initialize(layer, x)
        >>> z, log_det = layer(x)
        >>> bool(z.mean(0).abs().max() < 1e-3)
        True
    """

    loc: Tensor
    scale: Tensor
    unit: Tensor
    initialized: Tensor

    def __init__(self, channels: int):
        super().__init__()
        self.register_buffer("loc", torch.zeros(channels, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(channels, dtype=torch.float64))
        self.register_buffer("initialized", torch.tensor(False))
        # the type of z: floating buffers follow .double() and .float()
        register_derived(self, unit=torch.ones(()))

    def derive(self) -> dict[str, Tensor]:
        return {"unit": torch.ones((), device="cpu")}

    def forward(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        check_channels(self, x, len(self.loc))
        z = self.standardized(x)
        return z, -self._logdet(x, z)

    def standardized(self, x: Tensor) -> Tensor:
        """z alone."""
        return ((x - _beside(self.loc, x)) / _beside(self.scale, x)).to(self.unit.dtype)

    def inverse(self, z: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        check_channels(self, z, len(self.loc))
        x = (z * _beside(self.scale, z) + _beside(self.loc, z)).to(z.dtype)
        return x, self._logdet(z, z)

    def initialize_(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        if not self.initialized:
            self.loc.copy_(x.double().mean(other_axes(x)))
            spread = spread_of(x)
            self.scale.copy_(torch.where(spread > 0, spread, 1.0))
            self.initialized.fill_(True)
        return self(x, c)[0]

    def _logdet(self, like: Tensor, z: Tensor) -> Tensor:
        total = self.scale.log().sum() * positions(like)
        return total.to(torch.promote_types(z.dtype, torch.float32)).expand(len(like))

    def _apply(self, fn, recurse: bool = True):
        """To another device or type, of which ``loc`` and ``scale`` follow the device only."""
        kept = self.loc, self.scale
        super()._apply(fn, recurse)
        for name, before in zip(("loc", "scale"), kept, strict=True):
            moved = getattr(self, name)
            same = moved.dtype == before.dtype or before.is_meta
            self._buffers[name] = moved.double() if same else before.to(moved.device)
        return self

    def extra_repr(self) -> str:
        return str(len(self.loc))


def standardizes(bijection: nn.Module) -> bool:
    """Whether the first thing that ``bijection`` does is to `Standardize`."""
    while layers := getattr(bijection, "layers", None):
        bijection = layers[0]
    return isinstance(bijection, Standardize)


def spread_of(x: Tensor) -> Tensor:
    """The standard deviation of each channel of x (B, C, *space) -> (C,), in float64.

    Exactly 0 where all values of a channel are the same.
    """
    x, over = x.double(), other_axes(x)
    apart = x - _beside(x[0].reshape(x.shape[1], -1)[:, 0], x)
    most = apart.abs().amax(over)  # by which squares neither overflow nor vanish
    unit = torch.where(most > 0, most, 1.0)
    return (apart / _beside(unit, x)).var(over, correction=0).sqrt() * most


def _beside(channel: Tensor, x: Tensor) -> Tensor:
    return channel.view(-1, *[1] * (x.dim() - 2))
