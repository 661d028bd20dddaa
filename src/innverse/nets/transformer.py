"""Small vision transformers on a grid of patches, with or without causal attention."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .conditioning import zeroed
from .precision import ConditionerNet

Cache = list[tuple[Tensor, Tensor]]  # keys and values of each block, (B, heads, T, width / heads)


class Attention(nn.Module):
    """softmax(q k^T / sqrt(d)) v in several heads; h (B, T, width).

    The formula is written out: PyTorch's fused kernels have no second derivative.
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self, h: Tensor, causal: bool, past: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The output, and the keys and values so far; ``past`` are those of earlier tokens."""
        q, k, v = self.qkv(h).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if past is not None:
            k, v = torch.cat((past[0], k), 2), torch.cat((past[1], v), 2)
        weight = (q @ k.mT) * q.shape[-1] ** -0.5
        if causal:
            rows, columns = weight.shape[-2:]
            later = torch.ones(rows, columns, dtype=torch.bool, device=h.device)
            weight = weight.masked_fill(later.triu(columns - rows + 1), -math.inf)
        h = weight.softmax(-1) @ v
        return self.out(h.transpose(1, 2).flatten(2)), (k, v)


class Block(nn.Module):
    """Attention and a perceptron, each behind a layer norm and added to its input."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        self.attention = Attention(width, heads)
        self.perceptron = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, h: Tensor, causal: bool, past: tuple[Tensor, Tensor] | None = None):
        mixed, seen = self.attention(self.norms[0](h), causal, past)
        h = h + mixed
        return h + self.perceptron(self.norms[1](h)), seen


class ViT(ConditionerNet):
    """Patches (B, n_in, h, w) -> (B, n_out, h, w) of any grid; zero at the start.

    Every position is a token; where it lies enters by sines and cosines. With ``causal`` the
    output at a position depends on the earlier ones only, in raster order (or, ``backwards``,
    from the last to the first), and `step` computes one after another. ``condition`` is the size
    k of a vector condition (B, k), added to every token.

    Raises:
        ShapeError: x or c of another shape.

    Example:
        >>> net = ViT(3, 6, width=8, heads=2)
        >>> net(torch.rand(5, 3, 4, 4)).shape
        torch.Size([5, 6, 4, 4])
    """

    axes = (4,)

    def __init__(
        self,
        n_in: int,
        n_out: int,
        width: int = 128,
        depth: int = 2,
        heads: int = 4,
        *,
        causal: bool = False,
        backwards: bool = False,
        condition: int = 0,
    ):
        super().__init__()
        if width % heads or width % 4:
            raise ValueError(f"width={width} must divide by heads={heads} and by 4")
        self.causal, self.backwards = causal, backwards
        self.n_in, self.width, self.condition = n_in, width, condition
        self.first = nn.Linear(n_in, width)
        self.place = nn.Linear(width, width)
        self.context = nn.Linear(condition, width) if condition else None
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.last = zeroed(nn.Linear(width, n_out))

    def compute(self, x: Tensor, c: Tensor | None) -> Tensor:
        grid = (x.shape[-2], x.shape[-1])
        tokens = self.to_tokens(x)
        if self.causal:  # position i sees what comes before it
            tokens = F.pad(tokens[:, :-1], (0, 0, 1, 0))
        h = self.first(tokens) + self.places(x, c)
        for block in self.blocks:
            h, _ = block(h, self.causal)
        return self.to_grid(self.last(self.norm(h)), grid)

    def step(self, token: Tensor, place: Tensor, cache: Cache | None) -> tuple[Tensor, Cache]:
        """The output at one position, given the token before it and those before that in the cache.

        token (B, 1, n_in), zero at the first position; place (B or 1, 1, width) of `places`.
        Returns (B, 1, n_out) and the cache for the next position.
        """
        with self._computing_in(token):
            h = self.first(token) + place
            seen: Cache = []
            for i, block in enumerate(self.blocks):
                h, pair = block(h, True, None if cache is None else cache[i])
                seen.append(pair)
            return self.last(self.norm(h)), seen

    def places(self, x: Tensor, c: Tensor | None) -> Tensor:
        """What a token knows besides its value: where it lies, and the condition; (B|1, T, width)."""
        place = self.place(self.to_tokens(_waves(x, self.width)))
        if self.context is None or c is None:
            return place
        return place + self.context(c.to(x.dtype))[:, None]

    def to_tokens(self, x: Tensor) -> Tensor:
        """(B, n, h, w) -> (B, h w, n), in the order of the net."""
        tokens = x.flatten(2).mT
        return tokens.flip(1) if self.backwards else tokens

    def to_grid(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """The way back."""
        tokens = tokens.flip(1) if self.backwards else tokens
        return tokens.mT.unflatten(2, grid)


def _waves(x: Tensor, width: int) -> Tensor:
    """Sines and cosines of row and column (1, width, h, w), wavelengths from 2 pi to 600."""
    n = width // 4
    frequency = 100 ** (-torch.arange(n, device=x.device, dtype=x.dtype) / n)
    sizes = (torch.arange(size, device=x.device, dtype=x.dtype) for size in x.shape[-2:])
    rows, columns = (frequency[:, None, None] * t for t in torch.meshgrid(*sizes, indexing="ij"))
    return torch.cat((rows.sin(), rows.cos(), columns.sin(), columns.cos()))[None]
