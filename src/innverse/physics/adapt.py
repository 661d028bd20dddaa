"""Bring your own operator."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..errors import ShapeError, UsageError
from .base import LinearPhysics
from .callables import CallablePhysics, adjoint_by_autograd
from .foreign_noise import take_over
from .kept import Kept
from .matrix import MatrixPhysics
from .noise import PoissonNoise
from .stacked import Stacked

_SMALL = 4096  # columns of an operator that is made a matrix for want of its adjoint


def as_physics(obj, image_shape=None, noise=None) -> LinearPhysics:
    """Make an operator of this package out of what a user has.

    Args:
        obj: one of

            - a `LinearPhysics`, returned as it is;
            - any object with methods ``A`` and ``A_adjoint`` (or ``forward`` and ``adjoint``) on
              batches, such as a deepinv physics, whose noise model is taken over;
            - a list of operators, or a deepinv stack: one `Stacked` measurement of them all;
            - a scipy or pylops ``LinearOperator`` or sparse matrix (needs image_shape; y is
              (B, m)); without ``rmatvec`` it is made a matrix, up to 4096 columns;
            - a matrix (m, n), torch (dense or sparse) or numpy, real or complex;
            - a pair of callables (A, A_adjoint) on batches;
            - one differentiable callable on batches: autograd gives the adjoint (needs
              image_shape).
        image_shape: shape of one image (C, H, W).
        noise: sigma or a noise model, for operators that bring none.

    Measurements may be complex; images are real (`ComplexAsChannels` serves complex ones). The
    operator need not be differentiable: gradients go through its adjoint.

    Example:
        >>> physics = as_physics(torch.eye(4)[:2], image_shape=(1, 2, 2))  # a matrix, say
        >>> physics.A(torch.rand(3, 1, 2, 2)).shape
        torch.Size([3, 2])
    """
    if isinstance(obj, LinearPhysics):
        return obj
    if _is_stack(obj):
        parts = obj if isinstance(obj, (tuple, list)) else obj.physics_list
        return Stacked([as_physics(p, image_shape, noise) for p in parts], image_shape)
    if isinstance(obj, (tuple, list)) and len(obj) == 2 and all(callable(f) for f in obj):
        forward, adjoint = obj
        return CallablePhysics(forward, adjoint, image_shape, noise, _name(forward))
    if callable(getattr(obj, "A", None)):
        return _from_object(obj, image_shape, noise)
    if isinstance(obj, Tensor) and obj.layout != torch.strided:
        return _from_torch_sparse(obj, image_shape, noise)
    if isinstance(obj, (Tensor, np.ndarray)):
        return MatrixPhysics(_tensor(obj), image_shape, noise)
    if hasattr(obj, "shape") and (hasattr(obj, "matvec") or hasattr(obj, "tocsr")):
        return _from_scipy(obj, image_shape, noise)
    if hasattr(obj, "forward") and callable(getattr(obj, "adjoint", None)):
        return CallablePhysics(obj.forward, obj.adjoint, image_shape, noise, type(obj).__name__)
    if callable(obj) and not isinstance(obj, type):
        return CallablePhysics(obj, None, image_shape, noise, _name(obj))
    raise UsageError(
        f"cannot use {type(obj).__name__} as an operator: give an object with A and A_adjoint, a "
        f"scipy LinearOperator, a matrix, a differentiable function or a pair (A, A_adjoint)"
    )


def stack(*operators, image_shape=None) -> Stacked:
    """Several measurements of one image as one vector, see `Stacked`.

    Args:
        operators: whatever `as_physics` takes.
        image_shape: (C, H, W), where none of them knows it.

    Example:
        >>> views = stack(Downsampling(2, noise=0.01), Blur(gaussian_kernel(1.0), noise=0.02))
        >>> y = views(torch.rand(1, 1, 8, 8))  # each part with its own noise
        >>> [tuple(part.shape) for part in views.split(y)]
        [(1, 1, 4, 4), (1, 1, 8, 8)]
    """
    return Stacked([as_physics(p, image_shape) for p in operators], image_shape)


def _is_stack(obj) -> bool:
    if isinstance(obj, (tuple, list)):
        return bool(obj) and all(callable(getattr(p, "A", None)) for p in obj)
    if any("Composed" in kind.__name__ for kind in type(obj).__mro__):  # has a list as well
        return False
    return isinstance(getattr(obj, "physics_list", None), (list, torch.nn.ModuleList))


def _from_object(obj, image_shape, noise) -> CallablePhysics:
    """An object in the manner of deepinv's physics."""
    name, model = type(obj).__name__, getattr(obj, "noise_model", None)
    forward = obj.A
    if callable(getattr(obj, "A_adjoint", None)):
        adjoint = obj.A_adjoint
    else:
        adjoint = adjoint_by_autograd(forward, image_shape, name)
    if noise is None and model is not None:
        noise = take_over(model)
        counts = getattr(model, "normalize", True)
        if isinstance(noise, PoissonNoise) and not bool(counts):
            # photons are counted, not multiplied by the gain: y ~ Poisson(A x / gain)
            gain = noise.gain
            forward, adjoint = _scaled(forward, 1 / gain), _scaled(adjoint, 1 / gain)
            noise = PoissonNoise(1.0)
    physics = CallablePhysics(forward, adjoint, image_shape, noise, name)
    physics.measures_images = bool(getattr(obj, "measures_images", False))
    return physics


