"""What can be wrong with simulations, each said in one line."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import InputError, ShapeError, UsageError

FEWEST = 50  # simulations below which nothing can be learned, let alone held out


def as_pairs(theta, x) -> tuple[Tensor, Tensor]:
    """Float tensors theta (N, D) and x (N, ...) from arrays, tensors or lists.

    A vector theta (N,) is one parameter, a vector x (N,) one measured number.

    Raises:
        InputError, ShapeError: not numbers, no parameters, different lengths.
    """
    theta, x = as_rows(theta, "theta"), as_rows(x, "x")
    if theta.dim() > 2:
        raise ShapeError(f"theta must be (N, D), one row per simulation, not {_shape(theta)}")
    if len(theta) != len(x):
        raise ShapeError(
            f"theta has {len(theta)} rows but x has {len(x)}: give one row of each per simulation"
        )
    if theta.numel() == 0 or x.numel() == 0:
        raise ShapeError(f"theta {_shape(theta)} and x {_shape(x)}: one of them is empty")
    return theta, x


def as_rows(values, name: str) -> Tensor:
    """A float tensor (N, ...) with at least two axes."""
    try:
        t = values if isinstance(values, Tensor) else torch.as_tensor(values)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{name} must be an array of numbers: {error}") from None
    if t.is_complex():
        raise InputError(f"{name} is complex: give its real and imaginary parts side by side")
    t = t.detach().cpu()
    t = t if t.is_floating_point() else t.to(torch.get_default_dtype())
    if t.dim() == 0:
        raise ShapeError(f"{name} is a single number: give one row per simulation")
    return t.unsqueeze(1) if t.dim() == 1 else t


def leave_out_invalid(theta: Tensor, x: Tensor) -> tuple[Tensor, Tensor, int]:
    """The pairs without NaN and infinity, and how many were left out (with a warning).

    Raises:
        InputError: none is left.
    """
    valid = theta.isfinite().all(1) & x.flatten(1).isfinite().all(1)
    bad = int((~valid).sum())
    if bad == len(x):
        raise InputError(f"all {bad} simulations contain NaN or infinite values: none can be used")
    if bad:
        share = 100 * bad / len(x)
        warnings.warn(
            f"{bad} of {len(x)} simulations ({share:.2g} %) contain NaN or infinite values and are "
            "left out; if failing depends on the parameters, the posterior is one given success",
            stacklevel=3,
        )
        theta, x = theta[valid], x[valid]
    return theta, x, bad


def check_pairs(theta: Tensor, x: Tensor, names: Sequence[str]) -> None:
    """Raises InputError for too few simulations, and for parameters or data that never change."""
    if len(theta) < FEWEST:
        raise InputError(
            f"{len(theta)} usable simulations are too few to learn a posterior: give at least "
            f"{FEWEST}, better some thousands"
        )
    for i, name in enumerate(names):
        if bool((theta[:, i] == theta[0, i]).all()):
            raise InputError(
                f"parameter {name} is constant ({float(theta[0, i]):g}): leave it out, there is "
                "nothing to infer"
            )
    if bool((x == x[:1]).all()):
        raise InputError("x is the same in every simulation: it says nothing about theta")


def check_inside(theta: Tensor, inside: Tensor, low, high, names: Sequence[str]) -> None:
    """Raises InputError naming the first parameter with draws outside its bounds."""
    for i, name in enumerate(names):
        out = ~inside[:, i]
        if bool(out.any()):
            value = float(theta[out, i][0])
            raise InputError(
                f"parameter {name} = {value:g} lies outside its bounds "
                f"[{float(low[i]):g}, {float(high[i]):g}] in {int(out.sum())} of {len(theta)} "
                "simulations"
            )


def check_names(names: Sequence[str] | None, n: int) -> list[str]:
    """The names of the parameters, theta[0], theta[1], ... by default."""
    if names is None:
        return [f"theta[{i}]" for i in range(n)]
    names = [str(name) for name in names]
    if len(names) != n or len(set(names)) != n:
        raise UsageError(f"names: give {n} different names for {n} parameters, got {names}")
    return names


def _shape(t: Tensor) -> str:
    return str(tuple(t.shape))
