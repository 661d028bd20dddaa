"""Reconstruction without a learned flow: what a flow has to beat."""

from __future__ import annotations

from .bases import BASES, Basis
from .deep_decoder import DeepDecoder
from .lasso import lasso
from .tv import default_lam, tv

__all__ = [
    "BASES",
    "Basis",
    "DeepDecoder",
    "default_lam",
    "lasso",
    "tv",
]
