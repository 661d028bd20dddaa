"""Randomness that nobody hands a generator to: the global ones of torch, numpy and Python."""

from __future__ import annotations

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
