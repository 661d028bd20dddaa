"""Running a user's simulator on draws of a user's prior."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..errors import InputError, ShapeError, UsageError
from .checks import as_rows

_CHUNK = 4096


def draw_prior(prior, n: int) -> Tensor:
    """``n`` draws (n, D) of anything with ``sample((n,))``.

    Raises:
        UsageError: no such method.
        ShapeError: draws of another shape.
    """
    if not callable(getattr(prior, "sample", None)):
        raise UsageError("prior: give an object with sample((n,)), such as torch's distributions")
    theta = as_rows(flattened(prior.sample((n,)), prior), "the prior's sample").detach()
    if len(theta) != n or theta.dim() != 2:
        raise ShapeError(f"prior.sample(({n},)) must be ({n}, D), not {tuple(theta.shape)}")
    return theta


def flattened(theta, prior):
    """theta (N, D) of draws (N, *event_shape) of a prior of matrices, row by row."""
    shape = tuple(getattr(prior, "event_shape", ()))
    if len(shape) > 1 and tuple(getattr(theta, "shape", ())[1:]) == shape:
        return theta.reshape(len(theta), -1)
    return theta


def simulate(
    simulator: Callable,
    theta: Tensor,
    *,
    vectorized: bool = True,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Tensor:
    """x (N, ...) for theta (N, D), in chunks, with ``report(done, total)`` in between.

    Args:
        simulator: theta (B, D) -> x (B, ...), or, unless ``vectorized``, (D,) -> one x.

    Raises:
        InputError: the simulator raised; the message names the error and the parameters.
        ShapeError: the wrong number of rows, or shapes that differ between calls.
    """
    size = _CHUNK if vectorized else 1
    parts: list[Tensor] = []
    for start in range(0, len(theta), size):
        part = theta[start : start + size]
        x = _call(simulator, part if vectorized else part[0], start, vectorized)
        x = x if vectorized else x.unsqueeze(0)
        if vectorized and len(x) != len(part):
            raise ShapeError(
                f"the simulator returned {tuple(x.shape)} for theta {tuple(part.shape)}: return "
                "one row per theta, or pass vectorized=False for one theta at a time"
            )
        if parts and x.shape[1:] != parts[0].shape[1:]:
            raise ShapeError(
                f"the simulator returned {tuple(x.shape[1:])} at simulation {start} and "
                f"{tuple(parts[0].shape[1:])} before: every x must have the same shape"
            )
        parts.append(x)
        report(min(start + size, len(theta)), len(theta))
    return as_rows(torch.cat(parts), "x")


def _call(simulator: Callable, theta: Tensor, start: int, vectorized: bool) -> Tensor:
    try:
        x = simulator(theta)
    except Exception as error:
        where = f"theta {tuple(theta.shape)}" if vectorized else f"theta = {_numbers(theta)}"
        hint = " (pass vectorized=False if it takes one theta at a time)" if vectorized else ""
        text = str(error).splitlines()[0] if str(error) else "no message"
        raise InputError(
            f"the simulator raised {type(error).__name__} at simulation {start}, {where}: "
            f"{text}{hint}"
        ) from error
    try:
        x = torch.as_tensor(x).detach().cpu()
    except (TypeError, ValueError, RuntimeError):
        raise InputError(
            f"the simulator returned {type(x).__name__}, not an array of numbers"
        ) from None
    x = x if x.is_floating_point() else x.to(torch.get_default_dtype())
    if vectorized and x.dim() == 0:
        raise ShapeError(
            "the simulator returned a single number: return one row per theta, or pass "
            "vectorized=False for one theta at a time"
        )
    return x


def _numbers(theta: Tensor) -> str:
    shown = ", ".join(f"{v:.6g}" for v in theta[:8].tolist())
    return f"[{shown}{', ...' if len(theta) > 8 else ''}]"
