"""What is computed once from an operator's numbers and kept, in a bounded number of bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class Kept:
    """{key: a tensor or several}; beyond ``limit`` bytes what was not used for longest is forgotten.

    What was made last stays, however large it is.
    """

    def __init__(self, limit: int = 2**26):
        self.limit = limit
        self.found: dict[tuple, Any] = {}  # what was used last comes last

    def __call__(self, key: tuple, make: Callable[[], Any]) -> Any:
        """What is kept under ``key``; ``make()`` where there is nothing yet."""
        kept = self.found.pop(key, self)  # itself where there is none
        new = kept is self
        self.found[key] = kept = make() if new else kept
        while new and len(self.found) > 1 and self.nbytes > self.limit:
            self.found.pop(next(iter(self.found)), None)
        return kept

    @property
    def nbytes(self) -> int:
        every = (_parts(kept) for kept in [*self.found.values()])
        storages = {t.untyped_storage().data_ptr(): t.untyped_storage() for ts in every for t in ts}
        return sum(storage.nbytes() for storage in storages.values())


def _parts(kept: Any) -> list[Tensor]:
    """The dense tensors that something is made of."""
    if not isinstance(kept, Tensor):
        return [t for part in kept or () for t in _parts(part)]
    if kept.layout == torch.sparse_csr:
        return [kept.crow_indices(), kept.col_indices(), kept.values()]
    if kept.layout == torch.sparse_coo:
        return [kept.indices(), kept.values()]
    return [kept]
