"""Solvers: reconstruct images from measurements under a prior, or without one."""

from .reconstruction import Reconstruction, SolveWarning
from .solve import METHODS, method_for, options, solve

__all__ = ["METHODS", "Reconstruction", "SolveWarning", "method_for", "options", "solve"]
