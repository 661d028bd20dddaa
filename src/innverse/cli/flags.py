"""Flags of the command line, made of the options that operators and methods declare."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import make_dataclass
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from ..catalog import METHODS, OPERATORS, Catalog
from ..errors import UsageError
from ..options import Choice, Number, Option, OptionError, Switch, Whole

_SPELLED = {"x_range": "range"}  # where a flag is called differently
_HINTS: dict[type, Any] = {Whole: int, Number: float, Switch: Literal["true", "false"]}
_TAKEN = ("seed",)  # which every verb has


def spell(option: str) -> str:
    """The flag of an option."""
    return f"--{_SPELLED.get(option, option).replace('_', '-')}"


def spelled(error: OptionError) -> UsageError:
    """The same error with flags for options."""
    return UsageError(error.spelled(spell))


def flags_of(catalogs: Iterable[Catalog] = (OPERATORS, METHODS), without=()) -> type:
    """A dataclass of all flags that operators and methods have; each is a text, or None."""
    owners: dict[str, dict[str, Option]] = {}
    for catalog in catalogs:
        for owner in catalog:
            for name, option in catalog.declared(owner).declared.items():
                if option.flag and name not in (*_TAKEN, *without):
                    owners.setdefault(name, {})[owner] = option
    fields = [(name, parameter(each), None) for name, each in owners.items()]
    # not of the standard library, whose classes cyclopts does not look into
    return make_dataclass("Flags", fields, namespace={"__module__": __name__})


def parameter(owners: Mapping[str, Option]) -> Any:
    """The type of a flag that several declare, {owner: option}, with its help."""
    kinds = {type(option) for option in owners.values()}
    hint = _HINTS.get(kinds.pop(), str) if len(kinds) == 1 else str
    words = dict.fromkeys(w for o in owners.values() if isinstance(o, Choice) for w in o.choices)
    if words:  # several may know different ones
        hint = Literal[tuple(words)]  # ty: ignore[invalid-type-form]  # made at run time
    told = Parameter(help=help_of(owners), converter=_as_written, negative=())
    return Annotated[hint | None, told]


def help_of(owners: Mapping[str, Option]) -> str:
    """What a flag means, to whom, and its defaults."""
    texts = _together((owner, o.help.rstrip(".")) for owner, o in owners.items())
    text = "; ".join(f"{words} ({', '.join(who)})" for words, who in texts.items())
    defaults = _together((owner, _typed(o)) for owner, o in owners.items())
    if list(defaults) == [""]:
        return f"{text}."
    if len(defaults) == 1:
        return f"{text}. [default: {next(iter(defaults))}]"
    each = ", ".join(f"{words} for {' and '.join(who)}" for words, who in defaults.items() if words)
    return f"{text}. [default: {each}]"


def _typed(option) -> str:
    """The default as one types it here."""
    return option.default_text.lower() if isinstance(option.default, bool) else option.default_text


def _together(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for owner, text in pairs:
        found.setdefault(text, []).append(owner)
    return found


def _as_written(kind: Any, tokens: Any) -> str:
    """The text: whoever declared the option reads it."""
    return tokens[0].value
