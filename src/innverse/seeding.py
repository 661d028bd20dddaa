"""Leave the caller's process as it was: its random numbers, its threads, its rounding of denormals."""

from __future__ import annotations

import random
from collections.abc import Generator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def seeded(
    seed: int | None, *, threads: int | None = None, flush_denormals: bool = False
) -> Generator[None]:
    """Within the block the global generators of torch, numpy and Python start at ``seed``; after it
    all is as it was.

    Args:
        seed: None leaves the generators alone: what is drawn within, they miss afterwards.
        threads: of torch, within.
        flush_denormals: round denormal numbers to zero within (vanishing gradients make them, and
            they cost a hundred times as much).
    """
    threads_before, flushed = torch.get_num_threads(), _flushes()
    of_numpy, of_python = np.random.get_state(), random.getstate()  # noqa: NPY002
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices, enabled=seed is not None):
        try:
            if threads:
                torch.set_num_threads(threads)
            if flush_denormals:
                torch.set_flush_denormal(True)
            if seed is not None:
                torch.default_generator.manual_seed(seed)
                np.random.seed(seed % 2**32)  # noqa: NPY002 - simulators of others use it
                random.seed(seed)
            yield
        finally:
            if flush_denormals:
                torch.set_flush_denormal(flushed)
            if threads:
                torch.set_num_threads(threads_before)
            if seed is not None:
                np.random.set_state(of_numpy)  # noqa: NPY002
                random.setstate(of_python)


def _flushes() -> bool:
    """Whether denormals are zero now; torch has no other way to ask."""
    smallest = torch.finfo(torch.float64).tiny
    return bool(torch.tensor([smallest], dtype=torch.float64).mul(0.5) == 0)


def drawn_seed(generator: torch.Generator | None) -> int | None:
    """A seed from a generator, None without one."""
    if generator is None:
        return None
    return int(torch.randint(2**62, (), generator=generator, device=generator.device))
