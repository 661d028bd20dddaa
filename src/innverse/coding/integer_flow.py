"""From a flow of images to the steps that map whole numbers as it maps pictures."""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np

from ..bijections import (
    ActNorm,
    Additive,
    Affine,
    Chain,
    Checkerboard,
    ConditionalScale,
    Coupling,
    Gaussianize,
    Haar,
    Invertible1x1,
    Logit,
    Partial,
    Permute,
    Squeezed,
)
from ..errors import UsageError
from .exact import BITS, Network, bounded, exp, linear, numbers
from .steps import Couple, Diagonal, Nested, Order, Step, Table, Triangular, of_channels, of_squares

_FINE = 12  # bits within a grey level where the first layer bends
_EDGES = 64  # pieces of a bent map for each unit of z, about


class IntegerFlow:
    """The bijection of a flow on whole numbers.

    ``begins`` is how many bits a grey level of 256 is divided into before the first step.

    Raises:
        UsageError: a layer that has no whole-number form here.

    Example:
        >>> flow = innverse.flows.build("glow", (1, 8, 8), levels=1, steps=1, hidden=8)
        >>> IntegerFlow(flow.bijection, None).begins
        6
    """

    def __init__(self, bijection, c: np.ndarray | None):
        self.steps = list(_folded(_steps(bijection, c, last=True)))
        bends = bool(self.steps) and isinstance(self.steps[0], Table)
        self.begins = _FINE if bends else BITS - 8

    def forward(self, x: np.ndarray, stack) -> np.ndarray:
        """Pixels (C, H, W) in units of 2^-(8 + begins) to latents in units of 2^-14."""
        for step in self.steps:
            x = step.forward(x, stack)
        return x

    def inverse(self, z: np.ndarray, stack) -> np.ndarray:
        for step in reversed(self.steps):
            z = step.inverse(z, stack)
        return z


def _steps(layer, c, last: bool) -> list[Step]:
    """``last``: nothing follows, so latents may stay where an orthonormal map has put them."""
    make = _FORMS.get(type(layer))
    if make is None:
        raise UsageError(
            f"pictures are not coded by {type(layer).__name__} layers: take a flow such as glow or "
            "realnvp, with affine or additive couplings"
        )
    return make(layer, c, last)


def _folded(steps: list[Step]) -> list[Step]:
    """Scales moved behind the matrices that follow, where neighbours become one."""
    out: list[Step] = []
    held: Diagonal | None = None
    for step in steps:
        if isinstance(step, Nested):
            step = Nested(_folded(step.steps), step.k)
        if held is None:
            held = step if isinstance(step, Diagonal) else None
            out += [] if held else [step]
        elif isinstance(step, Diagonal):
            held = Diagonal(step.s * held.s, step.s * held.t + step.t)
        elif isinstance(step, Order):
            out.append(step)
            held = Diagonal(held.s[step.order], held.t[step.order])
        elif isinstance(step, Triangular):  # (I + M) (s x + t) = s (I + M') x + (I + M) t
            out.append(Triangular(step.m * (held.s / held.s[:, None]), step.upper))
            held = Diagonal(held.s, np.array([math.fsum(row) for row in step.m * held.t]) + held.t)
        else:
            out += [held, step]
            held = None
    return out if held is None else [*out, held]


# ---- layer by layer ---------------------------------------------------------------------------------


def _chain(layer, c, last):
    inner = list(layer.layers)
    return [s for i, one in enumerate(inner) for s in _steps(one, c, last and i == len(inner) - 1)]


def _squeezed(layer, c, last):
    return [Nested(_steps(layer.inner, c, last))]


