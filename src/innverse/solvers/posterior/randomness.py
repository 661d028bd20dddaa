"""Random numbers of the chains: a function of seed, item and step, whatever else is in the batch."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

from ...seeding import stream

_JITTER = 0.4


class Streams:
    """Normal and uniform draws for ``chains`` chains of each item of y.

    An item is known by its own measurement, so that it gets the same draws alone, in a batch and
    after a resume.
    """

    def __init__(self, y: Tensor, chains: int, seed: int):
        self.chains, self.like = chains, y
        self._seeds = [_seed_of(item, seed) for item in y.detach().cpu()]

    @property
    def names(self) -> list[str]:
        """What the items are known by."""
        return [f"{seed:x}" for seed in self._seeds]

    def normal(self, shape: tuple[int, ...], step: int, purpose: str) -> Tensor:
        """(B * chains, *shape)."""
        return self._draw(torch.randn, shape, step, purpose)

    def uniform(self, step: int, purpose: str) -> Tensor:
        """(B * chains,) in [0, 1)."""
        return self._draw(torch.rand, (), step, purpose)

    def _draw(self, draw, shape: tuple[int, ...], step: int, purpose: str) -> Tensor:
        parts = []
        for seed in self._seeds:
            generator = stream(seed, step, purpose)
            parts.append(draw((self.chains, *shape), generator=generator, dtype=self.like.dtype))
        return torch.cat(parts).to(self.like.device)


def _seed_of(item: Tensor, seed: int) -> int:
    digest = hashlib.blake2b(item.contiguous().numpy().tobytes(), digest_size=8).digest()
    return int.from_bytes(digest, "little") ^ seed


def length_factor(seed: int, k: int) -> float:
    """By how much the k-th trajectory is longer or shorter than the others, so that no period of the
    target is met; the same for all chains."""
    return 1 + _JITTER * (2 * float(torch.rand((), generator=stream(seed, k, "length"))) - 1)
