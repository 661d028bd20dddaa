"""Bijections: invertible layers with exact log-determinants, and the chain that composes them."""

from .actnorm import ActNorm, ConditionalScale
from .autoregressive import Autoregressive
from .base import Bijection, initialize
from .causal import Causal
from .chain import Chain, set_memory
from .channel_linear import ChannelLinear
from .check import check_bijection
from .checkerboard import Checkerboard
from .coupling import Coupling, Diagonal, MaskedCoupling
from .elementwise import Additive, Affine, Elementwise, RationalQuadraticSpline
from .gaussianize import Gaussianize
from .inverse import Inverse
from .linear import Householder, Invertible1x1, Permute
from .logit import Logit
from .multiscale import Haar, Partial, Squeezed
from .patches import Patches
from .residual import Residual
from .standardize import Standardize

__all__ = [
    "ActNorm",
    "Additive",
    "Affine",
    "Autoregressive",
    "Bijection",
    "Causal",
    "Chain",
    "ChannelLinear",
    "Checkerboard",
    "ConditionalScale",
    "Coupling",
    "Diagonal",
    "Elementwise",
    "Gaussianize",
    "Haar",
    "Householder",
    "Inverse",
    "Invertible1x1",
    "Logit",
    "MaskedCoupling",
    "Partial",
    "Patches",
    "Permute",
    "RationalQuadraticSpline",
    "Residual",
    "Squeezed",
    "Standardize",
    "check_bijection",
    "initialize",
    "set_memory",
]
