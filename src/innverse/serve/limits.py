"""How much a server takes on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What bounds the memory, the time and the disk (none) of a server.

    Attributes:
        upload: bytes of a file.
        pixels: of a picture that is solved; larger ones are reduced.
        exact: pixels of which the posterior is sampled exactly.
        quick: likewise approximately.
        pictures: uploads that are kept, the newest.
        waiting: jobs that may wait; more are refused (429).
        finished: jobs whose results are kept, the newest.
        seconds: of one job.
        keep: seconds after which uploads and results are forgotten.

    Example:
        >>> Limits(waiting=2).waiting
        2
    """

    upload: int = 16 * 2**20
    pixels: int = 2**20
    exact: int = 64 * 64
    quick: int = 128 * 128
    pictures: int = 64
    waiting: int = 16
    finished: int = 64
    seconds: float = 900.0
    keep: float = 3600.0
