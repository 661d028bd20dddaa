"""Measurement operators and noise: ``y = noise(A(x))``, with deepinv's names.

The names below are loaded on first use, so that listing the operators costs no import of torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy

if TYPE_CHECKING:
    from .adapt import as_physics as as_physics
    from .adapt import stack as stack
    from .base import Composed as Composed
    from .base import LinearPhysics as LinearPhysics
    from .blur import Blur as Blur
    from .callables import CallablePhysics as CallablePhysics
    from .channels import ChannelMixing as ChannelMixing
    from .checks import check_adjoint as check_adjoint
    from .checks import check_measurement as check_measurement
    from .checks import check_operator as check_operator
    from .complex_numbers import ComplexAsChannels as ComplexAsChannels
    from .complex_numbers import Magnitudes as Magnitudes
    from .compressed import CompressedSensing as CompressedSensing
    from .compressed import FastCompressedSensing as FastCompressedSensing
    from .denoising import Denoising as Denoising
    from .downsampling import Downsampling as Downsampling
    from .espirit import espirit_maps as espirit_maps
    from .fourier import SubsampledFourier as SubsampledFourier
    from .fourier import cartesian_mask as cartesian_mask
    from .inpainting import Inpainting as Inpainting
    from .inpainting import bayer_mask as bayer_mask
    from .jpeg import JPEG as JPEG
    from .kernels import gaussian_kernel as gaussian_kernel
    from .kernels import motion_kernel as motion_kernel
    from .kernels import read_kernels as read_kernels
    from .kernels import shake_kernel as shake_kernel
    from .matrix import MatrixPhysics as MatrixPhysics
    from .mri import MRI as MRI
    from .mri import estimate_sensitivities as estimate_sensitivities
    from .mri import root_sum_of_squares as root_sum_of_squares
    from .noise import GaussianNoise as GaussianNoise
    from .noise import NoNoise as NoNoise
    from .noise import PoissonGaussianNoise as PoissonGaussianNoise
    from .noise import PoissonNoise as PoissonNoise
    from .nonlinear import Nonlinear as Nonlinear
    from .nonuniform import NonCartesianMRI as NonCartesianMRI
    from .phase import CodedDiffraction as CodedDiffraction
    from .phase import PhaseRetrieval as PhaseRetrieval
    from .quantised import QuantisationNoise as QuantisationNoise
    from .registry import build as build
    from .registry import names as names
    from .registry import options as options
    from .scan import Scan as Scan
    from .stacked import Stacked as Stacked
    from .tomography import Tomography as Tomography
    from .tomography import axis_of_rotation as axis_of_rotation
    from .transmission import TransmissionNoise as TransmissionNoise
    from .transmission import line_integrals as line_integrals
    from .varying_blur import VaryingBlur as VaryingBlur
    from .whitened import Whitened as Whitened
    from .whitened import whiten as whiten

__getattr__, __dir__, __all__ = lazy(__name__)
