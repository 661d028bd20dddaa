"""Seeds: of the global generators, and of streams that are pure functions of (seed, step, purpose).

Streams have no state to save: a resumed run draws the very numbers the uninterrupted one would have
drawn.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Generator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def seeded(seed: int | None) -> Generator[None]:
    """Within the block all global generators (the CPU's) start at ``seed``; after it they are as
    they were. None leaves them alone."""
    if seed is None:
        yield
        return
    of_numpy, of_python = np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            np.random.seed(seed % 2**32)  # noqa: NPY002 - simulators of others use it
            random.seed(seed)
            yield
    finally:
        np.random.set_state(of_numpy)  # noqa: NPY002
        random.setstate(of_python)


def drawn_seed(generator: torch.Generator | None) -> int | None:
    """A seed from a generator, None without one."""
    if generator is None:
        return None
    return int(torch.randint(2**62, (), generator=generator, device=generator.device))


def stream_seed(seed: int, step: int, purpose: str) -> int:
    """A 63-bit seed; different arguments give unrelated streams."""
    digest = hashlib.blake2b(f"{seed}/{step}/{purpose}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def stream(seed: int, step: int, purpose: str) -> torch.Generator:
    """A CPU generator for one purpose at one step."""
    return torch.Generator().manual_seed(stream_seed(seed, step, purpose))
