"""Options as data: what an operator or a method can be told, declared once, in its own file.

    class Shrink(Options):
        \"\"\"What it does, in a line.\"\"\"

        strength: float = real(0.1, "How much is taken away.", above=0)
        steps: int = whole(100, "Iterations.")

Arguments and their checks, the flags of the command line and their help, and the tables of the
documentation are made of this. Nothing here needs torch.
"""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any, ClassVar, dataclass_transform

from .errors import InputError, UsageError

MOST = 10**6
LEVEL = "Noise level at which the prior is used last."
SEEDS = (-(2**62), 2**62)


class OptionError(UsageError):
    """An option with a value that makes no sense, or that means nothing where it was given.

    Made of parts, of which every other one, beginning with the first, is the name of an option, so
    that the command line can spell them as flags.
    """

    def __init__(self, *parts: str):
        super().__init__("".join(parts))
        self.parts = parts

    def spelled(self, spell: Callable[[str], str]) -> str:
        """The message with names of options as ``spell`` writes them."""
        return "".join(p if i % 2 or not p else spell(p) for i, p in enumerate(self.parts))


@dataclass(frozen=True, kw_only=True)
class Option:
    """One option.

    Attributes:
        default: its value where none is given.
        help: what it is, in a sentence or two.
        auto: what stands behind a default of None, in words.
        words: values in words that it takes besides.
        excludes: options that mean nothing once this one is given.
        required: for measurements that are no simulation: what to give, in words.
        flag: whether the command line has it.
    """

    default: Any
    help: str
    name: str = ""
    auto: str = ""
    words: tuple[str, ...] = ()
    excludes: tuple[str, ...] = ()
    required: str = ""
    flag: bool = True

    def check(self, value: Any) -> Any:
        """The value as operators and methods want it; text, as the command line has it, is read.

        Raises:
            OptionError: a value that makes no sense.
        """
        if isinstance(value, str) and value in self.words:
            return value
        right = self._converted(value)
        if right is None:
            raise OptionError(self.name, f"={short(value)}: {self.rule}")
        return right

    @property
    def rule(self) -> str:
        """What values are right, as the end of an error message."""
        return ""

    def _converted(self, value: Any) -> Any:
        """The value in its own type; None if it is none."""
        return value

    @property
    def default_text(self) -> str:
        """The default as a reader is told it; "" where there is none."""
        if self.default is None or self.auto:
            return self.auto
        return f"{self.default:g}" if isinstance(self.default, float) else str(self.default)


@dataclass(frozen=True, kw_only=True)
class Whole(Option):
    low: int = 1
    high: int = MOST

    @property
    def rule(self) -> str:
        span = f"from {self.low} to {self.high}" if self.high < 2**30 else f"from {self.low}"
        span = span if self.low > -MOST else "of at most 62 bits"
        return f"give a whole number {span}{_or(self.words)}"

    def _converted(self, value: Any) -> int | None:
        try:
            if isinstance(value, (str, float)) and float(value).is_integer():
                value = int(float(value))
            number = operator.index(value)
        except (TypeError, ValueError, OverflowError):
            return None
        return number if not isinstance(value, bool) and self.low <= number <= self.high else None


