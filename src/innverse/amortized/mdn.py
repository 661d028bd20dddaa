"""A mixture density network: the yardstick every flow should beat (Bishop 1994)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..gaussian import HALF_LOG_2PI
from ..nets import MLP


class Density(nn.Module):
    """q(u | c): parameters u (B, d) on the whole line, given features c (B, k)."""

    by_likelihood = True
    """Whether `loss` is -log q, so that losses are nats."""

    def loss(self, u: Tensor, c: Tensor) -> Tensor:
        """What training minimises, (B,)."""
        return -self.log_prob(u, c)

    def log_prob(self, u: Tensor, c: Tensor) -> Tensor:
        """log q(u | c), (B,)."""
        raise NotImplementedError

    def sample(self, c: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """One draw (B, d) for each row of c."""
        raise NotImplementedError

    def initialize_(self, u: Tensor, c: Tensor) -> None:
        """Set from one batch what depends on data."""


class MixtureDensity(Density):
    """q(u | c) = sum_k w_k(c) N(u; m_k(c), (L_k L_k^T)(c)^-1), with full covariances.

    The network gives, for each of ``components``, a logit, a mean and the lower-triangular factor
    of the precision, whose diagonal is exponential.

    Args:
        d, condition: dimensions of u and of c.
        components, width, depth: of the mixture and of the network.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, d: int, condition: int, components: int, width: int, depth: int):
        super().__init__()
        self.d, self.components = d, components
        rows, columns = torch.tril_indices(d, d, -1)
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("columns", columns, persistent=False)
        self.n_each = 1 + 2 * d + len(rows)
        self.net = MLP(condition, components * self.n_each, width, depth)
        # the components start apart, or they would all learn the same
        nn.init.normal_(self.net.last.bias.data.view(components, -1)[:, 1 : 1 + d])

    def log_prob(self, u: Tensor, c: Tensor) -> Tensor:
        log_w, mean, factor = self._mixture(c)
        # white = L^T (u - m), so log N = -|white|^2 / 2 + log|L|
        white = (factor.mT @ (u.unsqueeze(1) - mean).unsqueeze(-1)).squeeze(-1)
        log_det = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        log_n = log_det - 0.5 * white.square().sum(-1) - self.d * HALF_LOG_2PI
        return (log_w + log_n).logsumexp(1)

    def sample(self, c: Tensor, generator: torch.Generator | None = None) -> Tensor:
        log_w, mean, factor = self._mixture(c)
        k = torch.multinomial(log_w.exp(), 1, generator=generator)[:, 0]
        row = torch.arange(len(c))
        e = torch.randn(len(c), self.d, 1, generator=generator, dtype=c.dtype)
        step = torch.linalg.solve_triangular(factor[row, k].mT, e, upper=True)
        return mean[row, k] + step.squeeze(-1)

    def _mixture(self, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        p = self.net(c, None).view(len(c), self.components, self.n_each)
        log_w = F.log_softmax(p[..., 0], -1)
        mean, log_d, below = p[..., 1:].split((self.d, self.d, len(self.rows)), -1)
        factor = torch.diag_embed(log_d.clamp(-12, 12).exp())
        if len(self.rows):
            factor = factor.index_put(
                (
                    torch.arange(len(c))[:, None, None],
                    torch.arange(self.components)[None, :, None],
                    self.rows[None, None],
                    self.columns[None, None],
                ),
                below,
            )
        return log_w, mean, factor
