"""Is a posterior right? Checks on any object that draws, or on plain arrays of draws, and repair.

Everywhere ``source`` is either an object with ``sample((n,), x=)`` (used with ``x``, N
measurements; ``sample_batched`` is taken where there is one), or draws (L, N, ...): L of each of
the N posteriors, or what has them as ``samples``, as the result of `innverse.solve` does. ``theta``
(N, ...) are the true values, drawn with the measurements from prior and simulator: vectors, images,
any shape. ``of`` is a function of one draw of each posterior (N, ...) whose values (N,) or (N, K)
are judged instead of the single numbers: `patches`, `haar`, a log-density.
Everything is computed in float64.
"""

from ..importance import Importance, importance_weights
from .credible import Coverage, calibration_error, central_intervals, coverage
from .draws import LEVELS
from .learned import Learned, contraction
from .pictures import haar, patches
from .predictive import predictive_check, resimulation_error
from .random_points import TARP, tarp
from .ranks import SBC, rank_test, sbc
from .repair import ENOUGH, Recalibration, recalibrate, shared_factors
from .reweighted import reweight
from .stein import Stein, stein_discrepancy
from .uniform import counts_p, ecdf, ecdf_band, ecdf_p, holm, kolmogorov_p

__all__ = [
    "ENOUGH",
    "LEVELS",
    "SBC",
    "TARP",
    "Coverage",
    "Importance",
    "Learned",
    "Recalibration",
    "Stein",
    "calibration_error",
    "central_intervals",
    "contraction",
    "counts_p",
    "coverage",
    "ecdf",
    "ecdf_band",
    "ecdf_p",
    "haar",
    "holm",
    "importance_weights",
    "kolmogorov_p",
    "patches",
    "predictive_check",
    "rank_test",
    "recalibrate",
    "resimulation_error",
    "reweight",
    "sbc",
    "shared_factors",
    "stein_discrepancy",
    "tarp",
]
