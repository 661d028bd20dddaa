"""Whether there is a cluster, and which."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .drive import Cluster

_ACTIVE: ContextVar[Cluster | None] = ContextVar("cluster", default=None)


def active() -> Cluster | None:
    """The cluster of the ``with innverse.cluster(...)`` around the caller; None without one, and in
    the workers.

    Example:
        >>> active() is None
        True
    """
    return _ACTIVE.get()


@contextmanager
def using(cluster: Cluster | None) -> Generator[None]:
    """Within the block `active` gives ``cluster``."""
    token = _ACTIVE.set(cluster)
    try:
        yield
    finally:
        _ACTIVE.reset(token)
