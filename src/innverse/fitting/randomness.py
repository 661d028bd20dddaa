"""All randomness of a run as a pure function of (seed, step, purpose).

There is no generator state to save: a resumed run draws the very numbers the uninterrupted one
would have drawn.
"""

from __future__ import annotations

import hashlib

import torch

__all__ = ["generator", "stream_seed"]


def stream_seed(seed: int, step: int, purpose: str) -> int:
    """A 63-bit seed; different arguments give unrelated streams."""
    digest = hashlib.blake2b(f"{seed}/{step}/{purpose}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def generator(seed: int, step: int, purpose: str) -> torch.Generator:
    """A CPU generator for one purpose at one step."""
    return torch.Generator().manual_seed(stream_seed(seed, step, purpose))
