"""The coupling of RealNVP for images: black squares of a checkerboard drive the white ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..shapes import check_channels
from .coupling import MaskedCoupling
from .elementwise import Elementwise


class Checkerboard(MaskedCoupling):
    """A masked coupling of images (B, C, H, W) of any size (Dinh et al. 2016, section 3.4).

    Pixels with i + j even are kept and drive the others, with ``swap`` those with i + j odd.
    ``net`` maps (B, C, H, W) to (B, n_params * C, H, W).

    Example:
        >>> layer = Checkerboard(innverse.nets.ConvNet(2, 4, hidden=8))  # sees 2 channels, maps 2
        >>> z, log_det = layer(torch.rand(1, 2, 6, 6))
        >>> z.shape
        torch.Size([1, 2, 6, 6])
    """

    def __init__(self, net: nn.Module, transform: Elementwise | None = None, *, swap: bool = False):
        super().__init__(_checkerboard(torch.zeros(2, 2), swap), net, transform)
        self.swap = swap

    def mask_for(self, x: Tensor) -> Tensor:
        check_channels(self, x, None, (4,))
        return _checkerboard(x, self.swap)

    def extra_repr(self) -> str:
        return f"{self.transform}" + ", swap" * self.swap


def _checkerboard(x: Tensor, swap: bool) -> Tensor:
    """True where pixels are kept; bool (H, W) for the image size of x."""
    i, j = (torch.arange(n, device=x.device) for n in x.shape[-2:])
    return (i[:, None] + j) % 2 == int(swap)
