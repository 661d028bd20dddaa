"""Shapes: what layers and networks were not made for they refuse, in one line, before they compute."""

from __future__ import annotations

import torch
from torch import Tensor

from .errors import ShapeError, UsageError

_NAMES = {2: "(B, {})", 3: "(B, {}, L)", 4: "(B, {}, H, W)"}


def positions(x: Tensor) -> int:
    """At how many places x (B, C, *space) has its channels."""
    return x.shape[2:].numel()  # ty: ignore[missing-attribute]  (a slice of a Size is a Size)


def wide(values: Tensor, like: Tensor) -> Tensor:
    """One value per item, (B,) -> (B, 1, ..., 1), so that it broadcasts against ``like`` (B, ...)."""
    return values.reshape(-1, *[1] * (like.dim() - 1))


def dtype_name(dtype: torch.dtype) -> str:
    """As a reader is told it, "float32"."""
    return str(dtype).removeprefix("torch.")


def tensor_of(value, refusal: str, dtype: torch.dtype | None = None) -> Tensor:
    """A tensor of what a user gives, without a graph; a UsageError that begins with ``refusal``."""
    try:
        return torch.as_tensor(value, dtype=dtype).detach()
    except (TypeError, ValueError, RuntimeError):
        raise UsageError(f"{refusal}, got {type(value).__name__}") from None


def check_channels(who: object, x: Tensor, channels: int | None, axes: tuple = ()) -> None:
    """``who`` takes x (B, channels, ...); where ``axes`` are given, x has as many of them.

    Raises:
        ShapeError: another number of channels, or of axes.
    """
    good = x.dim() in axes if axes else x.dim() >= 2
    if good and (channels is None or x.shape[1] == channels):
        return
    n = "C" if channels is None else channels
    wanted = " or ".join(_NAMES[a].format(n) for a in axes) or f"(B, {n}, ...)"
    raise ShapeError(f"{_name(who)} takes {wanted}, got {tuple(x.shape)}")


def check_condition(who: object, x: Tensor, c: Tensor | None, k: int, maps: bool = False) -> Tensor:
    """``who`` takes with x a condition c (B, k) or, with ``maps``, (B, k, h, w) for images; one for
    all items may come as a batch of one. Returns c.

    Raises:
        ShapeError: no condition, or one of another size.
    """
    if c is not None and (c.dim() == 2 or (maps and c.dim() == x.dim() == 4)):
        if c.shape[1] == k and (c.shape[0] == x.shape[0] or c.shape[0] == 1):
            return c
    wanted = f"({x.shape[0]}, {k})" + f" or ({x.shape[0]}, {k}, h, w)" * (maps and x.dim() == 4)
    got = "none" if c is None else str(tuple(c.shape))
    raise ShapeError(f"{_name(who)} takes a condition {wanted} with x {tuple(x.shape)}, got {got}")


def _name(who: object) -> str:
    return type(who).__name__
