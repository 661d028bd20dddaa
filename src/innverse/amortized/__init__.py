"""Amortised inference: p(parameters given measurement) from simulations, for every measurement."""

from .bidirectional import BidirectionalINN, BidirectionalPosterior, fit_bidirectional
from .fit import fit
from .posterior import Posterior

load = Posterior.load

__all__ = [
    "BidirectionalINN",
    "BidirectionalPosterior",
    "Posterior",
    "fit",
    "fit_bidirectional",
    "load",
]
