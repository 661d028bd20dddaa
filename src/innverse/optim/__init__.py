"""Batched optimisers: many independent problems side by side, none of which touches another."""

from __future__ import annotations

from . import adam, lbfgs
from .result import Progress, Result

__all__ = ["Progress", "Result", "adam", "lbfgs"]
