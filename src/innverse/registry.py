"""Architectures by name: a registry of builders, with errors that name what there is."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable

from .errors import UsageError


class Registry:
    """Builders ``builder(shape, **config) -> model`` under their function names.

    Args:
        kind: what the models are, for messages ("flow", "generator").
    """

    def __init__(self, kind: str):
        self.kind = kind
        self._builders: dict[str, Callable] = {}

    def register(self, builder: Callable) -> Callable:
        """Make ``builder(shape, **config)`` known under its function name."""
        self._builders[builder.__name__] = builder
        return builder

    def names(self) -> list[str]:
        """The names that `build` knows."""
        return sorted(self._builders)

    def builder(self, name: str) -> Callable:
        """The function behind a name; an unknown one: UsageError."""
        if name not in self._builders:
            raise UsageError(
                f"no {self.kind} is called {name!r}: choose one of {', '.join(self.names())}"
            )
        return self._builders[name]

    def build(self, name: str, shape: tuple[int, ...], **config):
        """Make the model ``name`` for items of ``shape``; unknown names, options: UsageError."""
        builder = self.builder(name)
        known = [p for p in inspect.signature(builder).parameters if p != "shape"]
        for key in config:
            if key not in known:
                near = difflib.get_close_matches(key, known, 1)
                hint = f" (did you mean {near[0]!r}?)" if near else ""
                raise UsageError(f"{name} has no option {key!r}{hint}: it has {', '.join(known)}")
        model = builder(tuple(shape), **config)
        model.name, model.config = name, dict(config)
        return model