def _scaled(f, by: float):
    return lambda v: f(v) * by


def _tensor(obj) -> Tensor:
    try:
        return torch.as_tensor(np.ascontiguousarray(obj) if isinstance(obj, np.ndarray) else obj)
    except (TypeError, ValueError):
        raise UsageError(f"the operator is an array of {obj.dtype}: give numbers") from None


def _from_torch_sparse(matrix: Tensor, image_shape, noise) -> CallablePhysics:
    if matrix.ndim != 2:
        raise ShapeError(f"the operator must be a matrix (m, n), got {tuple(matrix.shape)}")
    m, n = matrix.shape
    shape = _columns(n, image_shape)
    coo = matrix.detach().to_sparse_coo().coalesce()
    if not (coo.is_floating_point() or coo.is_complex()):
        coo = coo.to(torch.get_default_dtype())
    kept = Kept()

    def both(like: Tensor) -> tuple[Tensor, Tensor]:
        """The matrix and its conjugate transpose in the precision of a batch."""
        dtype = like.dtype.to_real()
        dtype = dtype.to_complex() if coo.is_complex() else dtype

        def make() -> tuple[Tensor, Tensor]:
            there = coo.to(device=like.device, dtype=dtype).coalesce()
            return there, there.conj().resolve_conj().T.coalesce()

        return kept((dtype, like.device), make)

    def forward(x: Tensor) -> Tensor:
        a, _ = both(x)
        return torch.sparse.mm(a, x.flatten(1).to(a.dtype).T.contiguous()).T

    def adjoint(y: Tensor) -> Tensor:
        _check_rows(y, m)
        _, a = both(y)
        return torch.sparse.mm(a, y.to(a.dtype).T.contiguous()).T.reshape(-1, *shape)

    return CallablePhysics(forward, adjoint, shape, noise, "sparse matrix")


def _from_scipy(op, image_shape, noise) -> LinearPhysics:
    if image_shape is None:
        raise UsageError("a scipy operator works on vectors: give the image_shape (C, H, W) too")
    m, n = op.shape
    shape = _columns(n, image_shape)
    if hasattr(op, "tocsr"):
        there = op.tocsr()
        back = there.conj().T.tocsr()
        matvec, rmatvec = (lambda v: there @ v), (lambda v: back @ v)
    else:
        matvec, rmatvec = op.matvec, getattr(op, "rmatvec", None)
        if not _works(rmatvec, m, op.dtype):
            return _as_matrix(op, shape, noise)

    def on_batch(f, batch: Tensor, out: tuple[int, ...]) -> Tensor:
        rows = batch.detach().flatten(1).resolve_conj().cpu().numpy()
        result = np.stack([np.asarray(f(row)).reshape(out) for row in rows])
        return torch.from_numpy(result).to(batch.device)

    def forward(x):
        return on_batch(matvec, x, (m,))

    def adjoint(y):
        _check_rows(y, m)
        return on_batch(rmatvec, y, shape)

    return CallablePhysics(forward, adjoint, shape, noise, type(op).__name__)


def _works(rmatvec, m: int, dtype) -> bool:
    try:
        rmatvec(np.zeros(m, dtype or float))
    except (NotImplementedError, TypeError, AttributeError, RecursionError):
        return False
    return True


def _as_matrix(op, shape, noise) -> MatrixPhysics:
    m, n = op.shape
    if n > _SMALL:
        raise UsageError(
            f"{type(op).__name__} has no rmatvec, and {n} columns are too many to make a matrix: "
            f"give it rmatvec, the conjugate transpose of matvec"
        )
    identity = np.eye(n, dtype=op.dtype or float)
    columns = [np.asarray(op.matvec(e)).reshape(m) for e in identity]
    return MatrixPhysics(_tensor(np.stack(columns, 1)), shape, noise)


def _columns(n: int, image_shape) -> tuple[int, ...]:
    shape = (n,) if image_shape is None else tuple(int(s) for s in image_shape)
    if int(np.prod(shape)) != n:
        raise ShapeError(f"the operator has {n} columns but images {shape} have {np.prod(shape)}")
    return shape


def _check_rows(y: Tensor, m: int) -> None:
    if y.shape[1:] != (m,):
        raise ShapeError(f"the operator gives measurements (B, {m}), got {tuple(y.shape)}")


def _name(f) -> str:
    return getattr(f, "__qualname__", type(f).__name__)
