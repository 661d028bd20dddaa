"""Solvers: reconstruct images from measurements under a prior, or without one."""

from .reconstruction import Reconstruction
from .solve import METHODS, options, solve

__all__ = ["METHODS", "Reconstruction", "options", "solve"]
