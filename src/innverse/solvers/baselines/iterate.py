"""What an iterative baseline hands back."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass
class Iterate:
    """Images x (B, C, H, W); per item the iterations it took, and whether it settled (B,)."""

    x: Tensor
    iterations: Tensor
    settled: Tensor
