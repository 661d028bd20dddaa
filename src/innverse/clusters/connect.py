"""``with innverse.cluster(...)``: what is done within is done by the workers of a cluster."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Generator
from typing import Any

from ..errors import InnverseError, UsageError
from . import local
from .current import using
from .drive import Cluster

_CONNECT = 10.0  # seconds in which a scheduler answers that is there, at most


@contextlib.contextmanager
def cluster(
    address: Any,
    *,
    security: Any = None,
    memory: str | int | None = None,
    threads: int = 1,
    retries: int = 2,
    wait: float = 60.0,
) -> Generator[Cluster]:
    """Do what is within the block by the workers of a Dask cluster: many pictures of `restore`, the
    chains of ``method="posterior"``, simulations, the parts of a study.

    The result does not depend on how many workers there are, nor on which of them die on the way.
    Whoever reaches the ports of a Dask cluster runs code there: open ones belong on a network of
    your own, or behind TLS.

    Args:
        address: "local:4", four processes of this machine that listen on its loopback only;
            "tcp://host:8786" or "tls://host:8786" of a scheduler, or its scheduler file (.json); or a
            cluster or client object of Dask, such as that of dask-jobqueue.
        security: for TLS: a `distributed.Security`, or a dictionary of what that takes. None takes what
            Dask's own configuration says.
        memory: most bytes of a local worker ("4 GB"); an equal share of the machine's by default.
        threads: of torch, within a chunk of work; results may differ in the last bits with others.
        retries: how often a chunk is done again that raised an error, before it is given up and named.
        wait: seconds to wait for a scheduler or workers that are not there, or not any more.

    Yields:
        The `Cluster`; ``workers`` is how many there are.

    Raises:
        UsageError: an address that is none.
        InnverseError: Dask is not installed, nobody answers, or workers have other versions.

    Example:
        >>> pictures = [torch.rand(1, 8, 8) for _ in range(3)]
        >>> with innverse.cluster("local:1"):
        ...     results = innverse.restore(pictures, "denoising", noise=0.1, method="tv")
        >>> [r.converged for r in results]
        [True, True, True]
    """
    try:
        import distributed
    except ImportError:
        raise InnverseError(
            'a cluster needs Dask distributed: pip install "innverse[cluster]"'
        ) from None
    with contextlib.ExitStack() as stack:
        if not logging.getLogger().isEnabledFor(logging.INFO):  # -v of the command line
            stack.enter_context(_quiet(logging.getLogger("distributed")))
        if isinstance(security, dict):
            security = distributed.Security(**security)
        if isinstance(address, str):
            name = address
            target: Any = _target(address, memory, security)
            if not isinstance(target, (str, dict)):
                stack.callback(_closed, target)
        else:
            target, name = (
                address,
                str(getattr(address, "scheduler_address", type(address).__name__)),
            )
        own = isinstance(target, distributed.Client)  # which is the caller's to close

        def connect() -> Any:
            if own:
                return _Borrowed(target)
            given = target if isinstance(target, dict) else {"address": target}
            return distributed.Client(
                **given,
                security=security,
                timeout=min(_CONNECT, max(wait, 1)),
                set_as_default=False,
            )

        found = Cluster(connect, name, threads=threads, retries=retries, wait=wait)
        stack.callback(found.close)
        found.open()
        with using(found):
            yield found


def _target(address: str, memory: str | int | None, security: Any) -> Any:
    """What a client is made of: an address, a scheduler file, or workers that are started here."""
    if address.partition(":")[0] == "local":
        count = re.fullmatch(r"local:([1-9]\d{0,3})", address)
        if count is None:
            raise UsageError(f"cluster {address}: give the number of workers, local:4")
        if security is not None:
            raise UsageError("cluster local: is on the loopback, without TLS: leave security out")
        return local.start(int(count[1]), memory)
    if memory is not None:
        raise UsageError(f"memory is that of local workers: give {address} its limit with them")
    if address.endswith(".json"):
        return {"scheduler_file": address}
    host = r"(?:tcp|tls|wss?|ucx)://(?:\[[^\]]+\]|[^:/\s]+)"
    found = re.fullmatch(host + r"(?::(\d+))?(?:/.*)?", address)
    if found is None or int(found[1] or 0) >= 2**16:
        raise UsageError(
            f"cluster {address}: give local:4, the address of a scheduler (tcp://host:8786, "
            "tls://host:8786), or its scheduler file (.json)"
        )
    return address


def _closed(started: Any) -> None:
    with contextlib.suppress(Exception):
        started.close(timeout=10)


class _Borrowed:
    """A client that somebody else closes."""

    def __init__(self, client: Any):
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def close(self, timeout: float = 0) -> None:
        pass


@contextlib.contextmanager
def _quiet(logger: logging.Logger) -> Generator[None]:
    """Within the block nothing is heard of it and those below: Dask tells of every worker that goes."""
    before = logger.propagate, logger.handlers
    silent: list[logging.Handler] = [logging.NullHandler()]
    logger.propagate, logger.handlers = False, silent
    try:
        yield
    finally:
        logger.propagate, logger.handlers = before
