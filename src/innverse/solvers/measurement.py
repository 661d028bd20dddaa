"""A measurement and its operator as the solvers want them, from whatever a user has."""

from __future__ import annotations

import math
import os

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError, UsageError
from ..physics import CallablePhysics, LinearPhysics, MatrixPhysics, Stacked, as_physics
from ..physics.base import name_of
from ..physics.callables import in_one_line
from ..shapes import dtype_name

_WHITE = {torch.uint8: 255, torch.uint16: 65535}  # of pictures of these types


def operator_for(obj, y, prior: object = None, image_shape=None) -> LinearPhysics:
    """`as_physics`, with the shape of an image inferred where the operator does not know it.

    An operator on vectors of n numbers gets the shape of the prior's images, if those have n, or
    that of a square image; a function without adjoint, that shape which it maps to y's.
    """
    made = tuple(getattr(prior, "shape", ()))
    columns = _columns(obj)
    if image_shape is None and columns is not None:
        image_shape = _shape_of_vector(columns, made)
    if isinstance(obj, MatrixPhysics) and len(obj.image_shape) == 1 and image_shape is not None:
        return MatrixPhysics(obj.matrix, image_shape, obj.noise)
    if image_shape is None and _lacks_adjoint(obj):
        image_shape = _shape_that_fits(obj, y, made)
    return as_physics(obj, image_shape)


def _columns(obj) -> int | None:
    """The length of the vectors that an operator maps; None if it maps images."""
    if isinstance(obj, MatrixPhysics):
        return obj.matrix.shape[1] if len(obj.image_shape) == 1 else None
    if isinstance(obj, torch.nn.Module) or callable(getattr(obj, "A", None)):
        return None
    shape = getattr(obj, "shape", None)
    if isinstance(shape, (tuple, torch.Size)) and len(shape) == 2:
        return int(shape[1])
    return None


