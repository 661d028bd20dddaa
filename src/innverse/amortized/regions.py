"""Regions of parameters and their maps to the whole line: nothing that is drawn can leave them.

A map has ``size`` numbers theta, flattened, and ``free`` coordinates v on the whole line:

    to_line(theta) -> v, log|det dv/dtheta|     (B, size) -> (B, free), (B,)
    from_line(v, dtype) -> theta                rounded to ``dtype``, inside also then
    log_det_at(v)                               the same determinant at v, (B,)
    inside(theta)                               (B, size) bool, ends included

all in float64. Where a region has fewer dimensions than numbers (a simplex, a symmetric matrix) the
density is that of torch's distributions: of all but the last component, of the lower triangle. What
lies on the very end of a region has a coordinate too, close to that of its neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import transforms

from ..errors import InputError, ShapeError
from ..gaussian import HALF_LOG_2PI

_EDGE = 1e-9  # fraction of the range that a draw on the very bound is moved inwards
_OFF = 1e-5  # by how much a sum or a symmetry may be missed by rounding


class Region(nn.Module):
    """One set of parameters with the map described above, between ``low`` and ``high`` (size,)."""

    kind: str
    size: int
    free: int

    def learn(self, theta: Tensor) -> None:
        """Set from draws theta (N, size) what the map needs to know of them."""

    def to_line(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def from_line(self, v: Tensor, dtype: torch.dtype) -> Tensor:
        raise NotImplementedError

    def log_det_at(self, v: Tensor) -> Tensor:
        raise NotImplementedError

    def inside(self, theta: Tensor) -> Tensor:
        raise NotImplementedError


class Box(Region):
    """low <= theta <= high, coordinate by coordinate; -inf and inf where there is no bound.

    The map is the probit (the normal quantile) of the fraction of the range between two finite
    bounds, the logarithm of the distance to one, the identity without. Under the probit a uniform
    prior becomes the flow's own base density, while a logit would leave it longer tails.

    Args:
        low, high: vectors (D,).
    """

    kind = "box"
    low: Tensor
    high: Tensor
    floor: Tensor

    def __init__(self, low: Tensor, high: Tensor):
        super().__init__()
        low, high = low.double(), high.double()
        if low.shape != high.shape or low.dim() != 1:
            raise ShapeError(
                f"bounds need two vectors (D,), got {tuple(low.shape)} and {tuple(high.shape)}"
            )
        if bool((~(low < high)).any()):
            i = int((~(low < high)).nonzero()[0])
            raise InputError(
                f"bounds of parameter {i}: the lower bound {float(low[i]):g} must lie below the "
                f"upper bound {float(high[i]):g}"
            )
        self.register_buffer("low", low)
        self.register_buffer("high", high)
        self.register_buffer("floor", torch.full_like(low, 1e-300))
        self.size = self.free = len(low)

    def learn(self, theta: Tensor) -> None:
        """Draws on the one bound of a half line count as the nearest one beside it."""
        distance = self._distance(theta)
        nearest = torch.where(distance > 0, distance, math.inf).amin(0)
        self.floor.copy_(torch.where(nearest.isfinite(), nearest, 1e-300))

    def to_line(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        two, half, _ = self._kinds()
        span = torch.where(two, self.high - self.low, 1.0)
        # from the nearer bound, where p is exact, and never at the ends, where slopes are infinite
        left, right = theta - self.low, self.high - theta
        p = torch.where(two, torch.minimum(left, right) / span, 0.5)
        p = torch.where(p > 0, p, _EDGE)
        probit = torch.where(left < right, 1.0, -1.0) * torch.special.ndtri(p)
        distance = torch.where(half, self._distance(theta), 1.0)
        log = torch.where(distance > 0, distance, self.floor).log()
        v = torch.where(two, probit, torch.where(half, log, theta))
        return v, self.log_det_at(v)

    def from_line(self, v: Tensor, dtype: torch.dtype) -> Tensor:
        two, half, above = self._kinds()
        span = torch.where(two, self.high - self.low, 1.0)
        tail = span * _upper_tail(v.abs())
        between = torch.where(v < 0, self.low + tail, self.high - tail)
        away = torch.where(half, v, 0.0).exp()
        beyond = torch.where(above, self.high - away, self.low + away)
        theta = torch.where(two, between, torch.where(half, beyond, v)).to(dtype)
        low, high = self._innermost(dtype)
        return torch.minimum(torch.maximum(theta, low), high)

    def log_det_at(self, v: Tensor) -> Tensor:
        two, half, _ = self._kinds()
        span = torch.where(two, self.high - self.low, 1.0)
        slope = torch.where(two, v.square() / 2 + HALF_LOG_2PI - span.log(), 0.0)
        return torch.where(half, -v, slope).sum(1)

    def inside(self, theta: Tensor) -> Tensor:
        return (theta >= self.low) & (theta <= self.high)

    def _innermost(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """The least and the largest number of ``dtype`` strictly between the bounds."""
        most = torch.finfo(dtype).max
        low, high = self.low.to(dtype).clamp(-most, most), self.high.to(dtype).clamp(-most, most)
        up, down = _next(low, math.inf), _next(high, -math.inf)
        # a bound that was rounded inwards is inside itself
        up = torch.where(low.double() > self.low, low, up)
        down = torch.where(high.double() < self.high, high, down)
        return torch.where(up <= down, up, low), torch.where(up <= down, down, high)

    def _distance(self, theta: Tensor) -> Tensor:
        """From the one finite bound inwards."""
        _, _, above = self._kinds()
        return torch.where(above, self.high - theta, theta - self.low)

    def _kinds(self) -> tuple[Tensor, Tensor, Tensor]:
        """Which have two bounds, one, and only an upper one."""
        lower, upper = self.low.isfinite(), self.high.isfinite()
        return lower & upper, lower ^ upper, ~lower & upper


class Simplex(Region):
    """theta >= 0 with sum 1, by breaking a stick: n - 1 coordinates.

    With R_k what is left before the k-th piece, v_k is the normal quantile of
    1 - (R_(k+1) / R_k)^(n - k), so the uniform distribution on the simplex is N(0, I) and
    log|det dv/dtheta| = log (n - 1)! + sum_k (v_k^2 / 2 + log(2 pi) / 2).
    """

    kind = "simplex"
    floor: Tensor

    def __init__(self, n: int):
        super().__init__()
        self.size, self.free = n, n - 1
        self.register_buffer("floor", torch.full((), _EDGE, dtype=torch.float64))

    @property
    def low(self) -> Tensor:
        return torch.zeros(self.size, dtype=torch.float64)

    @property
    def high(self) -> Tensor:
        return torch.ones(self.size, dtype=torch.float64)

    def learn(self, theta: Tensor) -> None:
        """Components that are exactly 0 count as the smallest that are not."""
        positive = theta[theta > 0]
        if len(positive):
            self.floor.copy_(positive.min())

    def to_line(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        y = torch.where(theta > 0, theta, self.floor)
        rest = y.flip(1).cumsum(1).flip(1)  # R_k, small ones exact
        log_left = (-(y / rest)[:, :-1]).log1p()
        # 1 - f = R_(k+1) / R_k, in the form that is exact for its size
        log_left = torch.where(log_left > -0.5, log_left, rest[:, 1:].log() - rest[:, :-1].log())
        log_upper = log_left * self._exponents()
        upper, lower = log_upper.exp(), -torch.expm1(log_upper)
        small = lower < 0.5
        p = torch.where(small, lower, upper).clamp_min(1e-300)
        v = torch.where(small, 1.0, -1.0) * torch.special.ndtri(p)
        return v, self.log_det_at(v)

    def from_line(self, v: Tensor, dtype: torch.dtype) -> Tensor:
        log_left = torch.special.log_ndtr(-v) / self._exponents()
        log_rest = log_left.cumsum(1)
        before = torch.cat((torch.zeros_like(v[:, :1]), log_rest[:, :-1]), 1)
        pieces = before.exp() * -torch.expm1(log_left)
        y = torch.cat((pieces, log_rest[:, -1:].exp()), 1)
        return y.to(dtype).clamp_min(torch.finfo(dtype).tiny)

    def log_det_at(self, v: Tensor) -> Tensor:
        return math.lgamma(self.size) + (v.square() / 2 + HALF_LOG_2PI).sum(1)

    def inside(self, theta: Tensor) -> Tensor:
        whole = (theta.sum(1, keepdim=True) - 1).abs() <= _OFF
        return whole & (theta >= 0)

    def _exponents(self) -> Tensor:
        return torch.arange(self.free, 0, -1, dtype=torch.float64)


class LowerTriangular(Region):
    """Lower-triangular matrices (n, n), flattened row by row; the coordinates are their entries.

    Others whose lower triangle says all are subclasses.
    """

    kind = "lower_triangular"

    def __init__(self, size: int):
        super().__init__()
        self.size, self.n = size, math.isqrt(size)
        self.free = self.n * (self.n + 1) // 2

    @property
    def low(self) -> Tensor:
        return torch.full((self.size,), -math.inf, dtype=torch.float64)

    @property
    def high(self) -> Tensor:
        return -self.low

    def to_line(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        v = self._entries(self._square(theta))
        return v, self.log_det_at(v)

    def from_line(self, v: Tensor, dtype: torch.dtype) -> Tensor:
        return self._lower(v).flatten(1).to(dtype)

    def log_det_at(self, v: Tensor) -> Tensor:
        return torch.zeros_like(v[:, 0])

    def inside(self, theta: Tensor) -> Tensor:
        return (theta == self._square(theta).tril().flatten(1)).all(1, True).expand(theta.shape)

    def _square(self, theta: Tensor) -> Tensor:
        return theta.unflatten(1, (self.n, self.n))

    def _lower(self, entries: Tensor) -> Tensor:
        """(B, n (n + 1) / 2) -> (B, n, n)."""
        rows, columns = torch.tril_indices(self.n, self.n)
        return entries.new_zeros(len(entries), self.n, self.n).index_put(
            (torch.arange(len(entries))[:, None], rows, columns), entries
        )

    def _entries(self, matrix: Tensor) -> Tensor:
        rows, columns = torch.tril_indices(self.n, self.n)
        return matrix[:, rows, columns]

    def _diagonal(self) -> Tensor:
        """Which of the entries are on the diagonal."""
        rows, columns = torch.tril_indices(self.n, self.n)
        return rows == columns


class LowerCholesky(LowerTriangular):
    """Lower-triangular matrices with a positive diagonal, whose logarithm is taken."""

    kind = "lower_cholesky"

    def to_line(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        v = self._entries(self._square(theta))
        on = self._diagonal()
        v = torch.where(on, torch.where(on, v, 1.0).clamp_min(1e-300).log(), v)
        return v, self.log_det_at(v)

    def from_line(self, v: Tensor, dtype: torch.dtype) -> Tensor:
        on, kind = self._diagonal(), torch.finfo(dtype)
        entries = torch.where(on, torch.where(on, v, 0.0).exp().clamp(kind.tiny, kind.max), v)
        return super().from_line(entries, dtype)

    def log_det_at(self, v: Tensor) -> Tensor:
        return -v[:, self._diagonal()].sum(1)

    def inside(self, theta: Tensor) -> Tensor:
        positive = (self._square(theta).diagonal(dim1=1, dim2=2) > 0).all(1, True)
        return super().inside(theta) & positive


class Symmetric(LowerTriangular):
    """Symmetric matrices."""

    kind = "symmetric"

    def from_line(self, v: Tensor, dtype: torch.dtype) -> Tensor:
        lower = self._lower(v)
        return (lower + lower.tril(-1).mT).flatten(1).to(dtype)

    def inside(self, theta: Tensor) -> Tensor:
        matrix = self._square(theta)
        off = (matrix - matrix.mT).abs().amax((1, 2)) <= _OFF * matrix.abs().amax((1, 2))
        return off.unsqueeze(1).expand(theta.shape)


class PositiveDefinite(Symmetric):
    """Covariance matrices S = L L^T, by the coordinates of L."""

    kind = "positive_definite"

    def __init__(self, size: int):
        super().__init__(size)
        self.factor = LowerCholesky(size)

    def to_line(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        factor, failed = torch.linalg.cholesky_ex(self._square(theta))
        eye = torch.eye(self.n, dtype=factor.dtype)
        factor = torch.where((failed > 0)[:, None, None], eye, factor)
        v, _ = self.factor.to_line(factor.flatten(1))
        return v, self.log_det_at(v)

    def from_line(self, v: Tensor, dtype: torch.dtype) -> Tensor:
        factor = self._square(self.factor.from_line(v, v.dtype))
        return (factor @ factor.mT).flatten(1).to(dtype)

    def log_det_at(self, v: Tensor) -> Tensor:
        # d(lower triangle of S) / dL has the determinant 2^n prod_i L_ii^(n - i), i from 0
        power = torch.arange(self.n, 0, -1, dtype=v.dtype)
        log_diagonal = v[:, self._diagonal()]
        return self.factor.log_det_at(v) - self.n * math.log(2) - log_diagonal @ power

    def inside(self, theta: Tensor) -> Tensor:
        failed = torch.linalg.cholesky_ex(self._square(theta.detach()))[1]
        return super().inside(theta) & (failed == 0).unsqueeze(1)


class Through(Region):
    """What a transform of torch makes of another region: theta = T(base).

    Args:
        transform: from ``in_shape`` to ``out_shape``, with an inverse and its log-determinant.
        base: the region it acts on.
    """

    kind = "transform"

    def __init__(self, transform, base: Region, in_shape: torch.Size, out_shape: torch.Size):
        super().__init__()
        self.transform, self.base = transform, base
        self.in_shape, self.out_shape = in_shape, out_shape
        self.size, self.free = out_shape.numel(), base.free
        free = torch.full((self.size,), math.inf, dtype=torch.float64)
        self.low, self.high = -free, free

    def learn(self, theta: Tensor) -> None:
        self.base.learn(self._back(theta))

    def to_line(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        theta = theta.unflatten(1, self.out_shape)
        before = self.transform.inv(theta)
        v, log_det = self.base.to_line(before.flatten(1))
        return v, log_det - self._log_det(before, theta)

    def from_line(self, v: Tensor, dtype: torch.dtype) -> Tensor:
        theta = self._there(v, dtype)
        for _ in range(40):  # what rounding has put outside goes inwards
            out = ~self.inside(theta.double()).all(1)
            if not bool(out.any()):
                break
            v = torch.where(out.unsqueeze(1), 0.9 * v, v)
            theta = torch.where(out.unsqueeze(1), self._there(v, dtype), theta)
        return theta

    def log_det_at(self, v: Tensor) -> Tensor:
        before = self.base.from_line(v, v.dtype).unflatten(1, self.in_shape)
        return self.base.log_det_at(v) - self._log_det(before, self.transform(before))

    def inside(self, theta: Tensor) -> Tensor:
        there = self.transform.codomain.check(theta.unflatten(1, self.out_shape))
        there = there.reshape(len(theta), -1).all(1, True)
        return (there & self.base.inside(self._back(theta)).all(1, True)).expand(theta.shape)

    def _there(self, v: Tensor, dtype: torch.dtype) -> Tensor:
        theta = self.transform(self.base.from_line(v, v.dtype).unflatten(1, self.in_shape))
        return theta.flatten(1).to(dtype)

    def _back(self, theta: Tensor) -> Tensor:
        return self.transform.inv(theta.unflatten(1, self.out_shape)).flatten(1)

    def _log_det(self, before: Tensor, after: Tensor) -> Tensor:
        value = self.transform.log_abs_det_jacobian(before, after)
        return value.reshape(len(before), -1).sum(1)


class CorrelationCholesky(Through):
    """Cholesky factors of correlation matrices, by their partial correlations."""

    kind = "corr_cholesky"

    def __init__(self, size: int):
        n = math.isqrt(size)
        free = torch.full((n * (n - 1) // 2,), math.inf)
        transform = transforms.CorrCholeskyTransform()
        super().__init__(transform, Box(-free, free), torch.Size((len(free),)), torch.Size((n, n)))

    def inside(self, theta: Tensor) -> Tensor:
        factor = theta.unflatten(1, self.out_shape)
        lower = (factor == factor.tril()).flatten(1).all(1)
        positive = (factor.diagonal(dim1=1, dim2=2) > 0).all(1)
        unit = ((factor.square().sum(2) - 1).abs() <= _OFF).all(1)
        return (lower & positive & unit).unsqueeze(1).expand(theta.shape)


class Regions(Region):
    """Regions one after the other, over consecutive columns of theta."""

    parts: Any  # an nn.ModuleList, whose items are regions

    def __init__(self, parts: Sequence[Region]):
        super().__init__()
        merged = _merged(parts)
        self.parts = nn.ModuleList(merged)
        self.size, self.free = sum(p.size for p in merged), sum(p.free for p in merged)

    @property
    def low(self) -> Tensor:
        return torch.cat([p.low for p in self.parts])

    @property
    def high(self) -> Tensor:
        return torch.cat([p.high for p in self.parts])

    def learn(self, theta: Tensor) -> None:
        for part, t in self._split(theta):
            part.learn(t)

    def to_line(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        v, log_det = zip(*(part.to_line(t) for part, t in self._split(theta)))
        return torch.cat(v, 1), torch.stack(log_det).sum(0)

    def from_line(self, v: Tensor, dtype: torch.dtype) -> Tensor:
        return torch.cat([p.from_line(t, dtype) for p, t in self._split(v, "free")], 1)

    def log_det_at(self, v: Tensor) -> Tensor:
        return torch.stack([p.log_det_at(t) for p, t in self._split(v, "free")]).sum(0)

    def inside(self, theta: Tensor) -> Tensor:
        return torch.cat([part.inside(t) for part, t in self._split(theta)], 1)

    def widened(self, dtype: torch.dtype) -> Regions:
        """The same with bounds that were rounded to ``dtype`` still inside: 0.1 of float32 lies
        above 0.1."""
        for part in self.parts:
            if isinstance(part, Box):
                part.low.copy_(torch.minimum(part.low, part.low.to(dtype).double()))
                part.high.copy_(torch.maximum(part.high, part.high.to(dtype).double()))
        return self

    def structured(self) -> Tensor:
        """Which columns (D,) are part of something and may be constant for themselves."""
        return torch.cat([torch.full((p.size,), not isinstance(p, Box)) for p in self.parts])

    def to_json(self) -> list | None:
        """What `from_json` needs beside the tensors; None where no file can describe a part."""
        known = [[part.kind, part.size] for part in self.parts]
        return None if any(kind not in _KINDS for kind, _ in known) else known

    @classmethod
    def from_json(cls, made: list) -> Regions:
        return cls([_KINDS[kind](int(size)) for kind, size in made])

    def _split(self, t: Tensor, by: str = "size"):
        return zip(self.parts, t.split([getattr(p, by) for p in self.parts], 1))


def whole_line(n: int) -> Box:
    """n parameters without bounds."""
    free = torch.full((n,), math.inf, dtype=torch.float64)
    return Box(-free, free)


_MATRICES = (LowerTriangular, LowerCholesky, Symmetric, PositiveDefinite, CorrelationCholesky)
_KINDS = {"box": whole_line, **{kind.kind: kind for kind in (Simplex, *_MATRICES)}}


def _merged(parts: Sequence[Region]) -> list[Region]:
    """Neighbouring boxes as one."""
    merged: list[Region] = []
    for part in parts:
        last = merged[-1] if merged else None
        if isinstance(part, Box) and isinstance(last, Box):
            merged.pop()
            part = Box(torch.cat((last.low, part.low)), torch.cat((last.high, part.high)))
        merged.append(part)
    return merged


def _upper_tail(v: Tensor) -> Tensor:
    """1 - ndtr(v) for v > 0, of which torch.special.ndtr(-v) makes 0 from 8.3 on."""
    return torch.special.erfc(v * math.sqrt(0.5)) / 2


def _next(t: Tensor, direction: float) -> Tensor:
    """The next number that is no denormal, which some processors take for 0."""
    step = torch.nextafter(t, torch.full_like(t, direction))
    tiny = torch.full_like(t, math.copysign(torch.finfo(t.dtype).tiny, direction))
    return torch.where(step.abs() >= tiny.abs(), step, torch.where(t == 0, tiny, 0 * t))
