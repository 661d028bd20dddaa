"""Architectures by name: a registry of builders, with errors that name what there is."""

from __future__ import annotations

import difflib
import inspect
import math
import numbers
import types
from collections.abc import Callable
from typing import Any, Union, get_args, get_origin, get_type_hints

from .errors import InnverseError, UsageError, is_out_of_memory


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
        if not isinstance(name, str) or name not in self._builders:
            raise UsageError(
                f"no {self.kind} is called {name!r}: choose one of {', '.join(self.names())}"
            )
        return self._builders[name]

    def build(self, name: str, shape: tuple[int, ...], **config):
        """Make the model ``name`` for items of ``shape``.

        Raises:
            UsageError: an unknown name or option, a value of the wrong type, or one that no model
                can be built with.
        """
        builder = self.builder(name)
        self.check(name, config)
        try:
            model = builder(_shape(shape), **config)
        except InnverseError:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise
            reason = str(error).splitlines() or [type(error).__name__]
            raise UsageError(
                f"{name} of shape {tuple(shape)} cannot be built with {_written(config)}: "
                f"{reason[0][:200]}"
            ) from error
        model.name, model.config = name, dict(config)
        return model

    def check(self, name: str, config: dict[str, Any]) -> None:
        """Compare options with the signature of the builder.

        Raises:
            UsageError: an unknown option, or a value of another type than it is declared with.
        """
        builder = self.builder(name)
        known = [p for p in inspect.signature(builder).parameters if p != "shape"]
        try:
            hints = get_type_hints(builder)
        except NameError:  # declared with types that only type checkers import
            hints = {}
        for key, value in config.items():
            if key not in known:
                near = difflib.get_close_matches(key, known, 1)
                hint = f" (did you mean {near[0]!r}?)" if near else ""
                raise UsageError(f"{name} has no option {key!r}{hint}: it has {', '.join(known)}")
            if key in hints and not fits(value, hints[key]):
                raise UsageError(f"{name}: {key} = {_short(value)} is no {_spelled(hints[key])}")


def fits(value: Any, hint: Any) -> bool:
    """Whether an option is of its declared type; a list passes for a tuple, an int for a float.

    Whole numbers of numpy pass for int, NaN for no number; declarations of other kinds (classes,
    functions) are not judged.
    """
    if hint is float:
        real = isinstance(value, numbers.Real) and not isinstance(value, bool)
        return real and not math.isnan(value)
    if hint is int:
        return isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if hint in (str, bool):
        return isinstance(value, hint)
    if hint is type(None):
        return value is None
    if get_origin(hint) in (Union, types.UnionType):
        return any(fits(value, part) for part in get_args(hint))
    if get_origin(hint) is tuple:
        parts = get_args(hint)
        if not isinstance(value, (tuple, list)):
            return False
        if len(parts) == 2 and parts[1] is Ellipsis:
            return all(fits(item, parts[0]) for item in value)
        return len(parts) == len(value) and all(map(fits, value, parts))
    return True


def _shape(shape) -> tuple[int, ...]:
    if not isinstance(shape, (tuple, list)):
        try:
            shape = tuple(shape)
        except TypeError:
            raise UsageError(f"shape {shape!r}: give (D,) or (C, H, W)") from None
    if not shape or not all(fits(n, int) and n >= 1 for n in shape):
        raise UsageError(f"shape {_short(tuple(shape))}: all sizes must be whole numbers >= 1")
    return tuple(int(n) for n in shape)


def _spelled(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) else str(hint)


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else text[:57] + "..."


def _written(config: dict[str, Any]) -> str:
    return ", ".join(f"{key} = {_short(value)}" for key, value in config.items()) or "no options"
