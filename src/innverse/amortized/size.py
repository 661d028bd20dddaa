"""Sizes that need no tuning: networks that grow with the number of simulations."""

from __future__ import annotations

from typing import Any

from ..errors import UsageError
from ..models.registry import fits

_LARGEST = 2**16
SIZES = {"layers", "width", "depth", "bins", "components", "features", "summary_width"}


def choose_size(n: int, d: int) -> dict[str, Any]:
    """Layers, widths and so on for ``n`` simulations of ``d`` parameters."""
    width, layers = next((w, k) for limit, w, k in _LADDER if n < limit)
    return {
        "layers": layers + (d > 4) * 2,
        "width": width,
        "depth": 2,
        "bins": 8,
        "components": 4 if n < 2000 else 8,
        "features": min(max(4 * d, 16 if n < 5000 else 32), 64),
        "summary_width": max(64, width),
    }


_LADDER = [(1000, 32, 3), (5000, 64, 4), (50_000, 96, 5), (float("inf"), 128, 6)]


def with_overrides(size: dict[str, Any], given: dict[str, int] | None) -> dict[str, Any]:
    """``size`` with the user's own choices over it.

    Raises:
        UsageError: an unknown key, or a value that is no whole number above 0.
    """
    for key, value in (given or {}).items():
        if key not in SIZES:
            raise UsageError(f"size has no {key!r}: it has {', '.join(sorted(SIZES))}")
        if not (fits(value, int) and value >= 1):
            raise UsageError(f"size[{key!r}] = {value!r}: give a whole number above 0")
        if value > _LARGEST:
            raise UsageError(f"size[{key!r}] = {value}: give at most {_LARGEST}")
    return size | (given or {})