def _haar(layer, c, last):
    channels = _channels(layer.inner)
    # rows of the Hadamard matrix over 2: lower, diagonal, upper
    upper = [[0, 1, 1, 1], [0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, 0]]
    lower = [[0, 0, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0]]
    each = np.eye(channels // 4)
    by_kind = Order(np.arange(channels).reshape(-1, 4).T.ravel())
    down = [
        by_kind,
        Triangular(np.kron(np.array(upper, float), each), upper=True),
        Diagonal(np.repeat([0.5, -1.0, -1.0, 2.0], channels // 4), np.zeros(channels)),
        Triangular(np.kron(np.array(lower, float), each), upper=False),
    ]
    up = [] if last else [*down[1:], Order(by_kind.back)]  # the matrix is its own inverse
    return [Nested([*down, *_steps(layer.inner, c, last), *up])]


def _channels(layer) -> int:
    """How many channels the first layer of ``layer`` that knows it takes."""
    for module in layer.modules():
        if isinstance(module, ActNorm):
            return len(module.shift)
        if isinstance(module, Coupling):
            return module.channels
        if isinstance(module, Invertible1x1):
            return len(module.log_s)
    raise UsageError(
        "pictures are not coded by a flow without ActNorm, couplings and 1x1 convolutions"
    )


def _actnorm(layer, c, last):
    s = exp(bounded(numbers(layer.log_scale), 8.0))
    return [Diagonal(s, numbers(layer.shift))]


def _conditional_scale(layer, c, last):
    s, t = np.split(linear(layer.linear, c), 2)
    return [Diagonal(exp(bounded(s, 8.0)), t)]


def _invertible(layer, c, last):
    s = numbers(layer.sign) * exp(bounded(numbers(layer.log_s), 5.0))
    upper = np.triu(numbers(layer.upper), 1) / s[:, None]  # U + diag(s) = diag(s) (I + U / s)
    return [
        Triangular(upper, upper=True),
        Diagonal(s, np.zeros(len(s))),
        Triangular(np.tril(numbers(layer.lower), -1), upper=False),
        Order(layer.permutation.cpu().numpy()),
    ]


def _coupling(layer, c, last):
    first, kept = layer.split.first_kept, layer.split.keep
    keep = slice(first, first + kept)
    rest = slice(0, first) if layer.split.swap else slice(kept, None)
    return [Couple(Network(layer.net, c), _bound(layer.transform), of_channels(keep, rest))]


def _checkerboard(layer, c, last):
    return [Couple(Network(layer.net, c), _bound(layer.transform), of_squares(layer.swap))]


def _bound(transform) -> float | None:
    """That of the log-scales of affine maps; None of additive ones."""
    if isinstance(transform, Affine):
        return transform.bound
    if isinstance(transform, Additive):
        return None
    raise UsageError(
        f"pictures are not coded by couplings with {transform}: take affine or additive"
    )


def _gaussianize(layer, c, last):
    logits = numbers(layer.logits)
    weight = exp(logits - logits.max())
    share = weight / math.fsum(weight)
    left = [math.fsum(share[:i]) for i in range(len(share) + 1)]
    alpha, normal = 1e-6, NormalDist()

    def z(x: float) -> float:
        i = min(int(x * layer.bins), layer.bins - 1)
        u = left[i] + share[i] * (x * layer.bins - i)
        return normal.inv_cdf(alpha + (1 - 2 * alpha) * min(u, 1.0))

    return [_table(z)]


def _logit(layer, c, last):
    def z(x: float) -> float:
        u = layer.alpha + (1 - 2 * layer.alpha) * x
        return math.log(u) - math.log1p(-u)

    return [_table(z)]


def _table(z: Callable[[float], float]) -> Table:
    """An increasing z of [0, 1]: every grey level in pieces, the more of them the wider z is."""
    xs, zs = [], []
    for level in range(256):
        ends = z(level / 256), z((level + 1) / 256)
        width = (ends[1] - ends[0]) * _EDGES
        halves = (
            _FINE if level in (0, 255) else min(_FINE, max(0, math.ceil(math.log2(width + 1e-9))))
        )
        pieces = 1 << halves
        xs += [(level << _FINE) + (k << (_FINE - halves)) for k in range(pieces)]
        zs += [round(z((level + k / pieces) / 256) * 2**BITS) for k in range(pieces)]
    xs.append(256 << _FINE)
    zs.append(round(z(1.0) * 2**BITS))
    z_edges = np.array(zs)
    steps = np.arange(len(z_edges))
    return Table(np.array(xs), np.maximum.accumulate(z_edges - steps) + steps)  # none is empty


_FORMS: dict[type, Callable] = {
    Chain: _chain,
    Squeezed: _squeezed,
    Haar: _haar,
    Partial: lambda layer, c, last: [Nested(_steps(layer.inner, c, last), layer.k)],
    ActNorm: _actnorm,
    ConditionalScale: _conditional_scale,
    Invertible1x1: _invertible,
    Permute: lambda layer, c, last: [Order(layer.order.cpu().numpy())],
    Coupling: _coupling,
    Checkerboard: _checkerboard,
    Gaussianize: _gaussianize,
    Logit: _logit,
}
