"""A bijection run the other way round."""

from __future__ import annotations

from torch import Tensor

from .base import Bijection


class Inverse(Bijection):
    """f^-1 as a bijection: ``forward`` and ``inverse`` of ``inner`` exchanged.

    Example:
        >>> layer = Inverse(Logit())
        >>> x, log_det = layer(torch.randn(2, 4))
        >>> bool(x.min() > -0.06)
        True
    """

    def __init__(self, inner: Bijection):
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.inner.inverse(x, c)

    def inverse(self, z: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self.inner(z, c)
