"""Networks for vectors: a multilayer perceptron, plain or residual."""

from __future__ import annotations

from torch import Tensor, nn

from ..native.perceptron import Kind
from .activations import ACTIVATIONS
from .conditioning import FiLM, as_rows, concatenate
from .perceptron import perceptron
from .plain import Plain, is_activation, is_linear
from .precision import ConditionerNet, in_autocast_dtype


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
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation={activation!r}: choose one of {', '.join(ACTIVATIONS)}")
        concat = condition if how == "concat" else 0
        self.n_in, self.condition, self.how, self.residual = n_in, condition, how, residual
        self.first = nn.Linear(n_in + concat, width)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(depth - 1))
        film = condition > 0 and how == "film"
        self.film = nn.ModuleList(FiLM(condition, width) for _ in range(depth)) if film else None
        self.last = nn.Linear(width, n_out)
        self.activation, self._name = ACTIVATIONS[activation](), activation
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def compute(self, x: Tensor, c: Tensor | None) -> Tensor:
        x = concatenate(x, c) if self.condition and self.how == "concat" else x
        if tensors := self._tensors():
            x, *tensors = in_autocast_dtype(x, *tensors)
            return perceptron(x, self._name, *tensors)
        h = self.first(x)
        h = self.activation(self._modulate(0, h, c))
        for i, layer in enumerate(self.hidden):
            new = self.activation(self._modulate(i + 1, layer(h), c))
            h = h + new if self.residual else new
        return self.last(h)

    def plain(self, x: Tensor, c: Tensor | None) -> Plain | None:
        tensors = self._tensors()
        if not tensors or (self.condition > 0) != (c is not None):
            return None
        return Plain(Kind(self._name), tensors, None if c is None else as_rows(c, x))

    def _tensors(self) -> tuple[Tensor, ...] | None:
        """The weights and biases, if they are all that there is to the network."""
        layers = (self.first, *self.hidden, self.last)
        if (
            self.film is not None
            or self.residual
            or not is_activation(self.activation, ACTIVATIONS[self._name])
            or not all(map(is_linear, layers))
        ):
            return None
        held = (layer._parameters for layer in layers)
        return tuple(t for p in held for t in (p["weight"], p["bias"]))

    def _modulate(self, i: int, h: Tensor, c: Tensor | None) -> Tensor:
        return h if self.film is None else self.film[i](h, c)
