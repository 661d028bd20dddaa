"""Solvers: reconstruct images from measurements under a prior, or without one."""

from .each_channel import EachChannel
from .posterior.amortised import AmortisedPosterior
from .reconstruction import Reconstruction, SolveWarning
from .solve import METHODS, method_for, options, solve

__all__ = [
    "METHODS",
    "AmortisedPosterior",
    "EachChannel",
    "Reconstruction",
    "SolveWarning",
    "method_for",
    "options",
    "solve",
]
