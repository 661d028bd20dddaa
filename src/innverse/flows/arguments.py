"""What is given to a flow, data and condition, as the tensors that its layers take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError, ShapeError, UsageError
from ..shapes import dtype_name


def reference(module: nn.Module) -> Tensor | None:
    """A tensor of the floating type and on the device that ``module`` computes with, if any."""
    left = [module]
    while left:  # as module.parameters() goes, but this is asked at every call
        m = left.pop()
        # the replicas of DataParallel keep their parameters elsewhere
        for t in (m.__dict__.get("_former_parameters") or m._parameters).values():
            if t is not None and t.is_floating_point():
                return t
        left += reversed([child for child in m._modules.values() if child is not None])
    return next((t for t in module.buffers() if t.is_floating_point()), None)


def refuse_half(like: Tensor | None) -> None:
    """InputError where parameters are in half precision."""
    if like is not None and like.dtype in (torch.float16, torch.bfloat16):
        raise InputError(
            f"the parameters of this flow are {like.dtype}, which inverts nothing: call "
            "flow.float(), and innverse.nets.set_precision(flow, 'bf16') for its networks"
        )


def as_tensor(value: Any, what: str) -> Tensor:
    """``value`` (a tensor, an array, numbers) as a tensor of real numbers, or InputError."""
    if not isinstance(value, Tensor):
        try:
            value = torch.as_tensor(value)
        except Exception:
            raise InputError(
                f"{what} is of type {type(value).__name__}: give a tensor or an array of numbers"
            ) from None
    if value.is_inference() and not torch.is_inference_mode_enabled():
        value = value.clone()  # or no gradient could be computed from it
    if value.is_complex():
        raise InputError(f"{what} is complex: this flow takes real numbers (two channels, say)")
    return value


def as_data(
    x: Any, like: Tensor | None, *, images: bool, wide: Callable[[], bool] = bool, what: str = "x"
) -> Tensor:
    """x in the floating type and on the device of the parameter ``like``.

    Integers become floats where they are coordinates; integer pixels have a scale that nothing here
    knows, and are refused. Where ``wide()``, float64 stays, and large integers become it, since the
    first layer takes their digits into account.
    """
    given = x
    x = as_tensor(x, what)
    if like is None:
        like = x if x.is_floating_point() else torch.empty((), device=x.device)
    if not isinstance(given, Tensor):
        x = x.to(like.device)
    if x.dtype == like.dtype and x.device == like.device:
        return x
    if x.device != like.device:
        raise InputError(f"{what} is on {x.device}, the flow on {like.device}: move one of them")
    if not x.is_floating_point() and x.dtype != torch.bool and images:
        raise InputError(
            f"{what} holds {dtype_name(x.dtype)}, and images live on [0, 1]: divide by the white level "
            "(255 for 8 bits), or ask for bits_per_dim, which dequantises"
        )
    if x.dtype in (torch.float64, torch.int32, torch.int64) and wide():
        return x.double()
    return x.to(like.dtype)


def as_condition(c: Any, k: int, count: int, like: Tensor, *, images: bool, maps: bool) -> Tensor:
    """c as (count, k), or for images as a map (count, k, h, w), in the type of ``like``.

    One condition, (k,), (1, k) or a map (k, h, w), is that of all items.
    """
    if isinstance(c, (int, float)):
        c = torch.full((), float(c), dtype=like.dtype, device=like.device)
    c = as_tensor(c, "the condition c").to(like)
    kinds = f"(B, {k})" + f" or (B, {k}, h, w)" * (images and maps)
    given = tuple(c.shape)
    if c.dim() < 2 and k == 1:
        c = c.reshape(-1, 1)
    elif c.dim() == 1 or (c.dim() == 3 and images and maps):
        c = c[None]
    fits = c.dim() == 2 or (c.dim() == 4 and images and maps)
    if not fits or c.shape[1] != k or 0 in c.shape[2:]:
        raise ShapeError(f"the condition c of this flow is {kinds}, got {given}")
    if len(c) not in (1, count):
        raise ShapeError(
            f"c holds {len(c)} conditions for {count} items: give one for each, or one for all"
        )
    return c if len(c) == count else c.expand(count, *c.shape[1:])


def as_sigma(sigma: Any, count: int, like: Tensor) -> Tensor:
    """Noise levels as (count,) or (1,), in the type of ``like``."""
    if isinstance(sigma, (int, float)):  # no copy from the CPU
        return torch.full((1,), float(sigma), device=like.device).to(like.dtype)
    sigma = as_tensor(sigma, "the noise level c")
    if sigma.numel() > 1 and sigma.numel() != len(sigma):
        raise ShapeError(
            f"the noise level of this flow is one number for each item, (B,) or (B, 1), got "
            f"{tuple(sigma.shape)}: it takes no map of levels"
        )
    if sigma.numel() not in (1, count):
        raise ShapeError(f"c holds {sigma.numel()} noise levels for {count} items: one for each")
    return sigma.reshape(-1).to(like)


def as_count(n: Any) -> tuple[int, ...]:
    """How many draws, a number or a shape, as a shape."""
    shape = n if isinstance(n, (tuple, list)) else (n,)
    try:
        counts = tuple(k.__index__() for k in shape)
    except AttributeError:
        counts = (-1,)
    if any(k < 0 for k in counts):
        raise UsageError(f"n={n!r}: a number of samples, 0 or more, or a tuple of such")
    return counts
