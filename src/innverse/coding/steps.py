"""The layers of a flow as bijections of whole numbers: x (C, H, W) in units of 2^-14, and the stack.

Shifts and unit triangular matrices round what they add (iVPF, Zhang et al. 2021, arXiv 2103.16211);
what scales does so by `Stack.scale`, which lays the bits that are lost on the stack.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch

from .ans import Stack
from .exact import BITS, Network, bounded, exp, product, to_weights

_UNIT = float(1 << BITS)
_RATIO = 16  # bits of the fractions that stand for scales


class Step(Protocol):
    """A bijection of whole numbers and a stack."""

    def forward(self, x: np.ndarray, stack: Stack) -> np.ndarray: ...

    def inverse(self, z: np.ndarray, stack: Stack) -> np.ndarray: ...


def fraction(scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """r / s, close to scale > 0, in whole numbers up to 2^16."""
    large, top = scale >= 1.0, float(1 << _RATIO)
    small = np.maximum(np.rint(top * np.where(large, 1.0 / scale, scale)), 1).astype(np.int64)
    return np.where(large, 1 << _RATIO, small), np.where(large, small, 1 << _RATIO)


class Order:
    """z_i = x_p(i)."""

    def __init__(self, order: np.ndarray):
        self.order, self.back = order, np.argsort(order)

    def forward(self, x, stack):
        return x[self.order]

    def inverse(self, z, stack):
        return z[self.back]


class Diagonal:
    """z = s x + t for every channel."""

    def __init__(self, s: np.ndarray, t: np.ndarray):
        self.s, self.t = s, t
        self.ratio = fraction(np.abs(s))
        self.sign = np.where(s < 0, -1, 1)[:, None, None]
        self.shift = np.rint(t * _UNIT).astype(np.int64)[:, None, None]

    def _ratio(self, x):
        return (np.repeat(n, x[0].size) for n in self.ratio)

    def forward(self, x, stack):
        return stack.scale(x.ravel(), *self._ratio(x)).reshape(x.shape) * self.sign + self.shift

    def inverse(self, z, stack):
        z = (z - self.shift) * self.sign
        return stack.unscale(z.ravel(), *self._ratio(z)).reshape(z.shape)


class Triangular:
    """z = (I + M) x with M strictly triangular, ``upper`` or lower: what is added is rounded."""

    def __init__(self, m: np.ndarray, upper: bool):
        self.m, self.upper, self.weights = m, upper, to_weights(m)

    def forward(self, x, stack):
        return x + product(self.weights, x.reshape(len(x), -1)).reshape(x.shape)

    def inverse(self, z, stack):
        x = z.reshape(len(z), -1).copy()
        order = range(len(x))
        for i in reversed(order) if self.upper else order:  # what row i needs is known by then
            x[i] -= product(self.weights[i : i + 1], x)[0]
        return x.reshape(z.shape)


class Table:
    """A piecewise linear map of every number, from the edges x to the edges z (both increasing)."""

    def __init__(self, x: np.ndarray, z: np.ndarray):
        self.x, self.z = x, z

    def forward(self, x, stack):
        return self._map(x, stack.scale, self.x, self.z, False)

    def inverse(self, z, stack):
        return self._map(z, stack.unscale, self.z, self.x, True)

    def _map(self, v, scale, edges, images, back):
        piece = np.clip(np.searchsorted(edges, v.ravel(), "right") - 1, 0, len(edges) - 2)
        widths = [np.diff(e)[piece] for e in (self.z, self.x)]
        return (scale(v.ravel() - edges[piece], *widths) + images[piece]).reshape(v.shape)


class Couple:
    """Where ``moves`` says so, x is scaled and shifted by what the network says of the rest."""

    def __init__(self, network: Network, bound: float | None, moves):
        self.network, self.bound, self.moves = network, bound, moves

    def forward(self, x, stack):
        moves, ratio, shift = self._map(x)
        moved = x[moves] if ratio is None else stack.scale(x[moves], *ratio)
        z = x.copy()
        z[moves] = moved + shift
        return z

    def inverse(self, z, stack):
        moves, ratio, shift = self._map(z)
        moved = z[moves] - shift
        x = z.copy()
        x[moves] = moved if ratio is None else stack.unscale(moved, *ratio)
        return x

    def _map(self, x):
        """Where it moves, the fractions that scale (None: it only shifts), and the shifts."""
        moves, seen, mapped = self.moves(x)
        p = self.network(torch.from_numpy(seen.astype(np.float64))[None])[0].numpy()
        p = p.reshape(-1, p.shape[0] // (1 if self.bound is None else 2), *p.shape[1:])
        chosen = [part[mapped] for part in p]
        if self.bound is None:
            return moves, None, chosen[0].astype(np.int64)
        scale = exp(bounded(chosen[0] / _UNIT, self.bound))
        return moves, fraction(scale), chosen[1].astype(np.int64)


def of_channels(keep: slice, rest: slice):
    """For `Couple`: the channels ``rest`` move, ``keep`` are seen."""

    def moves(x):
        mask = np.zeros(x.shape, bool)
        mask[rest] = True
        return mask, x[keep], np.ones(x[rest].shape, bool)

    return moves


def of_squares(swap: bool):
    """For `Couple`: squares of a checkerboard move, and see the others."""

    def moves(x):
        i, j = np.indices(x.shape[1:])
        mask = np.broadcast_to((i + j) % 2 != int(swap), x.shape)
        return mask, np.where(mask, 0, x), mask

    return moves


class Nested:
    """Steps at half the resolution, 2x2 pixels as four channels, or on the first ``k`` channels."""

    def __init__(self, steps: list[Step], k: int | None = None):
        self.steps, self.k = steps, k

    def forward(self, x, stack):
        y, rest = self._apart(x)
        for step in self.steps:
            y = step.forward(y, stack)
        return self._merge(y, rest)

    def inverse(self, z, stack):
        y, rest = self._apart(z)
        for step in reversed(self.steps):
            y = step.inverse(y, stack)
        return self._merge(y, rest)

    def _apart(self, x):
        if self.k is not None:
            return x[: self.k], x[self.k :]
        c, h, w = x.shape
        y = x.reshape(c, h // 2, 2, w // 2, 2).transpose(0, 2, 4, 1, 3)
        return np.ascontiguousarray(y).reshape(4 * c, h // 2, w // 2), None

    def _merge(self, y, rest):
        if rest is not None:
            return np.concatenate((y, rest))
        c, h, w = y.shape
        x = y.reshape(c // 4, 2, 2, h, w).transpose(0, 3, 1, 4, 2)
        return np.ascontiguousarray(x).reshape(c // 4, 2 * h, 2 * w)
