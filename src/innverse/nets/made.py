"""The masked autoregressive perceptron: output i sees only the inputs that come before i."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..accelerate.plain import Kind, Plain, is_activation, matrix_and_bias
from ..derived import register_derived
from .activations import ACTIVATIONS, make_activation
from .conditioning import as_rows, zeroed
from .precision import ConditionerNet


class MADE(ConditionerNet):
    """A perceptron whose weights are masked so that it is autoregressive (Germain et al. 2015,
    arXiv 1502.03509); (B, n) -> (B, n_params * n), zero at the start.

    ``order`` gives each input its rank: the parameters of element i depend on the elements of
    lower rank, and on the condition. The default is 0, 1, .., n - 1; elements of one rank do not
    see each other, so ``[0, 0, 1, 1]`` makes two groups. Hidden units spread evenly over the
    ranks; with fewer units than ranks, some dependencies are left out.

    ``width``, ``depth``, ``condition``, ``how`` and ``activation`` are those of `MLP`.

    Attributes:
        dependency: (n, n) bool, whether the parameters of element i (row) depend on element j.
        depth_of: (n,) int, the longest chain of dependencies that ends at each element.
        passes: how many evaluations it takes to invert, 1 + the largest ``depth_of``; at most n.

    Example:
        >>> net = MADE(3, 2)  # for each of 3 numbers 2 parameters, from those before it
        >>> net(torch.rand(5, 3)).shape
        torch.Size([5, 6])
    """

    dependency: Tensor
    depth_of: Tensor
    axes = (2,)

    def __init__(
        self,
        n: int,
        n_params: int,
        width: int = 128,
        depth: int = 2,
        *,
        order: Sequence[int] | Tensor | None = None,
        condition: int = 0,
        how: str = "concat",
        activation: str = "silu",
    ):
        super().__init__()
        order = list(range(n)) if order is None else torch.as_tensor(order, device="cpu").tolist()
        if not isinstance(order, list) or len(order) != n:
            raise ValueError(f"order must give {n} ranks, got {order}")
        given = self._takes(n, condition, how)
        self.n, self.n_params = n, n_params
        self.activation, self._name = make_activation(activation), activation

        sizes = [given, *[width] * depth, n_params * n]
        linears = [nn.Linear(i, o) for i, o in zip(sizes, sizes[1:])]
        zeroed(linears[-1])
        self.linears = nn.ModuleList(linears)
        self.film = self._films(depth, width)

        self._settings = order, given - n, width, depth, n_params, condition > 0
        derived = self.derive()
        self.passes = int(derived["depth_of"].max()) + 1
        device = linears[0].weight.device
        register_derived(self, **{name: t.to(device) for name, t in derived.items()})

    def derive(self) -> dict[str, Tensor]:
        """Masks and dependencies, which follow from the settings."""
        with torch.device("cpu"):  # their values count, under torch.device("meta") too
            masks = _masks(*self._settings)
            dependency, depth_of = _dependency(masks, self.n)
        numbered = {f"mask{i}": mask for i, mask in enumerate(masks)}
        return numbered | {"dependency": dependency, "depth_of": depth_of}

    def compute(self, x: Tensor, c: Tensor | None) -> Tensor:
        h = self._joined(x, c)
        tensors = self._tensors(x)
        for i, (w, b) in enumerate(zip(tensors[:-2:2], tensors[1:-2:2])):
            h = nn.functional.linear(h, w, b)
            h = self.activation(self._modulated(i, h, c))
        return nn.functional.linear(h, *tensors[-2:])

    def plain(self, x: Tensor, c: Tensor | None) -> Plain | None:
        if self.film is not None or not is_activation(self.activation, ACTIVATIONS[self._name]):
            return None
        condition = None if c is None else as_rows(c, x)
        return Plain(Kind(self._name), tuple(self._tensors(x)), condition)

    def _tensors(self, x: Tensor) -> list[Tensor]:
        """Masked weights and biases; whatever was put in a layer's place is masked as well."""
        found: list[Tensor] = []
        for i, layer in enumerate(self.linears):
            mask: Any = self._buffers[f"mask{i}"]
            w, b = matrix_and_bias(layer, mask.shape[1], x)
            found += [w * mask, b]
        return found

    def extra_repr(self) -> str:
        return f"{self.n} -> {self.n_params} x {self.n}, passes={self.passes}"


def _masks(order, concat, width, depth, n_params, conditional) -> list[Tensor]:
    """One 0/1 mask (out, in) per layer, as bool.

    A hidden unit of degree m may know the inputs of rank < m; an output of rank r may know the
    units of degree <= r. Degree 0 knows the condition only.
    """
    ranks = torch.unique(torch.tensor(order), return_inverse=True)[1]
    top = int(ranks.max())
    low = 0 if conditional or top == 0 else 1
    hidden = low + torch.arange(width) * (top + 1 - low) // width
    inputs = torch.cat((ranks + 1, ranks.new_zeros(concat)))
    between = [hidden[:, None] >= hidden] * (depth - 1)
    outputs = (ranks[:, None] >= hidden).repeat(n_params, 1)
    return [hidden[:, None] >= inputs, *between, outputs]


def _dependency(masks: list[Tensor], n: int) -> tuple[Tensor, Tensor]:
    """Who depends on whom, through all masks; and the longest chain that ends at each element."""
    paths = masks[0][:, :n].double()
    for mask in masks[1:]:
        paths = (mask.double() @ paths).clamp_max(1)
    dependency = paths[:n] > 0
    depth_of = torch.zeros(n, dtype=torch.long)
    for _ in range(n):
        depth_of = torch.where(dependency, depth_of + 1, 0).amax(1)
    return dependency, depth_of
