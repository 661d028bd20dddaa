"""Checks of what a user brings: an operator, a measurement."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import InputError
from .noise import randn


@torch.no_grad()
def check_adjoint(physics, x, tol: float = 1e-3, trials: int = 2, seed: int = 0) -> float:
    """Compare <A x, y> with <x, A_adjoint y> for random x and y.

    Args:
        physics: an object with A and A_adjoint.
        x: a batch of images, or its shape.
        tol: largest relative difference.
        trials: number of random pairs.

    Returns:
        the largest difference, relative to ||A x|| ||y||.

    Raises:
        InputError: the two differ; names the operator and prints both inner products.
    """
    if isinstance(x, Tensor):
        shape, dtype, device = x.shape, x.dtype, x.device
    else:
        shape, dtype = tuple(x), torch.float32
        buffers = physics.buffers() if isinstance(physics, torch.nn.Module) else ()
        device = next((b.device for b in buffers), torch.device("cpu"))
    name = getattr(physics, "name", None) or type(physics).__name__
    generator = torch.Generator().manual_seed(seed)
    worst = 0.0
    for _ in range(trials):
        u = randn(shape, dtype=dtype, device=device, generator=generator)
        au = physics.A(u)
        v = randn(au.shape, dtype=au.dtype, device=au.device, generator=generator)
        atv = physics.A_adjoint(v)
        if atv.shape != u.shape:
            raise InputError(
                f"the adjoint of {name} is wrong: A_adjoint returns shape {tuple(atv.shape)} for "
                f"images of shape {tuple(u.shape)}"
            )
        left = torch.sum(au.double() * v.double())
        right = torch.sum(u.double() * atv.double())
        # the inner product of random vectors nearly cancels: measure against the norms
        scale = max(float(au.double().norm() * v.double().norm()) / v.numel() ** 0.5, 1e-30)
        worst = max(worst, abs(float(left - right)) / scale)
        if not worst <= tol:
            raise InputError(
                f"the adjoint of {name} is wrong: <A x, y> = {float(left):.6g} but "
                f"<x, A_adjoint y> = {float(right):.6g} for random x, y"
            )
    return worst


def check_measurement(y: Tensor) -> None:
    """Raise InputError if the measurement holds NaN or Inf, with their number."""
    bad = int((~torch.isfinite(y)).sum())
    if bad:
        nan = int(torch.isnan(y).sum())
        kinds = "NaN" if nan == bad else "Inf" if nan == 0 else "NaN or Inf"
        raise InputError(
            f"the measurement contains {bad} {kinds} of {y.numel()} values: replace them, or mask "
            f"them as missing"
        )
    if y.numel() == 0:
        raise InputError("the measurement is empty")
