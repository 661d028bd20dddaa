"""Seeds, and the caller's process as it was.

Streams are pure functions of (seed, step, purpose) without a state to save: a resumed run draws the
very numbers the uninterrupted one would have drawn.
"""

from __future__ import annotations

import hashlib
import numbers
import random
from collections.abc import Generator
from contextlib import contextmanager

import numpy as np
import torch

from .errors import UsageError


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

    Raises:
        UsageError: a seed that is no whole number of 64 bits.
    """
    if seed is not None:
        if not (isinstance(seed, numbers.Integral) and -(2**63) <= seed < 2**64):
            raise UsageError(f"seed={seed!r}: give a whole number, 0 to {2**63 - 1}")
        seed = int(seed)
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
                if devices:
                    torch.cuda.manual_seed_all(seed)
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


def reseed(seed: int, device: torch.device | str | None = None) -> None:
    """Let torch's global generators, the CPU's and the device's, start at ``seed``."""
    torch.default_generator.manual_seed(seed)
    # others are left alone: a call with its traceback would be queued for every absent device
    if device is not None and torch.device(device).type == "cuda":
        torch.cuda.manual_seed_all(seed)


def drawn_seed(generator: torch.Generator | None) -> int | None:
    """A seed from a generator, None without one."""
    if generator is None:
        return None
    return int(torch.randint(2**62, (), generator=generator, device=generator.device))


def fixed_signs(shape: tuple[int, ...], seed: int, like: torch.Tensor) -> torch.Tensor:
    """Random -1 and 1 in the type of ``like``, the same for a seed at every call: constants also within
    `torch.func.vmap`, which refuses draws of torch."""
    bits = np.random.default_rng(seed).integers(0, 2, shape, dtype=np.int8)
    return torch.from_numpy(2 * bits - 1).to(like)


def stream_seed(seed: int, step: int, purpose: str) -> int:
    """A 63-bit seed; different arguments give unrelated streams."""
    digest = hashlib.blake2b(f"{seed}/{step}/{purpose}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def stream(seed: int, step: int, purpose: str) -> torch.Generator:
    """A CPU generator for one purpose at one step."""
    return torch.Generator().manual_seed(stream_seed(seed, step, purpose))
