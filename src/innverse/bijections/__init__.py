"""Bijections: invertible layers with exact log-determinants, and the chain that composes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy

if TYPE_CHECKING:
    from .actnorm import ActNorm as ActNorm
    from .actnorm import ConditionalScale as ConditionalScale
    from .autoregressive import Autoregressive as Autoregressive
    from .base import Bijection as Bijection
    from .base import initialize as initialize
    from .causal import Causal as Causal
    from .chain import Chain as Chain
    from .chain import set_memory as set_memory
    from .channel_linear import ChannelLinear as ChannelLinear
    from .check import check_bijection as check_bijection
    from .checkerboard import Checkerboard as Checkerboard
    from .coupling import Coupling as Coupling
    from .coupling import Diagonal as Diagonal
    from .coupling import MaskedCoupling as MaskedCoupling
    from .elementwise import Additive as Additive
    from .elementwise import Affine as Affine
    from .elementwise import Elementwise as Elementwise
    from .elementwise import RationalQuadraticSpline as RationalQuadraticSpline
    from .embedding import Embedding as Embedding
    from .gaussianize import Gaussianize as Gaussianize
    from .inverse import Inverse as Inverse
    from .linear import Householder as Householder
    from .linear import Invertible1x1 as Invertible1x1
    from .linear import Permute as Permute
    from .logit import Logit as Logit
    from .multiscale import Haar as Haar
    from .multiscale import Partial as Partial
    from .multiscale import Squeezed as Squeezed
    from .patches import Cosines as Cosines
    from .patches import Patches as Patches
    from .periodic import PeriodicConvolution as PeriodicConvolution
    from .positions import Positionwise as Positionwise
    from .residual import Residual as Residual
    from .standardize import Standardize as Standardize

__getattr__, __dir__, __all__ = lazy(__name__)
