"""Simulators with priors, likelihoods and reference posteriors, to try and to test inference on."""

from __future__ import annotations

from ...errors import unknown
from .ballistics import InverseBallistics
from .base import Simulator
from .g_and_k import GAndK
from .gaussians import GaussianLinear, GaussianLinearUniform, GaussianMixture
from .glm import BernoulliGLM, BernoulliGLMRaw
from .kinematics import InverseKinematics
from .modes import EightModes
from .oximetry import TissueOximetry
from .priors import Gaussian, LogNormal, Prior, Uniform
from .sir import SIR
from .slcp import SLCP, SLCPDistractors
from .two_moons import TwoMoons

SIMULATORS: dict[str, type[Simulator]] = {
    kind.name: kind
    for kind in tuple(globals().values())
    if isinstance(kind, type) and issubclass(kind, Simulator) and kind is not Simulator
}


def names() -> list[str]:
    """The names that `get` knows."""
    return list(SIMULATORS)


def get(name: str, **options) -> Simulator:
    """The simulator ``name``; UsageError for an unknown one."""
    if name not in SIMULATORS:
        raise unknown("simulator", name, SIMULATORS)
    return SIMULATORS[name](**options)


__all__ = [
    "SIMULATORS",
    "SIR",
    "SLCP",
    "BernoulliGLM",
    "BernoulliGLMRaw",
    "EightModes",
    "GAndK",
    "Gaussian",
    "GaussianLinear",
    "GaussianLinearUniform",
    "GaussianMixture",
    "InverseBallistics",
    "InverseKinematics",
    "LogNormal",
    "Prior",
    "SLCPDistractors",
    "Simulator",
    "TissueOximetry",
    "TwoMoons",
    "Uniform",
    "get",
    "names",
]
