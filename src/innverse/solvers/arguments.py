"""The options of all methods: what values they may have, checked before anything is computed."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any

from torch import Tensor

from ..errors import InputError, UsageError

_MOST = 10**6


def check_arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """The options as they go to a method: numbers of numpy and torch become Python's.

    Raises:
        UsageError: a value that makes no sense, in one line with the name of the option.
    """
    return {name: RULES[name](name, value) if name in RULES else value
            for name, value in given.items()}  # fmt: skip


def whole(low: int, high: int) -> Callable[[str, Any], int]:
    def check(name: str, value: Any) -> int:
        try:
            number = operator.index(value)
        except TypeError:
            number = None
        if number is None or isinstance(value, bool) or not low <= number <= high:
            raise UsageError(f"{name}={_short(value)}: must be a whole number {_within(low, high)}")
        return number

    return check


def real(low: float, high: float = math.inf, *, above: bool = False) -> Callable[[str, Any], float]:
    """A finite number from ``low`` on (``above``: beyond it)."""

    def check(name: str, value: Any) -> float:
        number = _number(value)
        right = number is not None and (number > low if above else number >= low)
        if not right or number > high or not math.isfinite(number):
            bound = f"{'> ' if above else '>= '}{low:g}"
            limit = "" if math.isinf(high) else f" and at most {high:g}"
            raise UsageError(f"{name}={_short(value)}: must be a finite number {bound}{limit}")
        return number

    return check


def _sigma(name: str, value: Any) -> float | list[float]:
    several = isinstance(value, Sequence) and not isinstance(value, str)
    levels = [_number(v) for v in value] if several else [_number(value)]
    if not levels or not all(v is not None and 0 < v < math.inf for v in levels):
        raise UsageError(
            f"sigma={_short(value)}: give one noise level > 0, or several to go through"
        )
    return levels if several else levels[0]


def _gamma(name: str, value: Any) -> float | str:
    if value == "discrepancy":
        return value
    if _number(value) is None:
        raise UsageError(f"gamma={_short(value)}: give a number or 'discrepancy'")
    return real(0)(name, value)


def _lam(name: str, value: Any):
    """One number, or one per item: their signs are the method's to judge."""
    if not isinstance(value, Tensor) or value.numel() == 1:
        return real(0)(name, value)
    if not bool(value.isfinite().all()):
        raise UsageError("lam: must be finite")
    return value


def _tile(name: str, value: Any) -> int | str | None:
    if value in ("auto", "none"):
        return value
    return whole(1, 2**31)(name, value)


def _init(name: str, value: Any) -> Tensor:
    if not isinstance(value, Tensor):
        raise UsageError(f"init: must be a tensor, got {type(value).__name__}")
    if not bool(value.isfinite().all()):
        raise InputError("init holds NaN or Inf")
    return value.detach()


def _flag(name: str, value: Any) -> bool:
    if value not in (True, False):
        raise UsageError(f"{name}={_short(value)}: must be True or False")
    return bool(value)


def _word(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise UsageError(f"{name}={_short(value)}: must be a word")
    return value


RULES: dict[str, Callable[[str, Any], Any]] = {
    "sigma": _sigma,
    "steps": whole(1, _MOST),
    "tune_steps": whole(0, _MOST),
    "restarts": whole(1, _MOST),
    "shifts": whole(1, 16),
    "draws": whole(8, _MOST),
    "chains": whole(2, 4096),
    "warmup": whole(0, _MOST),
    "strength": real(0, above=True),
    "churn": real(0, 10),
    "tile": _tile,
    "gamma": _gamma,
    "beta": real(0, above=True),
    "lam": _lam,
    "radius": real(0),
    "lr": real(0, above=True),
    "tune_lr": real(0, above=True),
    "latent_lr": real(0, above=True),
    "seed": whole(-(2**62), 2**62),
    "channels": whole(1, 4096),
    "doublings": whole(1, 16),
    "logdet": _flag,
    "init": _init,
    "start": _word,
    "penalty": _word,
    "optimizer": _word,
    "basis": _word,
}


def _number(value: Any) -> float | None:
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    if isinstance(value, bool) or not (isinstance(value, Real) or hasattr(value, "__float__")):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _within(low: int, high: int) -> str:
    return f"from {low} to {high}" if high < 2**31 else "of at most 62 bits"


def _short(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else repr(value)
    text = " ".join(text.split())
    return text if len(text) <= 60 else text[:57] + "..."
