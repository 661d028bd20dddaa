"""Leave the caller's process as it was: its random numbers, its threads, its rounding of denormals."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

__all__ = ["undisturbed"]


@contextlib.contextmanager
def undisturbed(*, threads: int | None = None, flush_denormals: bool = False) -> Iterator[None]:
    """Within, torch's global generators may be seeded; afterwards they go on as if nothing had been.

    Args:
        threads: of torch, within.
        flush_denormals: round denormal numbers to zero within (vanishing gradients make them, and
            they cost a hundred times as much).
    """
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    before, flushed = torch.get_num_threads(), _flushes()
    with torch.random.fork_rng(devices=list(devices)):
        try:
            if threads:
                torch.set_num_threads(threads)
            if flush_denormals:
                torch.set_flush_denormal(True)
            yield
        finally:
            torch.set_flush_denormal(flushed)
            if threads:
                torch.set_num_threads(before)


def _flushes() -> bool:
    """Whether denormals are zero now; torch has no other way to ask."""
    smallest = torch.finfo(torch.float64).tiny
    return bool(torch.tensor([smallest], dtype=torch.float64).mul(0.5) == 0)
