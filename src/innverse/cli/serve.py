"""``innverse serve``: try it in the browser."""

from __future__ import annotations

import re
import secrets
from typing import Annotated

from cyclopts import Parameter

from ..errors import InnverseError, UsageError
from .options import note


def serve(
    *,
    port: int = 8000,
    host: str = "127.0.0.1",
    token: Annotated[str | None, Parameter(env_var="INNVERSE_TOKEN")] = None,
    waiting: int = 16,
    seconds: float = 900.0,
    keep: float = 3600.0,
) -> int:
    """Serve a page to repair photographs with, to see samples, and to play with a simulator.

    innverse serve
    innverse serve --port 9000

    It answers this machine alone, and needs no network. With another --host it asks for a token, which
    is part of the address that it prints; whoever knows it may let it compute, and traffic is not
    encrypted, so put it behind a server that speaks TLS. Nothing is written to the disk; uploads and
    results are forgotten after an hour.

    Parameters
    ----------
    port
        0 takes a free one.
    host
        Address to listen at.
    token
        A secret of your own, for other hosts; INNVERSE_TOKEN keeps it out of the list of
        processes. [default: a new one]
    waiting
        Jobs that may wait in the line.
    seconds
        The most that one job may take.
    keep
        Seconds after which uploads and results are forgotten.
    """
    if not 0 <= port < 65536:
        raise UsageError(f"--port {port}: must be from 0 to 65535")
    if waiting < 1 or not (seconds > 0 and keep > 0):
        raise UsageError("--waiting, --seconds and --keep must be positive")
    if token is not None and not re.fullmatch(r"[\w.~-]{8,}", token, re.A):
        raise UsageError("--token: at least 8 letters, digits and .~_-, which an address can hold")
    try:
        import uvicorn

        from ..serve.app import LOOPBACK, create
    except ModuleNotFoundError as missing:
        raise InnverseError(
            f"serve needs {missing.name}, which is not installed: pip install 'innverse[web]'"
        ) from None
    from ..serve.limits import Limits
    from ..serve.listen import listen

    local = host in ("localhost", "127.0.0.1", "::1")
    secret = token or (None if local else secrets.token_urlsafe(24))
    socket = listen(host, port)
    number = socket.getsockname()[1]
    limits = Limits(waiting=waiting, seconds=seconds, keep=keep)
    app = create(limits, secret, LOOPBACK if local else ("*",))
    everywhere = host in ("0.0.0.0", "::")  # which is no address to open
    shown = "localhost" if everywhere else f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{number}/" + (f"?token={secret}" if secret else "")
    note(f"innverse serve: {address} (Ctrl-C stops it)", False)
    if everywhere:
        note("from other machines: the same with the name of this one instead of localhost", False)
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False,
        limit_concurrency=500, timeout_graceful_shutdown=5,
    )  # fmt: skip
    uvicorn.Server(config).run(sockets=[socket])
    return 0
