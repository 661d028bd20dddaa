"""Flows: exact densities built from bijections, by name or by hand."""

from .flow import ConditionedFlow, Flow
from .glow import glow
from .realnvp import realnvp
from .registry import build, names, register
from .spline import spline

__all__ = [
    "ConditionedFlow",
    "Flow",
    "build",
    "glow",
    "names",
    "realnvp",
    "register",
    "spline",
]
