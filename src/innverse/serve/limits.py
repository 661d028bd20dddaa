"""How much a server takes on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What bounds the memory, the time and the disk (none) of a server.

    Attributes:
        upload: bytes of a file.
        decoded: pixels of a file; more are refused before they are decoded.
        pixels: of a picture that is solved; larger ones are reduced.
        exact: pixels of which the posterior is sampled exactly.
        quick: likewise approximately.
        memory: bytes of uploads that are kept, and as many of results; the oldest go first.
        waiting: jobs that may wait; more are refused (429).
        finished: jobs whose results are kept, the newest.
        seconds: of one job.
        patience: seconds after which a job is given up that nobody has asked after.
        keep: seconds after which uploads and results are forgotten.

    Example:
        >>> Limits(waiting=2).waiting
        2
    """

    upload: int = 16 * 2**20
    decoded: int = 2**26
    pixels: int = 2**20
    exact: int = 64 * 64
    quick: int = 128 * 128
    memory: int = 2**28
    waiting: int = 16
    finished: int = 1000
    seconds: float = 900.0
    patience: float = 300.0
    keep: float = 3600.0
