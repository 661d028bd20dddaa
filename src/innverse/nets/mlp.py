"""Networks for vectors: a multilayer perceptron, plain or residual."""

from __future__ import annotations

from torch import Tensor, nn

from .conditioning import FiLM, concatenate
from .precision import ConditionerNet


class MLP(ConditionerNet):
    """``depth`` hidden layers of ``width``; (B, n_in) -> (B, n_out), zero at the start.

    ``condition`` is the size k of a vector condition (B, k), taken by ``how`` = ``"concat"`` (at
    the input) or ``"film"`` (at every hidden layer). With ``residual`` the hidden layers are
    skip-connected.
    """

    def __init__(
        self,
        n_in: int,
        n_out: int,
        width: int = 128,
        depth: int = 2,
        *,
        condition: int = 0,
        how: str = "concat",
        residual: bool = False,
    ):
        super().__init__()
        concat = condition if how == "concat" else 0
        self.condition, self.how, self.residual = condition, how, residual
        self.first = nn.Linear(n_in + concat, width)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(depth - 1))
        film = condition > 0 and how == "film"
        self.film = nn.ModuleList(FiLM(condition, width) for _ in range(depth)) if film else None
        self.last = nn.Linear(width, n_out)
        self.activation = nn.SiLU()
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def compute(self, x: Tensor, c: Tensor | None) -> Tensor:
        h = self.first(concatenate(x, c) if self.condition and self.how == "concat" else x)
        h = self.activation(self._modulate(0, h, c))
        for i, layer in enumerate(self.hidden):
            new = self.activation(self._modulate(i + 1, layer(h), c))
            h = h + new if self.residual else new
        return self.last(h)

    def _modulate(self, i: int, h: Tensor, c: Tensor | None) -> Tensor:
        return h if self.film is None else self.film[i](h, c)
