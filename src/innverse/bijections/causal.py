"""Autoregression over positions: each patch is mapped by parameters that the earlier ones give."""

from __future__ import annotations

import torch
from torch import Tensor

from ..nets.transformer import ViT
from .base import Bijection, sum_per_item, zero_logdet
from .elementwise import Affine, Elementwise, mapped


class Causal(Bijection):
    """z_i = transform(x_i; net(x_1 .. x_{i-1}, c)) for the positions i of a grid (B, C, h, w).

    The block-autoregressive layer of TarFlow (Zhai et al. 2024, arXiv 2412.06329): one parallel
    pass forward; the inverse goes position by position and keeps the keys and values of the
    attention, so it costs h w small steps. ``net`` is a causal `ViT` from C to transform.n_params * C
    channels; ``net.backwards`` turns the order round, which alternate layers should.

    Example:
        >>> layer = Causal(innverse.nets.ViT(3, 6, width=8, heads=2, causal=True))
        >>> z, log_det = layer(torch.rand(2, 3, 4, 4))
        >>> z.shape, log_det.shape
        (torch.Size([2, 3, 4, 4]), torch.Size([2]))
    """

    def __init__(self, net: ViT, transform: Elementwise | None = None):
        super().__init__()
        if not net.causal:
            raise ValueError("the network must be causal: ViT(..., causal=True)")
        self.net, self.transform = net, transform or Affine()

    def forward(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        p = self.transform.parameters(self.net(x, c), x, x.shape[1])
        z, log_derivative = mapped(self.transform, x, p)
        return z, sum_per_item(log_derivative)

    def inverse(self, z: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        self.net.check(z, c)
        net, grid = self.net, (z.shape[-2], z.shape[-1])
        tokens, places = net.to_tokens(z), net.places(z, c)
        x, total, cache = [torch.zeros_like(tokens[:, 0])], zero_logdet(z), None
        for i in range(tokens.shape[1]):
            p, cache = net.step(x[-1][:, None], places[:, i, None], cache)
            p = p[:, 0].to(z.dtype).unflatten(1, (self.transform.n_params, z.shape[1]))
            found, log_derivative = self.transform.inverse(tokens[:, i], p)
            x.append(found)
            total = total + sum_per_item(log_derivative)
        return net.to_grid(torch.stack(x[1:], 1), grid), total

    def extra_repr(self) -> str:
        return f"{self.transform}" + ", backwards" * self.net.backwards
