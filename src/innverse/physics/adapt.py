"""Bring your own operator."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..errors import ShapeError, UsageError
from .base import LinearPhysics
from .matrix import MatrixPhysics
from .noise import NoNoise


def as_physics(obj, image_shape=None, noise=None) -> LinearPhysics:
    """Make an operator of this package out of what a user has.

    Args:
        obj: one of
            - a `LinearPhysics`, returned as it is;
            - any object with methods ``A`` and ``A_adjoint`` on batches, such as a deepinv physics
              (its Gaussian noise level is taken over);
            - a scipy ``LinearOperator`` or sparse matrix (needs image_shape; y is (B, m));
            - a matrix (m, n), torch or numpy;
            - a pair of callables (A, A_adjoint) on batches.
        image_shape: shape of one image (C, H, W).
        noise: sigma or a noise model, for operators that bring none.

    The operator need not be differentiable: gradients go through its adjoint.
    """
    if isinstance(obj, LinearPhysics):
        return obj
    if isinstance(obj, (tuple, list)) and len(obj) == 2 and all(callable(f) for f in obj):
        forward, adjoint = obj
        return CallablePhysics(forward, adjoint, image_shape, noise, _name(forward))
    if callable(getattr(obj, "A", None)) and callable(getattr(obj, "A_adjoint", None)):
        noise = _foreign_noise(obj) if noise is None else noise
        return CallablePhysics(obj.A, obj.A_adjoint, image_shape, noise, type(obj).__name__)
    if isinstance(obj, (Tensor, np.ndarray)):
        return MatrixPhysics(torch.as_tensor(obj), image_shape, noise)
    if hasattr(obj, "shape") and (hasattr(obj, "rmatvec") or hasattr(obj, "tocsr")):
        return _from_scipy(obj, image_shape, noise)
    raise UsageError(
        f"cannot use {type(obj).__name__} as an operator: give an object with A and A_adjoint, a "
        f"scipy LinearOperator, a matrix, or a pair of callables"
    )


class CallablePhysics(LinearPhysics):
    """An operator given by two functions on batches."""

    def __init__(self, forward, adjoint, image_shape=None, noise=None, name="operator"):
        super().__init__(image_shape, noise)
        self._forward, self._adjoint, self.name = forward, adjoint, name

    def A(self, x: Tensor) -> Tensor:
        if self.image_shape is not None:
            self.check_image(x)
        return _LinearMap.apply(x, self._forward, self._adjoint)

    def A_adjoint(self, y: Tensor) -> Tensor:
        return _LinearMap.apply(y, self._adjoint, self._forward)

    def extra_repr(self) -> str:
        return self.name


class _LinearMap(torch.autograd.Function):
    """A linear map whose gradient is its adjoint, so that A itself may be anything."""

    @staticmethod
    def forward(ctx, x, forward, adjoint):
        ctx.maps = forward, adjoint
        return forward(x.detach())

    @staticmethod
    def backward(ctx, grad):
        forward, adjoint = ctx.maps
        return _LinearMap.apply(grad.contiguous(), adjoint, forward), None, None


def _from_scipy(op, image_shape, noise) -> CallablePhysics:
    if image_shape is None:
        raise UsageError("a scipy operator works on vectors: give the image_shape (C, H, W) too")
    if np.issubdtype(op.dtype, np.complexfloating):
        raise UsageError("a complex scipy operator: stack its real and imaginary parts first")
    m, n = op.shape
    shape = tuple(image_shape)
    if int(np.prod(shape)) != n:
        raise ShapeError(f"the operator has {n} columns but images {shape} have {np.prod(shape)}")
    sparse = hasattr(op, "tocsr")
    matvec = (lambda v: op @ v) if sparse else op.matvec
    rmatvec = (lambda v: op.T @ v) if sparse else op.rmatvec

    def on_batch(f, batch: Tensor, out: tuple[int, ...]) -> Tensor:
        rows = batch.flatten(1).cpu().numpy()
        result = np.stack([np.asarray(f(row)).reshape(out) for row in rows])
        return torch.from_numpy(result).to(batch)

    def forward(x):
        return on_batch(matvec, x, (m,))

    def adjoint(y):
        if y.shape[1:] != (m,):
            raise ShapeError(f"the operator gives measurements (B, {m}), got {tuple(y.shape)}")
        return on_batch(rmatvec, y, shape)

    return CallablePhysics(forward, adjoint, shape, noise, type(op).__name__)


class _OtherNoise(NoNoise):
    """A foreign noise model that has no single sigma: it draws, but tells solvers nothing."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, y, generator=None):
        return self.model(y)


def _foreign_noise(obj):
    model = getattr(obj, "noise_model", None)
    sigma = getattr(model, "sigma", None)
    if isinstance(sigma, (int, float)):
        return float(sigma)
    if isinstance(sigma, Tensor):
        return float(sigma) if sigma.numel() == 1 else sigma.detach().flatten()
    return _OtherNoise(model) if callable(model) else None


def _name(f) -> str:
    return getattr(f, "__qualname__", type(f).__name__)
