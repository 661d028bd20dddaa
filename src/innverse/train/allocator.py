"""Keep glibc from giving big buffers back to the kernel after every step (10-20 % of CPU time)."""

from __future__ import annotations

import ctypes
import sys

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def keep_buffers() -> bool:
    """Tell malloc to serve large blocks from its own heap and to keep what is freed.

    Only glibc has these settings; elsewhere nothing happens. Returns whether they were set.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    limit = 2**31 - 1
    settings = {_M_MMAP_MAX: 0, _M_TRIM_THRESHOLD: limit, _M_TOP_PAD: 64 * 2**20}
    return all(mallopt(name, value) == 1 for name, value in settings.items())
