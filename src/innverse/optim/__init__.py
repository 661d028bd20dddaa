"""Batched optimisers: many independent problems side by side, none of which touches another."""

from __future__ import annotations

from . import adam, lbfgs
from .result import Result, Round

__all__ = ["Result", "Round", "adam", "lbfgs"]