@dataclass(frozen=True, kw_only=True)
class Number(Option):
    """``several``: also a falling list; ``per_item``: also a tensor, which the method judges."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    several: bool = False
    per_item: bool = False

    @property
    def rule(self) -> str:
        if self.several:
            return "give one noise level > 0, or several to go through"
        bound = "" if self.low == -math.inf else f" {'>' if self.above else '>='} {self.low:g}"
        limit = "" if math.isinf(self.high) else f" and at most {self.high:g}"
        if self.words:
            return f"give a number{_or(self.words)}, finite and{bound}{limit}"
        return f"must be a finite number{bound}{limit}"

    def _converted(self, value: Any) -> Any:
        if self.several and isinstance(value, Sequence) and not isinstance(value, str):
            levels = [self._one(v) for v in value]
            return None if not levels or None in levels else levels
        if self.per_item and hasattr(value, "numel") and value.numel() > 1:
            return value if bool(value.isfinite().all()) else None
        return self._one(value)

    def _one(self, value: Any) -> float | None:
        number = as_number(value)
        if number is None or not math.isfinite(number) or number > self.high:
            return None
        return number if (number > self.low if self.above else number >= self.low) else None


@dataclass(frozen=True, kw_only=True)
class Choice(Option):
    choices: tuple[str, ...]

    @property
    def rule(self) -> str:
        return f"choose one of {', '.join(self.choices)}"

    def _converted(self, value: Any) -> str | None:
        return value if isinstance(value, str) and value in self.choices else None


@dataclass(frozen=True, kw_only=True)
class Switch(Option):
    @property
    def rule(self) -> str:
        return "must be True or False"

    def _converted(self, value: Any) -> bool | None:
        if isinstance(value, str):
            value = {"true": True, "false": False}.get(value)
        return bool(value) if isinstance(value, (bool, int)) and value in (0, 1) else None


@dataclass(frozen=True, kw_only=True)
class Folder(Option):
    @property
    def rule(self) -> str:
        return "give the path of a folder"

    def _converted(self, value: Any) -> str | None:
        path = os.fspath(value) if isinstance(value, (str, os.PathLike)) else ""
        return path if isinstance(path, str) and path and "\0" not in path else None


@dataclass(frozen=True, kw_only=True)
class Array(Option):
    def _converted(self, value: Any) -> Any:
        from torch import Tensor

        if not isinstance(value, Tensor):
            raise OptionError(self.name, f": must be a tensor, got {type(value).__name__}")
        if not bool(value.isfinite().all()):
            raise InputError(f"{self.name} holds NaN or Inf")
        return value.detach()


# What a declaration writes behind the equals sign. The type checker takes the annotation.


def whole(default: int | str | None, help: str, low: int = 1, high: int = MOST, **more) -> Any:
    """A whole number from ``low`` to ``high``; ``more`` are attributes of `Option`."""
    return Whole(default=default, help=help, low=low, high=high, **more)


def real(default: float | None, help: str, *, low=-math.inf, above=None, **more) -> Any:
    """A finite number from ``low`` on, or ``above`` a bound; a text may be a fraction, 25/255."""
    bound = low if above is None else above
    return Number(default=default, help=help, low=bound, above=above is not None, **more)


def choice(default: str | None, help: str, choices: Sequence[str], **more) -> Any:
    """One of several words."""
    return Choice(default=default, help=help, choices=tuple(choices), **more)


def switch(default: bool | None, help: str, **more) -> Any:
    """True or False."""
    return Switch(default=default, help=help, **more)


def folder(default: str | None, help: str, **more) -> Any:
    """The path of a folder."""
    return Folder(default=default, help=help, **more)


def array(default: None, help: str, **more) -> Any:
    """A finite tensor, from Python only."""
    return Array(default=default, help=help, flag=False, **more)


def anything(default: Any, help: str, **more) -> Any:
    """What the operator itself reads and judges: a file, a tensor, a description."""
    return Option(default=default, help=help, **more)


SPECIFIERS = (whole, real, choice, switch, folder, array, anything)


@dataclass_transform(kw_only_default=True, field_specifiers=SPECIFIERS)
class Options:
    """Base of declarations: attributes are options, and an instance holds their values.

    Raises:
        OptionError: an unknown option, or a value that makes no sense. None is the default.
    """

    declared: ClassVar[dict[str, Option]] = {}

    def __init_subclass__(cls, **kwargs: Any):
        super().__init_subclass__(**kwargs)
        own = {k: replace(v, name=k) for k, v in vars(cls).items() if isinstance(v, Option)}
        cls.declared = cls.declared | own
        for name, option in own.items():
            setattr(cls, name, option.default)

    def __init__(self, **given: Any):
        for name, value in given.items():
            if name not in self.declared:
                known = ", ".join(self.declared) or "none"
                raise OptionError(name, f" is no option of {type(self).__name__}: it has {known}")
            if value is not None:
                setattr(self, name, self.declared[name].check(value))
        for name in given:
            for other in self.declared[name].excludes:
                if given[name] is not None and given.get(other) is not None and other != "seed":
                    raise OptionError("", "give ", name, " or ", other, ", not both")

    def in_force(self) -> dict[str, Any]:
        """{name: value} for a record: arrays are left out, options excluded by others, and those
        that only Python has where they are at their default; tensors and models are "given"."""
        found = {
            name: _recorded(getattr(self, name))
            for name, option in self.declared.items()
            if not isinstance(option, Array)
            and (option.flag or getattr(self, name) is not option.default)
        }
        for name, option in self.declared.items():
            if option.excludes and getattr(self, name) is not None:
                found = {k: v for k, v in found.items() if k not in option.excludes}
        return found

    @classmethod
    def summary(cls, short: bool = False) -> str:
        """The first paragraph of the docstring, in one line; ``short``: up to its formula."""
        text = " ".join((cls.__doc__ or "").split("\n\n")[0].split()).rstrip(".")
        return text.split(":")[0].split(";")[0] if short else text


def _recorded(value: Any) -> Any:
    plain = value is None or isinstance(value, (str, bool, int, float, list, tuple))
    return value if plain else "given"


def _or(words: tuple[str, ...]) -> str:
    return "".join(f" or {word!r}" for word in words)


def as_number(value: Any) -> float | None:
    """A number of any kind, or a text with one or a fraction of two; None where it is none."""
    if isinstance(value, str):
        top, slash, bottom = value.partition("/")
        try:
            return float(top) / float(bottom) if slash else float(value)
        except (ValueError, ZeroDivisionError):
            return None
    if isinstance(value, bool) or not (isinstance(value, Real) or hasattr(value, "__float__")):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError):
        return None


def short(value: Any) -> str:
    """A value as an error message shows it."""
    text = f"{value:g}" if isinstance(value, float) else repr(value)
    if isinstance(value, str) and as_number(value) is not None:  # from the command line
        text = value
    text = " ".join(text.split())
    return text if len(text) <= 60 else text[:57] + "..."


def table(declared: dict[str, Option]) -> str:
    """The options as rows of a table in Markdown."""
    rows = ["| option | default | |", "|---|---|---|"]
    for name, option in declared.items():
        words = f" ({', '.join(option.choices)})" if isinstance(option, Choice) else ""
        text = f"{option.help.rstrip('.')}{words}".replace("|", "\\|")
        rows.append(f"| `{name}` | {option.default_text or 'none'} | {text} |")
    return "\n".join(rows)
