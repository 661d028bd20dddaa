"""Measurement operators and noise: ``y = noise(A(x))``, with deepinv's names.

The names below are loaded on first use, so that listing the operators costs no import of torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy

if TYPE_CHECKING:
    from .adapt import as_physics as as_physics
    from .base import LinearPhysics as LinearPhysics
    from .blur import Blur as Blur
    from .blur import gaussian_kernel as gaussian_kernel
    from .blur import motion_kernel as motion_kernel
    from .callables import CallablePhysics as CallablePhysics
    from .checks import check_adjoint as check_adjoint
    from .checks import check_measurement as check_measurement
    from .checks import check_operator as check_operator
    from .complex_numbers import ComplexAsChannels as ComplexAsChannels
    from .complex_numbers import Magnitudes as Magnitudes
    from .compressed import CompressedSensing as CompressedSensing
    from .compressed import FastCompressedSensing as FastCompressedSensing
    from .denoising import Denoising as Denoising
    from .downsampling import Downsampling as Downsampling
    from .fourier import SubsampledFourier as SubsampledFourier
    from .fourier import cartesian_mask as cartesian_mask
    from .inpainting import Inpainting as Inpainting
    from .matrix import MatrixPhysics as MatrixPhysics
    from .mri import MRI as MRI
    from .mri import estimate_sensitivities as estimate_sensitivities
    from .noise import GaussianNoise as GaussianNoise
    from .noise import NoNoise as NoNoise
    from .noise import PoissonGaussianNoise as PoissonGaussianNoise
    from .noise import PoissonNoise as PoissonNoise
    from .nonlinear import Nonlinear as Nonlinear
    from .registry import build as build
    from .registry import names as names
    from .registry import options as options
    from .stacked import Stacked as Stacked
    from .tomography import Tomography as Tomography
    from .transmission import TransmissionNoise as TransmissionNoise
    from .transmission import line_integrals as line_integrals
    from .whitened import Whitened as Whitened
    from .whitened import whiten as whiten

__getattr__, __dir__, __all__ = lazy(__name__)
