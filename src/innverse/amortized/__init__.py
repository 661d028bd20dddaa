"""Amortised inference: p(parameters given observation) from simulations, for every observation."""

from .assess import Assessment, assess
from .bidirectional import BidirectionalINN, BidirectionalPosterior, fit_bidirectional
from .corrected import CorrectedPosterior, Correction
from .fit import fit
from .posterior import Posterior
from .sequential import fit_sequential

load = Posterior.load


def __getattr__(name: str):
    if name == "PosteriorRegressor":  # needs scikit-learn, which is optional
        from .regressor import PosteriorRegressor

        return PosteriorRegressor
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "Assessment",
    "BidirectionalINN",
    "BidirectionalPosterior",
    "CorrectedPosterior",
    "Correction",
    "Posterior",
    "assess",
    "fit",
    "fit_bidirectional",
    "fit_sequential",
    "load",
]
