"""Builders by name: a registry, with errors that name what there is."""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
import math
import numbers
import types
from collections.abc import Callable, Sequence
from typing import Any, Union, get_args, get_origin, get_type_hints

from ..errors import InnverseError, UsageError, is_out_of_memory, unknown

KINDS = {1: "vectors (D,)", 3: "images (C, H, W)"}


class Registry:
    """Builders ``builder(shape, **config) -> model`` under their function names.

    Args:
        kind: what is built, for messages ("flow", "generator").
        package, modules: where our own builders are, imported at the first question.

    One name may stand for several builders, each for another number of axes of ``shape``.
    """

    def __init__(self, kind: str, package: str = "", modules: Sequence[str] = ()):
        self.kind, self._package, self._modules = kind, package, tuple(modules)
        self._builders: dict[str, dict[int | None, Callable]] = {}

    def register(self, builder: Any = None, *, axes: tuple = (None,), name: str = ""):
        """Make ``builder(shape, **config)`` known under its function name, or ``name``.

        ``axes`` are the lengths of the shapes that it is for: 1 for vectors, 3 for images; by
        default it looks at them itself.

        Example:
            >>> made = Registry("network")
            >>> @made.register
            ... def line(shape, *, slope: float = 1.0):
            ...     return torch.nn.Linear(*shape, *shape)
            >>> made.names(), made.about("line")[1]
            (['line'], {'slope': 1.0})
        """
        if builder is None:
            return lambda builder: self.register(builder, axes=axes, name=name)
        of_name = self._builders.setdefault(name or builder.__name__, {})
        of_name.update(dict.fromkeys(axes, builder))
        return builder

    def preset(self, name: str, builder: Any, about: str, fixed: tuple = (), **defaults):
        """Register and return ``builder`` under ``name``, with other ``defaults``.

        It has no more of the options that are ``fixed``. ``about`` is its documentation.
        """

        @functools.wraps(builder)
        def build(shape, **options):
            return builder(shape, **defaults | options)

        signature = inspect.signature(builder)
        options = [
            option.replace(default=defaults.get(key, option.default))
            for key, option in signature.parameters.items()
            if key not in fixed
        ]
        build.__name__ = build.__qualname__ = name
        build.__doc__ = f"{about}\n\n    The options are those of `{builder.__name__}`.\n"
        build.__dict__["__signature__"] = signature.replace(parameters=options)
        return self.register(build, axes=(1,))

    def names(self) -> list[str]:
        """The names that `build` knows.

        Example:
            >>> innverse.generators.names()
            ['freeform', 'gan', 'vae']
        """
        return sorted(self._all())

    def builder(self, name: str, shape: tuple[int, ...] | None = None) -> Callable:
        """The function behind a name, for items of ``shape``; an unknown one: UsageError."""
        if not isinstance(name, str) or name not in self._all():
            raise unknown(self.kind, name, self.names())
        of_name = self._builders[name]
        axes = None if shape is None else len(shape)
        found = of_name.get(axes, of_name.get(None))
        if found is None and shape is None:
            found = next(iter(of_name.values()))
        if found is None:
            kinds = " or ".join(KINDS[k] for k in sorted(k for k in of_name if k is not None))
            raise UsageError(f"{name} is for {kinds}, got shape {tuple(shape or ())}")
        return found

    def about(self, name: str) -> tuple[str, dict[str, Any]]:
        """The documentation of a name, and its options with their defaults.

        Example:
            >>> text, options = innverse.flows.about("nsf")
            >>> options["mix"], options["layers"]
            ('lu', 8)
        """
        self.builder(name)
        builders = list(dict.fromkeys(self._builders[name].values()))
        text = "\n\n".join(inspect.cleandoc(b.__doc__ or "") for b in builders)
        options = [p for b in builders for p in inspect.signature(b).parameters.values()]
        return text, {p.name: p.default for p in options if p.default is not p.empty}

    def _all(self) -> dict[str, dict[int | None, Callable]]:
        modules, self._modules = self._modules, ()
        for module in modules:
            importlib.import_module(module, self._package)
        return self._builders

    def build(self, name: str, shape: tuple[int, ...], **config):
        """Make the model ``name`` for items of ``shape``.

        Raises:
            UsageError: an unknown name or option, a value of the wrong type, or one that no model
                can be built with.

        Example:
            >>> flow = innverse.flows.build("realnvp", (2,), layers=2)
            >>> flow.sample(3).shape
            torch.Size([3, 2])
        """
        shape = _shape(shape)
        self.check(name, config, shape)
        try:
            model = self.builder(name, shape)(shape, **config)
        except InnverseError:
            raise
        except Exception as error:
            if is_out_of_memory(error):
                raise
            reason = str(error).splitlines() or [type(error).__name__]
            raise UsageError(
                f"{name} of shape {shape} cannot be built with {_written(config)}: "
                f"{reason[0][:200]}"
            ) from error
        model.name, model.config = name, dict(config)
        return model

    def check(
        self, name: str, config: dict[str, Any], shape: tuple[int, ...] | None = None
    ) -> None:
        """Compare options with the signature of the builder.

        Raises:
            UsageError: an unknown option, a value of another type than it is declared with, or a whole
                number below 0.
        """
        builder = self.builder(name, shape)
        known = [p for p in inspect.signature(builder).parameters if p != "shape"]
        try:
            hints = get_type_hints(builder)
        except NameError:  # declared with types that only type checkers import
            hints = {}
        for key, value in config.items():
            if key not in known:
                for axes, other in self._builders[name].items():
                    if axes is not None and key in inspect.signature(other).parameters:
                        raise UsageError(
                            f"{name}'s option {key!r} is for {KINDS[axes]}, and the shape "
                            f"is {shape}: choose from {', '.join(known)}"
                        )
                near = difflib.get_close_matches(key, known, 1)
                hint = f" (did you mean {near[0]!r}?)" if near else ""
                raise UsageError(f"{name} has no option {key!r}{hint}: it has {', '.join(known)}")
            if key in hints and not fits(value, hints[key]):
                raise UsageError(f"{name}: {key} = {_short(value)} is no {_spelled(hints[key])}")
            if fits(value, int) and value < 0:
                raise UsageError(f"{name}: {key} = {value}: 0 or more")


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
