"""What a clean picture is put through before it is restored: an operator, noise, a name with the level.

The one table of `innverse eval` and of benchmarks/restoration.py; pictures live on [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..errors import UsageError
from ..physics import Denoising, Inpainting, LinearPhysics, Tomography, TransmissionNoise, build

Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Task:
    """One way to measure.

    Attributes:
        name: with the level, "denoise-25".
        settings: what it is made of, for a record.
        operator: ``operator(shape, generator)`` for pictures (C, H, W), with its noise.

    Example:
        >>> y, physics = inpaint(0.5).measure(torch.rand(1, 1, 8, 8), torch.Generator())
        >>> int((y != 0).sum())
        32
    """

    name: str
    settings: dict[str, Any]
    operator: Callable[[Shape, torch.Generator], LinearPhysics]

    def measure(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, LinearPhysics]:
        """A measurement of x (1, C, H, W), and its operator; masks and noise from ``generator``."""
        _, channels, height, width = x.shape
        physics = self.operator((channels, height, width), generator).to(x.device)
        return physics(x, generator), physics


def denoise(sigma: float) -> Task:
    """Gaussian noise of deviation ``sigma`` on the scale of 0 to 255.

    Example:
        >>> denoise(25).name
        'denoise-25'
    """

    def operator(shape: Shape, generator: torch.Generator) -> LinearPhysics:
        return Denoising(noise=sigma / 255, image_shape=shape)

    return Task(f"denoise-{sigma:g}", {"sigma": sigma}, operator)


def inpaint(keep: float) -> Task:
    """A fraction ``keep`` in (0, 1] of the pixels, at random; the name has the percentage missing.

    Example:
        >>> inpaint(0.2).name
        'inpaint-80'
    """

    def operator(shape: Shape, generator: torch.Generator) -> LinearPhysics:
        return Inpainting.random(shape, keep, generator)

    return Task(f"inpaint-{100 * (1 - keep):.4g}", {"keep": keep}, operator)


def deblur(kernel: str | Tensor = "gaussian:1.6", noise: float = 0.01) -> Task:
    """A periodic blur, and noise of deviation ``noise``, whose percentage is the name's.

    ``kernel`` is what the operator "blur" takes: gaussian:WIDTH, motion:LENGTH:ANGLE, a file, or a
    tensor (h, w); all but the first are called motion.

    Example:
        >>> deblur().name, deblur("motion:9:30", 0.05).name
        ('deblur-gauss-1', 'deblur-motion-5')
    """

    def operator(shape: Shape, generator: torch.Generator) -> LinearPhysics:
        return build("blur", shape, kernel=kernel, boundary="circular", sigma=noise)

    gauss = isinstance(kernel, str) and kernel.startswith("gaussian")
    told = kernel if isinstance(kernel, str) else "given"
    name = f"deblur-{'gauss' if gauss else 'motion'}-{100 * noise:.4g}"
    return Task(name, {"kernel": told, "noise": noise}, operator)


def sr(factor: int, noise: float = 0.01, filter: str = "gaussian") -> Task:
    """A picture ``factor`` times smaller; the Gaussian has a deviation of factor / 2 pixels, at x4 that
    of PatchNR (Altekrueger et al. 2023).

    Example:
        >>> sr(4).name
        'sr-x4'
    """

    def operator(shape: Shape, generator: torch.Generator) -> LinearPhysics:
        return build("downsampling", shape, factor=factor, filter=filter, sigma=noise)

    settings = {"factor": factor, "filter": filter, "noise": noise}
    return Task(f"sr-x{factor:g}", settings, operator)


HU = "HU"
WHITE = 0.02 * 360 * 3
"""The exponent of a ray across a picture that is white throughout: 360 mm of -1000 to 2000 Hounsfield
units, and water absorbs .02 a millimetre."""


def ct(
    angles: int,
    photons: float = 1e5,
    span: float = 180.0,
    x_range: tuple[float, float] = (-1000.0, 2000.0),
) -> Task:
    """``angles`` parallel views, evenly over ``span`` degrees, of so many ``photons`` a ray.

    ``x_range`` are the Hounsfield units at 0 and 1. Black absorbs nothing, also where it is less than
    air.

    Raises:
        UsageError: a span outside (0, 180].

    Example:
        >>> ct(60).name, ct(180, photons=1e4).name, ct(120, span=120).name
        ('ct-60', 'ct-180-low', 'ct-limited-120')
    """
    if not 0 < span <= 180:
        raise UsageError(f"span={span:g}: give an angular range above 0, up to 180 degrees")

    def operator(shape: Shape, generator: torch.Generator) -> LinearPhysics:
        views = [span * k / angles for k in range(angles)]
        white = WHITE * (x_range[1] - x_range[0]) / 3000
        noise = TransmissionNoise(photons, white / max(shape[1:]))
        return Tomography(shape, views, noise=noise)

    name = f"ct-{angles}" if span == 180 else f"ct-limited-{span:g}"
    name += "-low" if photons < 1e5 else ""
    return Task(name, {"angles": angles, "photons": photons, "span": span}, operator)


def mri(acceleration: float, coils: int = 8, noise: float = 0.01) -> Task:
    """One of ``acceleration`` columns of k-space by so many simulated ``coils``.

    Example:
        >>> mri(4).name
        'mri-4'
    """

    def operator(shape: Shape, generator: torch.Generator) -> LinearPhysics:
        return build("mri", shape, acceleration=acceleration, coils=coils, sigma=noise)

    settings = {"acceleration": acceleration, "coils": coils, "noise": noise}
    return Task(f"mri-{acceleration:g}", settings, operator)
