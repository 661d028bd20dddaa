"""Conditioner networks: from the kept part (and a condition) to the parameters of the map."""

from .conditioning import FiLM, concatenate
from .conv import ConvNet, ConvResNet, SingleConv
from .lipschitz import LipschitzConv, LipschitzMLP
from .made import MADE
from .mlp import MLP
from .precision import ConditionerNet, set_precision
from .pyramid import DownPyramid, UpPyramid
from .transformer import ViT
from .unet import UNet

__all__ = [
    "MADE",
    "MLP",
    "ConditionerNet",
    "ConvNet",
    "ConvResNet",
    "DownPyramid",
    "FiLM",
    "LipschitzConv",
    "LipschitzMLP",
    "SingleConv",
    "UNet",
    "UpPyramid",
    "ViT",
    "concatenate",
    "set_precision",
]
