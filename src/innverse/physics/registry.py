"""Operators by name, for the command line and configuration files."""

from __future__ import annotations

import inspect

from ..errors import UsageError

# those whose class has `measures_images`, known without an import of torch
_PICTURES = ("denoising", "inpainting", "blur", "downsampling")

ALIASES = {
    "superresolution": "downsampling",
    "mri": "fourier",
    "deblurring": "blur",
    "ct": "tomography",
}


def names() -> list[str]:
    """The names that `build` knows."""
    return list(_BUILDERS)


def options(name: str) -> dict[str, object]:
    """The options of an operator with their defaults."""
    parameters = inspect.signature(_builder(name)).parameters.values()
    return {p.name: p.default for p in parameters if p.name != "shape"} | {
        "sigma": None,
        "gain": None,
    }


def measures_images(name: str) -> bool:
    """Whether the operator measures pictures, which a user can have as a file."""
    _builder(name)
    return ALIASES.get(name, name) in _PICTURES


def build(name: str, image_shape, **given):
    """Make an operator from its name.

    Args:
        name: one of `names`, or an alias ("superresolution" is "downsampling").
        image_shape: (C, H, W) of one image.
        given: options, see `options`; all operators take ``sigma`` (Gaussian noise) or ``gain``
            (Poisson noise).

    Raises:
        UsageError: an unknown name or option, or a value of the wrong kind.
    """
    from .noise import GaussianNoise, NoNoise, PoissonNoise

    builder = _builder(name)
    valid = options(name)
    unknown = [key for key in given if key not in valid]
    if unknown:
        raise UsageError(
            f"unknown option {unknown[0]!r} for physics {name!r}: valid are {', '.join(valid)}"
        )
    sigma, gain = given.pop("sigma", None), given.pop("gain", None)
    if sigma is not None and gain is not None:
        raise UsageError("give sigma (Gaussian noise) or gain (Poisson noise), not both")
    try:
        physics = builder(tuple(image_shape), **given)
        if gain is not None:
            physics.noise = PoissonNoise(gain)
        else:
            physics.noise = GaussianNoise(sigma) if sigma is not None else NoNoise()
    except UsageError:
        raise
    except (TypeError, ValueError) as e:
        if hasattr(e, "exit_code"):
            raise
        raise UsageError(f"bad option for physics {name!r}: {e}") from None
    return physics


def _builder(name: str):
    key = ALIASES.get(name, name)
    if key not in _BUILDERS:
        raise UsageError(f"unknown physics {name!r}: choose {', '.join([*_BUILDERS, *ALIASES])}")
    return _BUILDERS[key]


def _generator(seed):
    import torch

    return torch.Generator().manual_seed(int(seed))


def _denoising(shape):
    from .denoising import Denoising

    return Denoising(image_shape=shape)


def _inpainting(shape, mask=None, keep=0.5, seed=0):
    from ..data.masks import read_mask
    from .inpainting import Inpainting

    if mask is None:
        return Inpainting.random(shape, float(keep), _generator(seed))
    return Inpainting(read_mask(mask, shape[-2:]), image_shape=shape)


def _blur(shape, kernel="gaussian", width=1.6, length=15.0, angle=0.0, boundary="reflect"):
    from .blur import Blur, gaussian_kernel, motion_kernel

    if isinstance(kernel, str):
        if kernel == "gaussian":
            kernel = gaussian_kernel(float(width))
        elif kernel == "motion":
            kernel = motion_kernel(float(length), float(angle))
        else:
            raise UsageError(f"unknown kernel {kernel!r}: choose gaussian or motion, or a tensor")
    return Blur(kernel, boundary, image_shape=shape)


def _downsampling(shape, factor=2, filter="bicubic", boundary="reflect"):
    from .downsampling import Downsampling

    return Downsampling(float(factor), shape, filter, boundary)


def _compressed_sensing(shape, ratio=0.2, m=None, fast=None, seed=0):
    import math

    from .compressed import CompressedSensing, FastCompressedSensing

    n = math.prod(shape)
    if m is None and not 0 < float(ratio) <= 1:
        raise UsageError(f"the ratio of measurements must be in (0, 1], got {ratio}")
    m = max(1, round(float(ratio) * n)) if m is None else int(m)
    # above a quarter GiB the explicit matrix no longer pays
    fast = 4 * m * n > 2**28 if fast is None else fast
    return (FastCompressedSensing if fast else CompressedSensing)(m, shape, seed=int(seed))


def _fourier(shape, mask=None, acceleration=4.0, center=0.08, seed=0):
    from ..data.masks import read_mask
    from .fourier import SubsampledFourier, cartesian_mask

    if mask is None:
        mask = cartesian_mask(shape[-2:], float(acceleration), float(center), int(seed))
    else:
        mask = read_mask(mask, shape[-2:])[0]
    return SubsampledFourier(mask, image_shape=shape)


def _tomography(shape, views=180, detectors=None, spacing=1.0, source=None, detector=None):
    from .tomography import Tomography

    detectors = None if detectors is None else int(detectors)
    geometry = {"spacing": float(spacing), "source": source, "detector": detector}
    return Tomography(shape, int(views), detectors, **geometry)


_BUILDERS = {
    "denoising": _denoising,
    "inpainting": _inpainting,
    "blur": _blur,
    "downsampling": _downsampling,
    "compressed_sensing": _compressed_sensing,
    "fourier": _fourier,
    "tomography": _tomography,
}
