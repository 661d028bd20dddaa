"""Flows by name: ``build(name, shape, **config)`` makes any registered one."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable

from ..errors import UsageError
from .flow import Flow

_BUILDERS: dict[str, Callable[..., Flow]] = {}


def register(builder: Callable[..., Flow]) -> Callable[..., Flow]:
    """Make ``builder(shape, **config) -> Flow`` known under its function name."""
    _BUILDERS[builder.__name__] = builder
    return builder


def names() -> list[str]:
    """The names that `build` knows."""
    return sorted(_BUILDERS)


def build(name: str, shape: tuple[int, ...], **config) -> Flow:
    """Make the flow ``name`` for items of ``shape``; unknown names and options: UsageError."""
    if name not in _BUILDERS:
        raise UsageError(f"no flow is called {name!r}: choose one of {', '.join(names())}")
    known = [p for p in inspect.signature(_BUILDERS[name]).parameters if p != "shape"]
    for key in config:
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            raise UsageError(f"{name} has no option {key!r}{hint}: it has {', '.join(known)}")
    flow = _BUILDERS[name](tuple(shape), **config)
    flow.name, flow.config = name, dict(config)
    return flow
