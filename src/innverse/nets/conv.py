"""Networks for images: Glow's 3x3 - 1x1 - 3x3 convolutions, and a residual one."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..accelerate.plain import Kind, Plain, is_activation, is_convolution
from ..accelerate.regions import compiles
from .activations import ACTIVATIONS, make_activation
from .conditioning import is_shared, modulated, zeroed
from .precision import ConditionerNet


class ZeroConv2d(nn.Conv2d):
    """A 3x3 convolution that starts at zero, with a learned gain per output channel.

    The gain e^g lets the output grow quickly from zero (Kingma & Dhariwal 2018, section 3.3).
    """

    bias: nn.Parameter  # ty: ignore[incompatible-mutable-override]  (never None here)

    def __init__(self, n_in: int, n_out: int):
        super().__init__(n_in, n_out, 3, padding=1)
        zeroed(self)
        self.log_gain = nn.Parameter(torch.zeros(n_out))

    def forward(self, input: Tensor) -> Tensor:
        return F.conv2d(input, *self.kernel(), padding=1)

    def kernel(self) -> tuple[Tensor, Tensor]:
        """Weight and bias with the gain."""
        gain = self.log_gain.exp()
        return self.weight * gain.view(-1, 1, 1, 1), self.bias * gain


class SingleConv(ConditionerNet):
    """One 3x3 convolution that starts at zero; a condition (vector or map) is concatenated.

    Example:
        >>> SingleConv(2, 4)(torch.rand(5, 2, 8, 8)).shape
        torch.Size([5, 4, 8, 8])
    """

    axes = (4,)

    def __init__(self, n_in: int, n_out: int, *, condition: int = 0):
        super().__init__()
        self.last = ZeroConv2d(self._takes(n_in, condition, "concat"), n_out)

    def compute(self, x: Tensor, c: Tensor | None) -> Tensor:
        return self.last(self._joined(x, c))


class ConvNet(ConditionerNet):
    """3x3 - 1x1 - 3x3 convolutions (Kingma & Dhariwal 2018); (B, n_in, H, W) -> (B, n_out, H, W).

    The last convolution starts at zero. ``condition`` is the number k of channels of a condition,
    a vector (B, k) or a map (B, k, h, w) of any resolution, taken by ``how`` = ``"concat"``, or
    for vectors ``"film"``.

    Raises:
        ShapeError: x or c of another shape.

    Example:
        >>> net = ConvNet(2, 4, hidden=8)
        >>> net(torch.rand(5, 2, 8, 8)).shape
        torch.Size([5, 4, 8, 8])
    """

    axes = (4,)

    def __init__(
        self,
        n_in: int,
        n_out: int,
        hidden: int = 64,
        *,
        condition: int = 0,
        how: str = "concat",
        activation: str = "relu",
    ):
        super().__init__()
        self.first = nn.Conv2d(self._takes(n_in, condition, how), hidden, 3, padding=1)
        self.middle = nn.Conv2d(hidden, hidden, 1)
        self.last = ZeroConv2d(hidden, n_out)
        # relu in place: convolutions keep their input for the gradient, not their output
        in_place = {"inplace": True} if activation == "relu" else {}
        self.activation, self._name = make_activation(activation, **in_place), activation
        self.film = self._films(2, hidden)

    def compute(self, x: Tensor, c: Tensor | None) -> Tensor:
        h = self._joined(x, c)
        for i, conv in enumerate((self.first, self.middle)):
            film: Any = None if self.film is None else self.film[i]
            if self._in_one_pass(conv, h):
                p = [] if film is None or c is None else [film.linear(c)]
                h = F.conv2d(h, conv.weight, None, conv.stride, conv.padding)
                h = modulated(h, conv.bias, *p, activation=self._name)
            else:
                h = self.activation(conv(h) if film is None else film.after(conv, h, c))
        return self.last(h)

    def _in_one_pass(self, conv: Any, h: Tensor) -> bool:
        """Whether bias, FiLM and activation are compiled to one pass over what ``conv`` gives."""
        count = conv.out_channels * h.numel() // h.shape[1]
        return compiles(h, count) and self._is_plain()

    def plain(self, x: Tensor, c: Tensor | None) -> Plain | None:
        convs = (self.first, self.middle)
        if not self._is_plain():
            return None
        if self.condition == 0 and c is None:
            pairs: Any = [(conv.weight, conv.bias) for conv in convs]
        elif self.film is not None and c is not None and c.dim() == 2 and is_shared(c):
            films: list[Any] = [*self.film]
            pairs = [film.folded_into(conv, c) for film, conv in zip(films, convs, strict=True)]
        else:
            return None
        return Plain(
            Kind(self._name), tuple(t for pair in (*pairs, self.last.kernel()) for t in pair)
        )

    def _is_plain(self) -> bool:
        """Whether weights and biases are all that there is to the network, besides FiLM."""
        return (
            is_activation(self.activation, ACTIVATIONS[self._name])
            and is_convolution(self.first, 3)
            and is_convolution(self.middle, 1)
            and is_convolution(self.last, 3, ZeroConv2d)
        )


class ConvResNet(ConditionerNet):
    """Residual 3x3 blocks (RealNVP, Dinh et al. 2016); same interface as `ConvNet`.

    Example:
        >>> net = ConvResNet(2, 4, hidden=8, blocks=1)
        >>> net(torch.rand(5, 2, 8, 8)).shape
        torch.Size([5, 4, 8, 8])
    """

    axes = (4,)

    def __init__(
        self,
        n_in: int,
        n_out: int,
        hidden: int = 64,
        blocks: int = 2,
        *,
        condition: int = 0,
        how: str = "concat",
        activation: str = "relu",
    ):
        super().__init__()
        self.first = nn.Conv2d(self._takes(n_in, condition, how), hidden, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                make_activation(activation),
                nn.Conv2d(hidden, hidden, 3, padding=1),
                make_activation(activation),
                nn.Conv2d(hidden, hidden, 3, padding=1),
            )
            for _ in range(blocks)
        )
        self.film = self._films(blocks, hidden)
        self.activation = make_activation(activation)
        self.last = ZeroConv2d(hidden, n_out)

    def compute(self, x: Tensor, c: Tensor | None) -> Tensor:
        h = self.first(self._joined(x, c))
        for i, block in enumerate(self.blocks):
            h = h + block(self._modulated(i, h, c))
        return self.last(self.activation(h))
