"""How a coupling divides channels: some are kept, and drive the map of the others."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Split(NamedTuple):
    """The first ``keep`` of ``channels`` channels are kept; with ``swap`` the last ones."""

    channels: int
    keep: int
    swap: bool

    @property
    def first_kept(self) -> int:
        return self.channels - self.keep if self.swap else 0

    def apart(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(kept, mapped) channels of x (B, C, ...), as views."""
        if self.swap:
            b, a = x.split((self.channels - self.keep, self.keep), 1)
        else:
            a, b = x.split((self.keep, self.channels - self.keep), 1)
        return a, b

    def merge(self, kept: Tensor, mapped: Tensor) -> Tensor:
        return torch.cat((mapped, kept) if self.swap else (kept, mapped), 1)
