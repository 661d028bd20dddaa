"""How a network takes a condition: a vector by FiLM or concatenation, a map by concatenation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..accelerate.plain import is_convolution
from ..accelerate.regions import region


def concatenate(x: Tensor, c: Tensor | None) -> Tensor:
    """Append the condition's channels to x (B, C, *space).

    A vector (B, k) is repeated at every position; a map (B, k, h, w) of any resolution is
    averaged down or interpolated up to that of x. A batch of one serves all items.

    Example:
        >>> concatenate(torch.rand(5, 2, 8, 8), torch.rand(5, 3)).shape
        torch.Size([5, 5, 8, 8])
    """
    if c is None:
        return x
    c = as_rows(c, x)
    if c.dim() > 2:
        c = resampled(c, x.shape[2:])
    elif x.dim() > 2:
        c = c.view(*c.shape, *[1] * (x.dim() - 2)).expand(-1, -1, *x.shape[2:])
    return torch.cat((x, c), 1)


def as_rows(c: Tensor, x: Tensor) -> Tensor:
    """c with as many items as x, in its type."""
    c = c.to(x.dtype)
    return c if c.shape[0] == x.shape[0] else c.expand(x.shape[0], *c.shape[1:])


def resampled(c: Tensor, size: Sequence[int]) -> Tensor:
    """A map (B, k, h, w) at another height and width: averaged down, interpolated up."""
    size = tuple(size)
    if tuple(c.shape[2:]) == size:
        return c
    # an axis at a time where one shrinks and the other grows
    fewer = tuple(min(n, m) for n, m in zip(size, c.shape[2:], strict=True))
    c = c if tuple(c.shape[2:]) == fewer else F.adaptive_avg_pool2d(c, (fewer[0], fewer[1]))
    return c if fewer == size else F.interpolate(c, size, mode="bilinear")


def is_shared(c: Tensor) -> bool:
    """Whether all items of the batch have one condition c (B, k): a batch of one, or expanded."""
    return c.shape[0] == 1 or c.stride(0) == 0


def zeroed(layer: Any) -> Any:
    """``layer``, starting with weight and bias zero."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class FiLM(nn.Module):
    """Feature-wise scale and shift, linear in a vector: h * (1 + s(c)) + t(c) (Perez et al. 2017).

    ``c`` (B, k), ``h`` (B, channels, *space). Starts as the identity.

    Example:
        >>> film = FiLM(3, channels=8)
        >>> film(torch.rand(5, 8), torch.rand(5, 3)).shape
        torch.Size([5, 8])
    """

    def __init__(self, k: int, channels: int):
        super().__init__()
        self.linear = zeroed(nn.Linear(k, 2 * channels))

    def after(self, conv: Any, x: Tensor, c: Tensor) -> Tensor:
        """``self(conv(x), c)`` for a 2-D convolution, into which one condition for all is folded."""
        if not is_shared(c) or not (is_convolution(conv, 1) or is_convolution(conv, 3)):
            return self(conv(x), c)
        return F.conv2d(x, *self.folded_into(conv, c), conv.stride, conv.padding)

    def folded_into(self, conv: Any, c: Tensor) -> tuple[Tensor, Tensor]:
        """Weight and bias of the convolution that ``self(conv(x), c)`` is if all share one c."""
        s, t = self.linear(c[0]).chunk(2)
        return conv.weight * (1 + s).view(-1, 1, 1, 1), torch.addcmul(t, conv.bias, 1 + s)

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        s, t = self.linear(c).to(h.dtype).chunk(2, 1)
        shape = (*s.shape, *[1] * (h.dim() - 2))
        return torch.addcmul(t.view(shape), h, 1 + s.view(shape))


@region
def modulated(h: Tensor, bias: Tensor, p: Tensor | None = None, *, activation: str) -> Tensor:
    """The activation of `FiLM` of h + bias, (B, C, H, W), in the type of h; p (B, 2 C) or (1, 2 C) is
    what it makes of the condition (None: without FiLM)."""
    bias = bias.view(-1, 1, 1)
    if p is None:
        y = h + bias
    else:
        s, t = p.to(bias.dtype).view(*p.shape, 1, 1).chunk(2, 1)
        y = h * (1 + s) + (bias * (1 + s) + t)
    return _FORMULAS[activation](y).to(h.dtype)


_FORMULAS = {"relu": F.relu, "silu": F.silu, "gelu": F.gelu}
