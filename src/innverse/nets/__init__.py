"""Conditioner networks: from the kept part (and a condition) to the parameters of the map."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy

if TYPE_CHECKING:
    from .conditioning import FiLM as FiLM
    from .conditioning import concatenate as concatenate
    from .conv import ConvNet as ConvNet
    from .conv import ConvResNet as ConvResNet
    from .conv import SingleConv as SingleConv
    from .features import MapFeatures as MapFeatures
    from .lipschitz import LipschitzConv as LipschitzConv
    from .lipschitz import LipschitzMLP as LipschitzMLP
    from .made import MADE as MADE
    from .mlp import MLP as MLP
    from .precision import ConditionerNet as ConditionerNet
    from .precision import set_precision as set_precision
    from .pyramid import DownPyramid as DownPyramid
    from .pyramid import UpPyramid as UpPyramid
    from .transformer import ViT as ViT
    from .unet import UNet as UNet

__getattr__, __dir__, __all__ = lazy(__name__)
