"""Reconstruction without a learned prior: what a flow has to beat."""

from __future__ import annotations

from .bases import BASES, Basis
from .lasso import lasso
from .tv import default_lam, tv

__all__ = ["BASES", "Basis", "default_lam", "lasso", "tv"]