def _shape_of_vector(n: int, made: tuple[int, ...]) -> tuple[int, ...] | None:
    if made and math.prod(made) == n:
        return made
    channels = made[0] if len(made) == 3 else 1
    side = math.isqrt(n // channels)
    return (channels, side, side) if channels * side * side == n else None


def _lacks_adjoint(obj) -> bool:
    if isinstance(obj, (LinearPhysics, type, tuple, list)) or hasattr(obj, "matvec"):
        return False
    if callable(getattr(obj, "A", None)):
        return not callable(getattr(obj, "A_adjoint", None))
    return callable(obj) and not callable(getattr(obj, "adjoint", None))


def _shape_that_fits(obj, y, made: tuple[int, ...]) -> tuple[int, ...] | None:
    f = obj.A if callable(getattr(obj, "A", None)) else obj
    target = tuple(getattr(y, "shape", ()))[1:]
    for shape in (target, made):
        if len(shape) == 3 and (not made or shape[0] == made[0]):
            try:
                with torch.no_grad():
                    if tuple(f(torch.zeros(1, *shape)).shape[1:]) == target:
                        return shape
            except Exception:  # whatever a foreign function raises on a shape it does not take
                continue
    return None


def tensor_for(y, physics: LinearPhysics, prior: object = None) -> Tensor:
    """A measurement as a tensor (B, ...) in the precision of the prior and on its device.

    Arrays and lists of numbers are converted; float16 and bfloat16 become float32; of integers,
    zeros and ones are taken as they are, and pictures of 8 and 16 bits (unsigned) are divided by
    255 and 65535. A single measurement without the axis of items gets one. A stack takes a list, one
    entry a part.

    Raises:
        InputError: what cannot be converted without guessing. UsageError: operator and prior live
            on different devices.
    """
    if isinstance(physics, Stacked) and not isinstance(y, (Tensor, np.ndarray)):
        parts = getattr(y, "x", y)
        if not isinstance(parts, (list, tuple)):
            raise InputError(f"a stack of operators needs a list of measurements, got {_kind(y)}")
        pairs = zip(parts, physics.parts, strict=False)
        made = [tensor_for(part, own, prior) for part, own in pairs]
        return physics.flatten(made + [y.new_empty(1) for y in made[: len(parts) - len(made)]])
    y = _tensor(y)
    if y.is_meta:
        raise InputError("the measurement is on the meta device: it has a shape but no values")
    weights = _weights(prior)
    real = torch.float64 if y.dtype in (torch.float64, torch.complex128) else torch.float32
    if weights is not None:
        real = weights.dtype if weights.dtype == torch.float64 else torch.float32
    y = floating(y, physics).to(_home(physics, weights, y))
    y = y.to(real.to_complex() if y.is_complex() else real).detach()
    return _with_items(y, physics)


def _tensor(y) -> Tensor:
    try:
        if isinstance(y, Tensor):
            return y.to_dense() if y.layout != torch.strided else y
        if isinstance(y, np.ndarray):
            # a copy of its own, whatever its strides and byte order
            return torch.from_numpy(np.array(y, y.dtype.newbyteorder("=")))
        if isinstance(y, (list, tuple)):
            return torch.from_numpy(np.asarray(y))
    except (TypeError, ValueError):
        pass
    files = "; innverse.restore reads files" if isinstance(y, (str, os.PathLike)) else ""
    raise InputError(
        f"the measurement is {_kind(y)}: give a tensor or an array of numbers (B, ...){files}"
    )


def floating(y: Tensor, physics: LinearPhysics) -> Tensor:
    """Floating-point numbers from integers, where their scale is known; see `tensor_for`."""
    if y.is_floating_point() or y.is_complex():
        return y
    if y.dtype == torch.bool or y.numel() == 0 or bool(((y == 0) | (y == 1)).all()):
        return y.float()
    if y.dtype in _WHITE and physics.measures_images:
        return y.float() / _WHITE[y.dtype]
    raise InputError(
        f"the measurement holds integers ({dtype_name(y.dtype)}, up to {y.double().max():.0f}): give "
        "floating-point numbers on the scale of A x with x in [0, 1], for 8-bit pictures y / 255, or "
        "the values of black and white as x_range=(low, high)"
    )


def _home(physics: LinearPhysics, weights: Tensor | None, y: Tensor) -> torch.device:
    """Where to compute: with the operator's tensors, and the prior's."""
    own = next((b.device for b in physics.buffers()), None)
    if own is not None and weights is not None and own != weights.device:
        raise UsageError(
            f"the operator is on {own} but the prior on {weights.device}: move one of them with .to"
        )
    if own is not None:
        return own
    return y.device if weights is None else weights.device


def _with_items(y: Tensor, physics: LinearPhysics) -> Tensor:
    """(B, ...) of one measurement (...)."""
    axes = 4 if physics.measures_images else None
    if physics.image_shape is not None:
        like = torch.zeros(
            max(1, physics.items), *physics.image_shape, dtype=y.dtype.to_real(), device=y.device
        )
        with torch.no_grad():
            axes = safely(physics, "A", like).ndim
    if axes is not None and y.ndim == axes - 1:
        return y[None]
    if physics.measures_images and y.ndim == 2:
        return y[None, None]
    return y


def safely(physics: LinearPhysics, what: str, *given) -> Tensor:
    """A method of an operator; whatever it raises becomes one line."""
    with in_one_line(f"{what} of {name_of(physics)}", given[0]):
        return getattr(physics, what)(*given)


def differentiable(physics: LinearPhysics, x: Tensor) -> LinearPhysics:
    """The operator itself, or one whose gradients go through its adjoint if autograd is lost."""
    if type(physics).__module__.startswith("innverse."):
        return physics
    with torch.enable_grad():
        y = safely(physics, "A", x.detach().clone().requires_grad_())
    if y.requires_grad:
        return physics
    name = type(physics).__name__
    return CallablePhysics(physics.A, physics.A_adjoint, physics.image_shape, physics.noise, name)


def _weights(prior) -> Tensor | None:
    """A floating-point parameter of the prior, for its precision and device."""
    if not isinstance(prior, torch.nn.Module):
        return None
    every = (*prior.parameters(), *prior.buffers())
    return next((p for p in every if p.is_floating_point()), None)


def _kind(y) -> str:
    return f"an array of {y.dtype}" if isinstance(y, np.ndarray) else f"of type {type(y).__name__}"
