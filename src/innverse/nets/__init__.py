"""Conditioner networks: from the kept part (and a condition) to the parameters of the map."""

from .conditioning import FiLM, concatenate
from .conv import ConvNet, ConvResNet, SingleConv
from .mlp import MLP
from .precision import ConditionerNet, set_precision

__all__ = [
    "MLP",
    "ConditionerNet",
    "ConvNet",
    "ConvResNet",
    "FiLM",
    "SingleConv",
    "concatenate",
    "set_precision",
]
