"""Solvers: reconstruct images from measurements under a prior, or without one."""

from .each_channel import EachChannel
from .posterior.amortised import AmortisedPosterior
from .posterior.deepinv import DeepinvSampler
from .posterior.evidence import Evidence, evidence
from .posterior.joint import JointPosterior, joint_posterior
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
