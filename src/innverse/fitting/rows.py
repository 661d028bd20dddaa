"""What a training goes through, batch after batch: tensors in memory, or a DataLoader."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor

from ..errors import InputError
from ..seeding import stream, stream_seed

Batch = list[Tensor]

_MOST_BYTES = 4 << 30  # of rows that are kept on a device


def choose_batch(n: int) -> int:
    """Items of one step: about fifty steps an epoch, between 32 and 1024."""
    batch = 32
    while batch < 1024 and n > 100 * batch:
        batch *= 2
    return batch


class Rows:
    """Tensors of equal length, shuffled anew in every epoch; batches are slices.

    A batch is a function of seed, epoch and its number alone, so a resumed training sees what the
    uninterrupted one sees. The rows that do not fill a batch are left out of that epoch.

    Attributes:
        per_epoch: batches of an epoch.
    """

    def __init__(self, tensors: tuple[Tensor, ...], batch_size: int | None = None, seed: int = 0):
        n = len(tensors[0])
        self.tensors, self.seed = tensors, seed
        self.batch_size = min(batch_size or choose_batch(n), n)
        self.per_epoch = max(n // self.batch_size, 1)
        self._shuffled: tuple[int, Batch] = (-1, [])

    def keep_on(self, device: torch.device) -> None:
        """Keep the rows on ``device``, if they are few enough."""
        if sum(t.numel() * t.element_size() for t in self.tensors) <= _MOST_BYTES:
            self.tensors = tuple(t.to(device) for t in self.tensors)

    def batch(self, epoch: int, k: int) -> Batch:
        """Batch ``k`` of an epoch."""
        if self._shuffled[0] != epoch:
            order = torch.randperm(
                len(self.tensors[0]), generator=stream(self.seed, epoch, "order")
            )
            self._shuffled = epoch, [t[order.to(t.device)] for t in self.tensors]
        start = k * self.batch_size
        return [t[start : start + self.batch_size] for t in self._shuffled[1]]

    def first(self, n: int) -> tuple[Tensor, ...]:
        """The first ``n`` rows."""
        return tuple(t[:n] for t in self.tensors)


class Loader:
    """The batches of a `torch.utils.data.DataLoader`, or of any iterable that knows its length.

    Its shuffling draws from torch's global generator, which is seeded at the start of every epoch:
    a loader that draws from nothing else repeats itself, and a resumed training skips what the
    interrupted one has seen.
    """

    def __init__(self, loader, seed: int = 0):
        try:
            self.per_epoch = len(loader)
        except TypeError:
            raise InputError(
                "a loader must know its length (an epoch needs an end): give a DataLoader of a "
                "map-style dataset, or a tensor"
            ) from None
        if self.per_epoch == 0:
            raise InputError("the loader is empty: it gives no batch")
        self.loader, self.seed = loader, seed
        self._at: tuple[int, int] | None = None
        self._batches: Iterator = iter(())

    def batch(self, epoch: int, k: int) -> Batch:
        """Batch ``k`` of an epoch."""
        if self._at != (epoch, k):
            torch.default_generator.manual_seed(stream_seed(self.seed, epoch, "order"))
            self._batches = islice(iter(self.loader), k, None)
        self._at = (epoch, k + 1)
        try:
            return as_batch(next(self._batches))
        except StopIteration:
            raise InputError(
                f"the loader says that it has {self.per_epoch} batches but gave only {k}"
            ) from None

    def first(self, n: int) -> tuple[Tensor, ...]:
        """About ``n`` rows from the start of an epoch."""
        batches: list[Batch] = []
        k = 0
        while k < self.per_epoch and sum(len(b[0]) for b in batches) < n:
            batches.append(self.batch(0, k))
            k += 1
        return tuple(torch.cat(parts)[:n] for parts in zip(*batches, strict=True))


def as_batch(batch) -> Batch:
    """A batch as a list of tensors: a tensor x, or (x,) or (x, c)."""
    parts = list(batch) if isinstance(batch, (tuple, list)) else [batch]
    if not all(isinstance(t, Tensor) for t in parts):
        kinds = ", ".join(type(t).__name__ for t in parts)
        raise InputError(f"a loader must give tensors x, or pairs (x, c), but gave {kinds}")
    return parts
