"""An operator made of functions on batches, which may be anything."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..errors import InnverseError, InputError, UsageError, first_line
from ..shapes import dtype_name
from .base import LinearPhysics


class CallablePhysics(LinearPhysics):
    """An operator given by two functions on batches.

    Args:
        forward, adjoint: the functions; an ``adjoint`` of None is made by autograd, and needs the
            image_shape.

    Attributes:
        complex_image: whether the functions see complex images; else the adjoint's real part
            counts, since that is the adjoint on real images.
        guarded: whether the functions get and give copies, for they write where they should not.

    Example:
        >>> physics = CallablePhysics(lambda x: 2 * x, lambda y: 2 * y, (1, 8, 8))
        >>> physics.A(torch.ones(1, 1, 8, 8)).mean()
        tensor(2.)
    """

    guarded = False

    def __init__(self, forward, adjoint, image_shape=None, noise=None, name="operator"):
        super().__init__(image_shape, noise)
        self._forward, self.name, self._automatic = forward, name, adjoint is None
        if adjoint is None:
            adjoint = adjoint_by_autograd(forward, self.image_shape, name)
        self._adjoint = adjoint

    def A(self, x: Tensor) -> Tensor:
        if self.image_shape is not None:
            self.check_image(x)
        return _LinearMap.apply(x, self._there, self._back)

    def A_adjoint(self, y: Tensor) -> Tensor:
        return _LinearMap.apply(y, self._back, self._there)

    def on_complex(self):
        other = self._copy(complex_image=True)
        if self._automatic:
            other._adjoint = adjoint_by_autograd(self._forward, self.image_shape, self.name, True)
        return other

    def _there(self, x: Tensor) -> Tensor:
        return self._call(self._forward, x, "A")

    def _back(self, y: Tensor) -> Tensor:
        x = self._call(self._adjoint, y, "A_adjoint")
        return x if self.complex_image else x.real

    def _call(self, f: Callable, v: Tensor, what: str) -> Tensor:
        """f(v) as a tensor on the device and of the precision of v, without a graph."""
        v = v.detach().resolve_conj()
        with torch.enable_grad(), in_one_line(f"{what} of {self.name}", v):
            # some adjoints are made by autograd
            out = f(v.clone() if self.guarded else v)
            out = torch.from_numpy(out) if isinstance(out, np.ndarray) else out
        if not isinstance(out, Tensor):
            raise InputError(
                f"{what} of {self.name} returns {type(out).__name__}: it must return a tensor"
            )
        out = out.detach()
        out = out.to_dense() if out.layout != torch.strided else out
        real = v.dtype.to_real()
        out = out.to(device=v.device, dtype=real.to_complex() if out.is_complex() else real)
        return out.clone() if self.guarded else out

    def extra_repr(self) -> str:
        return self.name


@contextlib.contextmanager
def in_one_line(what: str, given: Tensor):
    """Whatever the code of others raises becomes an InputError: ``what`` fails on ``given``."""
    try:
        yield
    except (InnverseError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise InputError(
            f"{what} fails on {tuple(given.shape)} {dtype_name(given.dtype)}: "
            f"{type(error).__name__}: {first_line(error)}"
        ) from error


class _LinearMap(torch.autograd.Function):
    """A linear map whose gradient is its adjoint, so that A itself may be anything."""

    @staticmethod
    def forward(ctx, x, forward, adjoint):
        ctx.maps = forward, adjoint
        out = forward(x)
        return out.view_as(out) if out is x else out

    @staticmethod
    def backward(ctx, *grads):
        forward, adjoint = ctx.maps
        return _LinearMap.apply(grads[0].contiguous(), adjoint, forward), None, None


def adjoint_by_autograd(
    forward: Callable, image_shape, name: str, complex_image: bool = False
) -> Callable[[Tensor], Tensor]:
    """The adjoint of a linear map that autograd can follow: its vector-Jacobian product."""
    if image_shape is None:
        raise UsageError(f"the adjoint of {name} comes from autograd: give the image_shape too")

    def adjoint(y: Tensor) -> Tensor:
        with torch.enable_grad():
            real = y.dtype.to_real()
            dtype = real.to_complex() if complex_image else real
            x = torch.zeros(len(y), *image_shape, dtype=dtype, device=y.device)
            out = forward(x.requires_grad_())
            if not (isinstance(out, Tensor) and out.requires_grad):
                raise UsageError(
                    f"autograd cannot follow {name}: give its adjoint too, as (A, A_adjoint)"
                )
            y = y.to(out.dtype) if out.is_complex() else y.real
            return torch.autograd.grad(out, x, y)[0]

    return adjoint
