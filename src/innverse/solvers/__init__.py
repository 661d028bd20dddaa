"""Solvers: reconstruct images from measurements under a prior, or without one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy
from .reconstruction import Reconstruction, SolveWarning
from .solve import METHODS, method_for, options, solve

if TYPE_CHECKING:
    from .each_channel import EachChannel as EachChannel
    from .in_tiles import solve_in_tiles as solve_in_tiles
    from .posterior.approximate.amortised import AmortisedPosterior as AmortisedPosterior
    from .posterior.draws.deepinv import DeepinvSampler as DeepinvSampler
    from .posterior.modes.evidence import Evidence as Evidence
    from .posterior.modes.evidence import evidence as evidence
    from .posterior.modes.joint import JointPosterior as JointPosterior
    from .posterior.modes.joint import joint_posterior as joint_posterior

__getattr__, _, _later = lazy(__name__)
__all__ = [
    "METHODS",
    "Reconstruction",
    "SolveWarning",
    "method_for",
    "options",
    "solve",
    *_later,
]


def __dir__() -> list[str]:
    return __all__
