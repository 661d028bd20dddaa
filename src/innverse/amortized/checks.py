"""What can be wrong with simulations, each said in one line."""

from __future__ import annotations

import numbers
import operator
from collections.abc import Sequence

import torch
from torch import Tensor

from ..data import floats
from ..errors import InputError, ShapeError, UsageError, warn
from .regions import Regions

FEWEST = 50  # simulations below which nothing can be learned, let alone held out


def as_pairs(theta, x) -> tuple[Tensor, Tensor]:
    """Float tensors theta (N, D) and x (N, ...) from arrays, tensors or lists.

    A vector theta (N,) is one parameter, a vector x (N,) one observed number.

    Raises:
        InputError, ShapeError: not numbers, no parameters, different lengths.
    """
    theta, x = as_rows(theta, "theta").detach(), as_rows(x, "x").detach()
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
    """A float tensor (N, ...) with at least two axes, on the processor; see `as_floats`."""
    t = as_floats(values, name)
    if t.dim() == 0:
        raise ShapeError(f"{name} is a single number: give one row per simulation")
    return t.unsqueeze(1) if t.dim() == 1 else t


def as_floats(values, name: str) -> Tensor:
    """`innverse.data.floats.as_floats`, on the processor."""
    return floats.as_floats(values, name).cpu()


def as_shape(sample_shape) -> torch.Size:
    """(n,) of n, and any shape as it is.

    Raises:
        UsageError: not whole numbers from 0 on.
    """
    try:
        shape = (operator.index(sample_shape),)  # also of a tensor of one number
    except TypeError:
        try:
            shape = tuple(operator.index(n) for n in sample_shape)
        except TypeError:
            shape = (-1,)
    if any(n < 0 for n in shape):
        raise UsageError(f"sample_shape={sample_shape!r}: give (n,), whole numbers from 0 on")
    return torch.Size(shape)


def as_observations(x, shape: tuple[int, ...]) -> Tensor:
    """x as (B, *shape): one observation or B of them, finite.

    Raises:
        InputError, ShapeError: one line that says what is wrong.
    """
    x = as_floats(x, "x")
    if tuple(x.shape) == shape or (x.dim() == 0 and shape == (1,)):
        x = x.reshape(1, *shape)
    elif x.dim() == 1 and shape == (1,):
        x = x.unsqueeze(1)  # as many observations of one number
    elif x.dim() == 2 and x.shape == (*shape, 1):
        x = x.reshape(1, -1)  # a vector (d,) that was taken for d rows of one number
    if tuple(x.shape[1:]) != shape or x.dim() == 0:
        want = ", ".join(map(str, shape))
        raise ShapeError(
            f"x must be ({want}{',' * (len(shape) == 1)}) or (B, {want}), as in training, got "
            f"{_shape(x)}"
        )
    if any_true(~x.detach().isfinite()):
        raise InputError("x contains NaN or infinite values: the posterior knows none")
    return x


def any_true(t: Tensor) -> bool:
    """Whether any entry is true; False under `torch.vmap`, which lets nobody look."""
    try:
        return bool(t.any())
    except RuntimeError:
        return False


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
        warn(
            f"{bad} of {len(x)} simulations ({share:.2g} %) contain NaN or infinite values and are "
            "left out; if failing depends on the parameters, the posterior is one given success",
        )
        theta, x = theta[valid], x[valid]
    return theta, x, bad


def check_pairs(theta: Tensor, x: Tensor, names: Sequence[str], region: Regions) -> None:
    """Raises InputError for too few simulations, and for parameters or data that never change."""
    if len(theta) < FEWEST:
        raise InputError(
            f"{len(theta)} usable simulations are too few to learn a posterior: give at least "
            f"{FEWEST}, better some thousands"
        )
    constant = (theta == theta[:1]).all(0) & ~region.structured()
    for i, name in enumerate(names):
        if constant[i]:
            raise InputError(
                f"parameter {name} is constant ({float(theta[0, i]):g}): leave it out, there is "
                "nothing to infer"
            )
    if bool((x == x[:1]).all()):
        raise InputError("x is the same in every simulation: it says nothing about theta")


def check_inside(theta: Tensor, region: Regions, names: Sequence[str]) -> None:
    """Raises InputError naming the first parameter with draws outside its bounds."""
    inside, low, high = region.inside(theta.double()), region.low, region.high
    for i, name in enumerate(names):
        out = ~inside[:, i]
        if bool(out.any()):
            value = float(theta[out, i][0])
            if region.structured()[i]:
                raise InputError(
                    f"the parameters from {name} on lie outside the prior's support in "
                    f"{int(out.sum())} of {len(theta)} simulations"
                )
            raise InputError(
                f"parameter {name} = {value:g} lies outside its bounds "
                f"[{float(low[i]):g}, {float(high[i]):g}] in {int(out.sum())} of {len(theta)} "
                "simulations"
            )


def check_seed(seed) -> None:
    """Raises UsageError for what is no seed."""
    if not isinstance(seed, numbers.Integral) or not 0 <= seed < 2**63:
        raise UsageError(f"seed={seed!r}: give a whole number from 0 to 2^63 - 1")


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
