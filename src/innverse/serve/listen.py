"""A socket that listens, or one line that says why not."""

from __future__ import annotations

import socket

from ..errors import UsageError


def listen(host: str, port: int) -> socket.socket:
    """
    Raises:
        UsageError: the port is taken or forbidden, or the host unknown.

    Example:
        >>> with listen("127.0.0.1", 0) as found:
        ...     found.getsockname()[0]
        '127.0.0.1'
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
        found.listen(2048)  # visitors wait until the server is up, and nobody else gets the port
    except OSError as error:
        found.close()
        reason = error.strerror or str(error)
        raise UsageError(f"--host {host} --port {port}: {reason.lower()}; take another") from None
    return found
