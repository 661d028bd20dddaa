"""Solvers: reconstruct images from measurements under a prior, or without one."""

from .each_channel import EachChannel
from .posterior.approximate.amortised import AmortisedPosterior
from .posterior.draws.deepinv import DeepinvSampler
from .posterior.modes.evidence import Evidence, evidence
from .posterior.modes.joint import JointPosterior, joint_posterior
from .reconstruction import Reconstruction, SolveWarning
from .solve import METHODS, method_for, options, solve

__all__ = [
    "METHODS",
    "AmortisedPosterior",
    "DeepinvSampler",
    "EachChannel",
    "Evidence",
    "JointPosterior",
    "Reconstruction",
    "SolveWarning",
    "evidence",
    "joint_posterior",
    "method_for",
    "options",
    "solve",
]
