"""What convolutions share: boundary rules as index maps, and FFT sizes."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

BOUNDARIES = ("circular", "reflect", "symmetric", "replicate", "zero")


def fold(index: Tensor, n: int, boundary: str) -> Tensor:
    """Map positions outside 0..n-1 back into the line of n pixels; -1 stands for a zero.

    "reflect" does not repeat the edge pixel (as in torch and numpy), "symmetric" does (as in MATLAB);
    both may fold many times.
    """
    if boundary == "circular":
        return index % n
    if boundary == "replicate":
        return index.clamp(0, n - 1)
    if boundary == "reflect":
        if n == 1:
            return torch.zeros_like(index)
        index = index % (2 * n - 2)
        return torch.minimum(index, 2 * n - 2 - index)
    if boundary == "symmetric":
        index = index % (2 * n)
        return torch.minimum(index, 2 * n - 1 - index)
    return torch.where((index < 0) | (index >= n), -1, index)


@lru_cache(maxsize=512)
def fast_size(n: int) -> int:
    """The smallest product of 2, 3 and 5 that is >= n: such FFTs are fast."""
    while True:
        rest = n
        for p in (2, 3, 5):
            while rest % p == 0:
                rest //= p
        if rest == 1:
            return n
        n += 1
