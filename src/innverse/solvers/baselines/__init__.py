"""Reconstruction without a learned flow: what a flow has to beat."""

from __future__ import annotations

from .adaptive import solve_adaptive
from .bases import BASES, Basis
from .deep_decoder import DeepDecoder, solve_deep_decoder
from .lasso import lasso
from .methods import solve_lasso, solve_tv
from .tv import default_lam, tv

__all__ = [
    "BASES",
    "Basis",
    "DeepDecoder",
    "default_lam",
    "lasso",
    "solve_adaptive",
    "solve_deep_decoder",
    "solve_lasso",
    "solve_tv",
    "tv",
]
