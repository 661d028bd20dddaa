"""Solvers: reconstruct images from measurements under a prior, or without one."""

from .each_channel import EachChannel
from .reconstruction import Reconstruction
from .solve import METHODS, options, solve

__all__ = ["METHODS", "EachChannel", "Reconstruction", "options", "solve"]
