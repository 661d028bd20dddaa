"""Likelihoods in the units of the literature."""

from __future__ import annotations

import math

from torch import Tensor


def bits_per_dim(log_prob: Tensor, n_dims: int, levels: int = 256) -> Tensor:
    """Bits per dimension of discrete data under a density on [0, 1).

    For x = (k + u) / levels with u ~ U[0, 1), the expectation of
    ``-log2 p(x) / n + log2(levels)`` bounds the code length of k per dimension from above
    (Theis, van den Oord & Bethge, ICLR 2016).

    Args:
        log_prob: natural log-densities of x, any shape.
        n_dims: dimensions of one item, C * H * W.
        levels: number of values per dimension, 256 for 8 bits.

    Example:
        >>> log_prob = torch.zeros(2)  # a uniform density on [0, 1]^12
        >>> bits_per_dim(log_prob, 12)
        tensor([8., 8.])
    """
    return -log_prob / (n_dims * math.log(2)) + math.log2(levels)
