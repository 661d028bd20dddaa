"""The operator on a part of the image, for operators whose measurements are local."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from ..errors import UsageError
from ..physics import Blur, Denoising, Downsampling, GaussianNoise, Inpainting, LinearPhysics
from ..physics.base import name_of
from ..physics.noise import NoiseModel

LOCAL = (Denoising, Inpainting, Blur, Downsampling)


class Window(NamedTuple):
    """An operator on rows and columns of an image, and those of its measurement."""

    physics: LinearPhysics
    rows: slice
    columns: slice


def is_local(physics: LinearPhysics) -> bool:
    """Whether `window` knows the operator."""
    return isinstance(physics, LOCAL)


def unit_of(physics: LinearPhysics) -> int:
    """What the edges of a window must divide by."""
    return physics.factor if isinstance(physics, Downsampling) else 1


def reach_of(physics: LinearPhysics) -> int:
    """How many pixels around its own place a measured value depends on."""
    if isinstance(physics, Blur):
        return max(physics.kernel.shape[-2:])
    return len(physics.weights) if isinstance(physics, Downsampling) else 0


def window(physics: LinearPhysics, shape: tuple[int, ...], rows: slice, columns: slice) -> Window:
    """The part of an operator on images (C, H, W) that looks at some rows and columns.

    What a blur sees beyond a window is made up by its boundary: what lies within `reach_of` of an edge
    inside the image is not to be believed. A periodic blur gets a reflecting one.

    Raises:
        UsageError: an operator whose measurements depend on the whole image.

    Example:
        >>> from innverse.solvers.windows import window
        >>> shrink = innverse.physics.Downsampling(2)
        >>> part = window(shrink, (1, 16, 16), slice(4, 12), slice(0, 8))
        >>> part.rows, part.physics.image_shape
        (slice(2, 6, None), (1, 8, 8))
    """
    inside = shape[0], rows.stop - rows.start, columns.stop - columns.start
    unit = unit_of(physics)
    seen = [slice(s.start // unit, math.ceil(s.stop / unit)) for s in (rows, columns)]
    noise = _noise(physics.noise, *seen)
    if isinstance(physics, Denoising):
        part: LinearPhysics = Denoising(noise, inside)
    elif isinstance(physics, Inpainting):
        part = Inpainting(physics.mask[..., rows, columns], noise, inside)
    elif isinstance(physics, Blur) and physics.boundary != "valid":
        around = "reflect" if physics.boundary == "circular" else physics.boundary
        part = Blur(physics.kernel, around, noise, inside)
    elif isinstance(physics, Blur):
        part = Blur(physics.kernel, "valid", noise, inside)
        kernel = physics.kernel.shape[-2:]
        seen = [
            slice(s.start, s.stop - k + 1) for s, k in zip((rows, columns), kernel, strict=True)
        ]
        part.noise = _noise(physics.noise, *seen)
    elif isinstance(physics, Downsampling):
        part = Downsampling(physics.factor, inside, physics.weights, physics.boundary, noise)
    else:
        raise UsageError(
            f"{name_of(physics)} cannot be solved in tiles: its measurements depend on the whole image"
        )
    return Window(part, *seen)


def _noise(model: NoiseModel, rows: slice, columns: slice) -> NoiseModel:
    if not (isinstance(model, GaussianNoise) and model.is_map and isinstance(model.sigma, Tensor)):
        return model
    height, width = model.sigma.shape[-2:]
    level = model.sigma if height == 1 else model.sigma[..., rows, :]
    return GaussianNoise(level if width == 1 else level[..., columns])
