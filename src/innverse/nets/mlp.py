"""Networks for vectors: a multilayer perceptron, plain or residual."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..accelerate.plain import Kind, Plain, is_activation, is_linear
from .activations import ACTIVATIONS, make_activation
from .conditioning import as_rows, zeroed
from .precision import ConditionerNet


class MLP(ConditionerNet):
    """``depth`` hidden layers of ``width``; (B, n_in) -> (B, n_out), zero at the start.

    ``condition`` is the size k of a vector condition (B, k), taken by ``how`` = ``"concat"`` (at
    the input) or ``"film"`` (at every hidden layer). ``activation`` is ``"relu"``, ``"silu"`` or
    ``"gelu"``. With ``residual`` the hidden layers are skip-connected.

    Raises:
        ShapeError: x or c of another shape.

    Example:
        >>> net = MLP(4, 6, width=32, depth=2)
        >>> net(torch.rand(5, 4)).shape
        torch.Size([5, 6])
    """

    axes = (2,)

    def __init__(
        self,
        n_in: int,
        n_out: int,
        width: int = 128,
        depth: int = 2,
        *,
        condition: int = 0,
        how: str = "concat",
        activation: str = "silu",
        residual: bool = False,
    ):
        super().__init__()
        self.residual = residual
        self.first = nn.Linear(self._takes(n_in, condition, how), width)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(depth - 1))
        self.film = self._films(depth, width)
        self.last = zeroed(nn.Linear(width, n_out))
        self.activation, self._name = make_activation(activation), activation

    def compute(self, x: Tensor, c: Tensor | None) -> Tensor:
        h = self.first(self._joined(x, c))
        h = self.activation(self._modulated(0, h, c))
        for i, layer in enumerate(self.hidden):
            new = self.activation(self._modulated(i + 1, layer(h), c))
            h = h + new if self.residual else new
        return self.last(h)

    def plain(self, x: Tensor, c: Tensor | None) -> Plain | None:
        if self.film is not None or self.residual or (self.condition > 0) != (c is not None):
            return None
        held: dict[str, Any] = self._modules  # nn.Module looks attributes up slowly
        layers = (held["first"], *held["hidden"]._modules.values(), held["last"])
        plain = is_activation(held["activation"], ACTIVATIONS[self._name])
        if not (plain and all(map(is_linear, layers))):
            return None
        tensors = tuple(layer._parameters[n] for layer in layers for n in ("weight", "bias"))
        return Plain(Kind(self._name), tensors, None if c is None else as_rows(c, x))
