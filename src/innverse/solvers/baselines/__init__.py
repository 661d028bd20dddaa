"""Reconstruction without a learned prior: what a flow has to beat."""

from __future__ import annotations

from .tv import default_lam, tv

__all__ = ["default_lam", "tv"]
