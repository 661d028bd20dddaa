"""Amortised inference: p(parameters given measurement) from simulations, for every measurement."""

from .bidirectional import BidirectionalINN, BidirectionalPosterior, fit_bidirectional
from .corrected import CorrectedPosterior, Correction
from .fit import fit
from .posterior import Posterior
from .sequential import fit_sequential

load = Posterior.load

__all__ = [
    "BidirectionalINN",
    "BidirectionalPosterior",
    "CorrectedPosterior",
    "Correction",
    "Posterior",
    "fit",
    "fit_bidirectional",
    "fit_sequential",
    "load",
]
