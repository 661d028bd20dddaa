"""Summary networks: from one measurement, whatever its form, to a vector of features.

Unlike the conditioner networks they do not start at zero, so that a gradient reaches them from the
first step on.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..errors import ShapeError, UsageError

SUMMARIES = ("none", "mlp", "set", "set_transformer", "series", "image")


_FEW = 20  # numbers that pass beside what was learned from them


class VectorNet(nn.Module):
    """A perceptron with two hidden layers: (B, n_in) -> (B, n_out).

    Up to 20 numbers also pass as they are: then the result is (B, n_in + n_out).
    """

    def __init__(self, n_in: int, n_out: int, width: int):
        super().__init__()
        self.layers = _perceptron(n_in, width, n_out)
        self.hand_on = n_in <= _FEW

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x, self.layers(x)), 1) if self.hand_on else self.layers(x)


class DeepSet(nn.Module):
    """A function of a set, whatever the order of its members (Zaheer et al. 2017, 1703.06114).

    x (B, m, n_in), m members per set -> (B, n_out): rho([mean_j phi(x_j), std_j phi(x_j)]). Mean
    and standard deviation do not grow with m.
    """

    def __init__(self, n_in: int, n_out: int, width: int):
        super().__init__()
        self.phi = _perceptron(n_in, width, width)
        self.rho = _perceptron(2 * width, width, n_out)

    def forward(self, x: Tensor) -> Tensor:
        h = self.phi(x)
        mean = h.mean(1)
        # the small constant keeps the gradient of the root finite where all members agree
        std = ((h - mean.unsqueeze(1)).square().mean(1) + 1e-6).sqrt()
        return self.rho(torch.cat((mean, std), 1))


class SetTransformer(nn.Module):
    """A function of a set in which members look at each other (Lee et al. 2019, 1810.00825).

    x (B, m, n_in) -> (B, n_out): two blocks of self-attention, then pooling by attention from a few
    learned queries. Its cost grows with m^2; choose it over `DeepSet` where pairs of members matter.
    """

    def __init__(self, n_in: int, n_out: int, width: int, heads: int = 4, seeds: int = 4):
        super().__init__()
        width = -(-width // heads) * heads
        self.embed = nn.Linear(n_in, width)
        self.blocks = nn.ModuleList(_Attention(width, heads) for _ in range(2))
        self.seeds = nn.Parameter(torch.randn(1, seeds, width) / width**0.5)
        self.pool = _Attention(width, heads)
        self.head = _perceptron(seeds * width, width, n_out)

    def forward(self, x: Tensor) -> Tensor:
        h = self.embed(x)
        for block in self.blocks:
            h = block(h, h)
        return self.head(self.pool(self.seeds.expand(len(h), -1, -1), h).flatten(1))


class _Attention(nn.Module):
    """Queries (B, q, width) that read from members (B, m, width), then a perceptron; pre-norm."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm_q, self.norm_h = nn.LayerNorm(width), nn.LayerNorm(width)
        self.q, self.kv = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.then = nn.Sequential(nn.LayerNorm(width), _perceptron(width, width, width))

    def forward(self, q: Tensor, h: Tensor) -> Tensor:
        members = self.norm_h(h)
        parts = (self.q(self.norm_q(q)), *self.kv(members).chunk(2, -1))
        split = [t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in parts]
        read = nn.functional.scaled_dot_product_attention(*split)
        q = q + self.out(read.transpose(1, 2).flatten(-2))
        return q + self.then(q)


class _StridedNet(nn.Module):
    """Strided convolutions; the maximum over all positions feeds a perceptron, besides a coarse map
    of 4 positions, so that it also matters where something happens."""

    conv: type[nn.Conv1d | nn.Conv2d]
    coarse: nn.Module

    def __init__(self, n_in: int, n_out: int, width: int, stages: int = 3):
        super().__init__()
        channels = [n_in, width // 2, *[width // 2 * 2] * (stages - 1)]
        convs = (self.conv(a, b, 3, stride=2, padding=1) for a, b in zip(channels, channels[1:]))
        self.convs = nn.Sequential(*(layer for conv in convs for layer in (conv, nn.SiLU())))
        self.head = _perceptron(5 * channels[-1], width, n_out)

    def forward(self, x: Tensor) -> Tensor:
        h = self.convs(x)
        return self.head(torch.cat((self.coarse(h).flatten(1), h.flatten(2).amax(-1)), 1))


class SeriesNet(_StridedNet):
    """Strided 1-D convolutions: (B, C, T) -> (B, n_out), T >= 4; each stage halves T."""

    conv, coarse = nn.Conv1d, nn.AdaptiveAvgPool1d(4)


class ImageNet(_StridedNet):
    """Strided 3x3 convolutions: (B, C, H, W) -> (B, n_out), pooled to a 2x2 map at the end."""

    conv, coarse = nn.Conv2d, nn.AdaptiveAvgPool2d(2)


def summary_network(kind: str, shape: tuple[int, ...], n_out: int, width: int) -> nn.Module:
    """The network ``kind`` for measurements of ``shape`` (one item, without the batch).

    Args:
        kind: ``"none"`` (the flattened measurement itself), ``"mlp"`` (flattened, any shape),
            ``"set"`` or ``"set_transformer"`` for (m, d), m i.i.d. members; ``"series"`` for
            (C, T); ``"image"`` for (C, H, W).
        n_out: features; ``"none"`` ignores it.
        width: hidden width.

    Raises:
        UsageError: an unknown kind.
        ShapeError: a shape that the kind cannot take.
    """
    if kind not in SUMMARIES:
        raise UsageError(f"summary={kind!r}: choose one of auto, {', '.join(SUMMARIES)}")
    axes = {"set": 2, "set_transformer": 2, "series": 2, "image": 3}.get(kind)
    if axes is not None and len(shape) != axes:
        layout = {"series": "(N, C, T)", "image": "(N, C, H, W)"}.get(kind, "(N, members, d)")
        got = ", ".join(map(str, ("N", *shape)))
        raise ShapeError(f"summary={kind!r} needs x of shape {layout}, got ({got})")
    if kind == "none":
        return nn.Flatten()
    if kind == "mlp":
        n_in = int(torch.Size(shape).numel())
        return nn.Sequential(nn.Flatten(), VectorNet(n_in, n_out, width))
    if kind == "set":
        return DeepSet(shape[1], n_out, width)
    if kind == "set_transformer":
        return SetTransformer(shape[1], n_out, width)
    return (SeriesNet if kind == "series" else ImageNet)(shape[0], n_out, width)


def _perceptron(n_in: int, width: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(n_in, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(),
        nn.Linear(width, n_out),
    )  # fmt: skip
