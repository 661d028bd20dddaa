"""Flows: exact densities built from bijections, by name or by hand."""

from .attributes import Attribute
from .flow import ConditionedFlow, Flow
from .glow import glow
from .maf import iaf, maf
from .matching import ContinuousFlow, matching
from .nice import nice
from .realnvp import realnvp
from .registry import build, names, register
from .residual import residual
from .spline import spline
from .transformer import transformer

__all__ = [
    "Attribute",
    "ConditionedFlow",
    "ContinuousFlow",
    "Flow",
    "build",
    "glow",
    "iaf",
    "maf",
    "matching",
    "names",
    "nice",
    "realnvp",
    "register",
    "residual",
    "spline",
    "transformer",
]
