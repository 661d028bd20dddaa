"""Networks for images: Glow's 3x3 - 1x1 - 3x3 convolutions, and a residual one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..native.perceptron import Kind
from .activations import ACTIVATIONS
from .conditioning import FiLM, concatenate, is_shared
from .plain import Plain, is_activation, is_convolution
from .precision import ConditionerNet, in_autocast_dtype
from .three_convolutions import three_convolutions


class ZeroConv2d(nn.Conv2d):
    """A 3x3 convolution that starts at zero, with a learned gain per output channel.

    The gain e^g lets the output grow quickly from zero (Kingma & Dhariwal 2018, section 3.3).
    """

    def __init__(self, n_in: int, n_out: int):
        super().__init__(n_in, n_out, 3, padding=1)
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)
        self.log_gain = nn.Parameter(torch.zeros(n_out))

    def forward(self, h: Tensor) -> Tensor:
        return F.conv2d(h, *self.kernel(), padding=1)

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

    axes, maps = (4,), True

    def __init__(self, n_in: int, n_out: int, *, condition: int = 0):
        super().__init__()
        self.n_in, self.condition = n_in, condition
        self.last = ZeroConv2d(n_in + condition, n_out)

    def compute(self, x: Tensor, c: Tensor | None) -> Tensor:
        return self.last(concatenate(x, c) if self.condition else x)


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
        concat = condition if how == "concat" else 0
        self.n_in, self.condition, self.how, self.maps = n_in, condition, how, how == "concat"
        self.first = nn.Conv2d(n_in + concat, hidden, 3, padding=1)
        self.middle = nn.Conv2d(hidden, hidden, 1)
        self.last = ZeroConv2d(hidden, n_out)
        # relu in place: convolutions keep their input for the gradient, not their output
        in_place = {"inplace": True} if activation == "relu" else {}
        self.activation, self._name = ACTIVATIONS[activation](**in_place), activation
        film = condition > 0 and how == "film"
        self.film = nn.ModuleList(FiLM(condition, hidden) for _ in range(2)) if film else None

    def compute(self, x: Tensor, c: Tensor | None) -> Tensor:
        x = concatenate(x, c) if self.condition and self.how == "concat" else x
        if self.film is None and self._name == "relu" and self._is_plain():
            return three_convolutions(*in_autocast_dtype(x, *self._tensors()))
        h = x
        for i, conv in enumerate((self.first, self.middle)):
            h = self.activation(conv(h) if self.film is None else self.film[i].after(conv, h, c))
        return self.last(h)

    def plain(self, x: Tensor, c: Tensor | None) -> Plain | None:
        convs = (self.first, self.middle)
        if not self._is_plain():
            return None
        if self.condition == 0 and c is None:
            pairs = [(conv.weight, conv.bias) for conv in convs]
        elif self.film is not None and c is not None and c.dim() == 2 and is_shared(c):
            pairs = [film.folded_into(conv, c) for film, conv in zip(self.film, convs, strict=True)]
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

    def _tensors(self) -> tuple[Tensor, ...]:
        convs = (self.first, self.middle, self.last)
        return *(t for conv in convs for t in (conv.weight, conv.bias)), self.last.log_gain


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
        concat = condition if how == "concat" else 0
        self.n_in, self.condition, self.how, self.maps = n_in, condition, how, how == "concat"
        self.first = nn.Conv2d(n_in + concat, hidden, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(
                ACTIVATIONS[activation](),
                nn.Conv2d(hidden, hidden, 3, padding=1),
                ACTIVATIONS[activation](),
                nn.Conv2d(hidden, hidden, 3, padding=1),
            )
            for _ in range(blocks)
        )
        film = condition > 0 and how == "film"
        self.film = nn.ModuleList(FiLM(condition, hidden) for _ in range(blocks)) if film else None
        self.activation = ACTIVATIONS[activation]()
        self.last = ZeroConv2d(hidden, n_out)

    def compute(self, x: Tensor, c: Tensor | None) -> Tensor:
        h = self.first(concatenate(x, c) if self.condition and self.how == "concat" else x)
        for i, block in enumerate(self.blocks):
            h = h + block(h if self.film is None else self.film[i](h, c))
        return self.last(self.activation(h))
