"""Autoregression over coordinates: each is mapped by parameters that the earlier ones give."""

from __future__ import annotations

import torch
from torch import Tensor

from ..nets.made import MADE
from .base import Bijection, sum_per_item
from .elementwise import Affine, Elementwise, mapped


class Autoregressive(Bijection):
    """z_i = transform(x_i; net(x_<i, c)) for vectors (B, n) (Papamakarios et al. 2017, 1705.07057).

    The Jacobian is triangular. ``forward`` is one pass of the network. ``inverse`` repeats passes
    until all coordinates are known, each pass solving those whose predecessors are: as many as
    the longest chain of dependencies, ``net.passes``, n for a full ordering and 2 for two groups.

    ``net`` is a `MADE` with as many parameters per element as ``transform`` has.

    Example:
        >>> layer = Autoregressive(innverse.nets.MADE(3, 2, width=8))  # affine: 2 parameters each
        >>> z, log_det = layer(torch.rand(5, 3))
        >>> z.shape, log_det.shape
        (torch.Size([5, 3]), torch.Size([5]))
    """

    def __init__(self, net: MADE, transform: Elementwise | None = None):
        super().__init__()
        self.net, self.transform = net, transform or Affine()
        if net.n_params != self.transform.n_params:
            raise ValueError(
                f"{self.transform} takes {self.transform.n_params} parameters per element, "
                f"the network gives {net.n_params}"
            )

    def forward(self, x: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        z, log_derivative = mapped(self.transform, x, self._params(self.net(x, c), x))
        return z, sum_per_item(log_derivative)

    def inverse(self, z: Tensor, c: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x, net = torch.zeros_like(z), self.net.repeated(z, c)
        for k in range(self.net.passes):
            x, log_derivative = self.transform.inverse(z, self._params(net(x), x))
            # what is not solved yet may be huge, and 0 * inf is NaN
            x = torch.where(self.net.depth_of <= k, x, 0.0)
        return x, sum_per_item(log_derivative)

    def _params(self, p: Tensor, x: Tensor) -> Tensor:
        return self.transform.parameters(p, x, self.net.n)

    def extra_repr(self) -> str:
        return str(self.transform)
