"""Ctrl-C that lets a loop finish its step and save."""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import contextmanager

__all__ = ["stop_requests"]


@contextmanager
def stop_requests():
    """A list that becomes non-empty on SIGINT or SIGTERM; a second SIGINT interrupts at once."""
    requests: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield requests
        return

    def ask(signum, frame):
        if requests and signum == signal.SIGINT:
            raise KeyboardInterrupt
        requests.append(signum)
        print("stopping after this step (Ctrl-C again to stop at once)", file=sys.stderr)

    before = {s: signal.signal(s, ask) for s in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield requests
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
