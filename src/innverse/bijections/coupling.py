"""Couplings: part of x is kept and drives the map of the rest, so the Jacobian is triangular."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..accelerate.coupling import fused
from ..accelerate.regions import region
from ..accelerate.split import Split
from ..errors import ShapeError
from ..shapes import check_channels
from .base import Bijection, sum_per_item
from .elementwise import Affine, Elementwise, mapped


@fused
class Coupling(Bijection):
    """Keep some channels a, map the others b: z = (a, transform(b; net(a, c))) (Dinh et al. 2016).

    ``net`` takes (a, c) with ``keep`` channels and gives transform.n_params * (channels - keep)
    channels. ``keep`` defaults to half (rounded up); with ``swap`` the last channels are kept
    instead of the first.

    Example:
        >>> layer = Coupling.build(6, innverse.nets.MLP)
        >>> x = torch.rand(2, 6)
        >>> z, log_det = layer(x)
        >>> torch.equal(z[:, :3], x[:, :3])  # these are kept, and drive the map of the others
        True
    """

    def __init__(
        self,
        channels: int,
        net: nn.Module,
        transform: Elementwise | None = None,
        *,
        keep: int | None = None,
        swap: bool = False,
    ):
        super().__init__()
        if channels < 2:
            raise ValueError(f"a coupling splits channels: it needs at least 2, got {channels}")
        if keep is not None and not 0 < keep < channels:
            raise ValueError(f"keep={keep}: of {channels} channels some are kept, and some not")
        self.channels, self.net, self.transform = channels, net, transform or Affine()
        self.split = Split(channels, (channels + 1) // 2 if keep is None else keep, swap)

    @classmethod
    def build(
        cls,
        channels: int,
        make_net: Callable[[int, int], nn.Module],
        transform: Elementwise | None = None,
        *,
        swap: bool = False,
    ) -> Coupling:
        """A coupling of halves whose network is ``make_net(in_channels, out_channels)``."""
        transform = transform or Affine()
        keep = (channels + 1) // 2
        net = make_net(keep, transform.n_params * (channels - keep))
        return cls(channels, net, transform, keep=keep, swap=swap)

    def forward(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self._mapped(x, c, inverse=False)

    def inverse(self, z: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self._mapped(z, c, inverse=True)

    def _mapped(self, x: Tensor, c: Tensor | None, *, inverse: bool) -> tuple[Tensor, Tensor]:
        check_channels(self, x, self.channels)
        p = self.net(self.split.apart(x)[0], c)
        return _map(x, p, split=self.split, transform=self.transform, inverse=inverse)

    def pull_back(self, z, g_z, g_logdet, c, tape):
        # a passes unchanged, so one evaluation of the network serves inversion and gradient
        (a, b_out), (g_a, g_b) = self.split.apart(z), self.split.apart(g_z)
        with tape.recompute():
            a = a.detach().requires_grad_()
            p = self._params(a, c)
            with torch.no_grad():
                b, _ = self.transform.inverse(b_out, p)
            b = b.detach().requires_grad_()
            y, log_derivative = self.transform.forward(b, p)
            outputs = y, sum_per_item(log_derivative)
        da, db = tape.collect(outputs, (g_b, g_logdet), (a, b), c, self.net)
        return self.split.merge(a.detach(), b.detach()), self.split.merge(g_a + da, db)

    def _params(self, a: Tensor, c: Tensor | None) -> Tensor:
        return self.transform.parameters(self.net(a, c), a, self.channels - self.split.keep)

    def extra_repr(self) -> str:
        _, keep, swap = self.split
        return f"{keep} -> {self.channels - keep}, {self.transform}" + ", swap" * swap


@region
def _map(
    x: Tensor, p: Tensor, *, split: Split, transform: Any, inverse: bool
) -> tuple[Tensor, Tensor]:
    """What a coupling makes of x, and log|det|, where its network gives p."""
    a, b = split.apart(x)
    run = transform.inverse if inverse else transform.forward
    b, log_derivative = run(b, transform.parameters(p, a, split.channels - split.keep))
    return split.merge(a, b), sum_per_item(log_derivative)


class MaskedCoupling(Bijection):
    """A coupling split by a 0/1 ``mask`` of shape (C, *space) instead of by channels.

    Elements where the mask is 1 are kept; z = m x + (1 - m) transform(x; net(m x, c)). ``net`` maps
    (B, C, *space) to (B, n_params * C, *space).

    Example:
        >>> mask = torch.tensor([1, 0, 1, 0])  # 1: kept
        >>> layer = MaskedCoupling(mask, innverse.nets.MLP(4, 8))
        >>> x = torch.rand(2, 4)
        >>> torch.equal(layer(x)[0][:, ::2], x[:, ::2])
        True
    """

    mask: Tensor

    def __init__(self, mask: Tensor, net: nn.Module, transform: Elementwise | None = None):
        super().__init__()
        mask = torch.as_tensor(mask)
        if not mask.is_meta and not bool(((mask == 0) | (mask == 1)).all()):
            raise ValueError("mask must hold only 0 (mapped) and 1 (kept)")
        self.register_buffer("mask", mask.bool())
        self.net, self.transform = net, transform or Affine()

    def forward(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self._merge(x, *mapped(self.transform, x, self._params(x, c)))

    def inverse(self, z: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self._merge(z, *mapped(self.transform, z, self._params(z, c), inverse=True))

    def pull_back(self, z, g_z, g_logdet, c, tape):
        mask = self.mask_for(z)
        with tape.recompute():
            kept = torch.where(mask, z, 0.0).detach().requires_grad_()
            p = self._params(kept, c)
            with torch.no_grad():
                x, _ = self._merge(z, *self.transform.inverse(z, p))
            x = x.detach().requires_grad_()
            outputs = self._merge(x, *self.transform.forward(x, p))
        g_kept, g_x = tape.collect(outputs, (g_z, g_logdet), (kept, x), c, self.net)
        return x.detach(), g_x + torch.where(mask, g_kept, 0.0)

    def mask_for(self, x: Tensor) -> Tensor:
        """The mask that fits x, True where elements are kept."""
        mask = self.mask.shape
        if len(mask) != x.dim() - 1 or any(m not in (1, n) for m, n in zip(mask, x.shape[1:])):
            raise ShapeError(f"a mask {tuple(mask)} does not fit x {tuple(x.shape)}")
        return self.mask

    def _params(self, x: Tensor, c: Tensor | None) -> Tensor:
        p = self.net(torch.where(self.mask_for(x), x, 0.0), c)
        return self.transform.parameters(p, x, x.shape[1])

    def _merge(self, kept: Tensor, mapped: Tensor, log_derivative: Tensor):
        mask = self.mask_for(kept)
        logdet = sum_per_item(torch.where(mask, 0.0, log_derivative))
        return torch.where(mask, kept, mapped), logdet

    def extra_repr(self) -> str:
        return f"mask={tuple(self.mask.shape)}, {self.transform}"


class Diagonal(Bijection):
    """The same learned map of one variable at every position, one per channel.

    Example:
        >>> z, log_det = Diagonal(4)(torch.rand(2, 4))
        >>> log_det.shape
        torch.Size([2])
    """

    def __init__(self, channels: int, transform: Elementwise | None = None):
        super().__init__()
        self.transform = transform or Affine()
        self.p = nn.Parameter(torch.zeros(self.transform.n_params, channels))

    def forward(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z, log_derivative = self.transform.forward(x, self._params(x))
        return z, sum_per_item(log_derivative)

    def inverse(self, z: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x, log_derivative = self.transform.inverse(z, self._params(z))
        return x, sum_per_item(log_derivative)

    def _params(self, x: Tensor) -> Tensor:
        check_channels(self, x, self.p.shape[1])
        p = self.p.view(1, *self.p.shape, *[1] * (x.dim() - 2))
        return p.expand(x.shape[0], -1, -1, *x.shape[2:])

    def extra_repr(self) -> str:
        return f"{self.p.shape[1]}, {self.transform}"
