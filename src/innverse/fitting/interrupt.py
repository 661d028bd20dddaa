"""Ctrl-C, a closed terminal, or a request of the system: the loop finishes its step and saves."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from contextlib import contextmanager

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")


@contextmanager
def stop_requests():
    """A list that becomes non-empty on SIGINT, SIGTERM or SIGHUP; a second SIGINT interrupts at once.

    A signal that this process ignores, as SIGHUP under nohup, stays ignored.
    """
    requests: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield requests
        return

    def ask(signum, frame):
        if requests and signum == signal.SIGINT:
            raise KeyboardInterrupt
        requests.append(signum)
        with contextlib.suppress(OSError, ValueError):  # the terminal may be gone
            print("stopping after this step (Ctrl-C again to stop at once)", file=sys.stderr)

    known = [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]
    known = [s for s in known if signal.getsignal(s) not in (signal.SIG_IGN, None)]
    before = {s: signal.signal(s, ask) for s in known}
    try:
        yield requests
    finally:
        for s, handler in before.items():
            signal.signal(s, handler)
