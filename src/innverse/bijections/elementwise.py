"""Formulas of one variable: a monotone map per element, with its parameters given.

A map knows nothing of networks and wiring: `Coupling`, `Diagonal` (and autoregressive layers)
supply the parameters and sum the log-derivatives.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..accelerate.native import affine, spline
from ..accelerate.regions import region
from ..accelerate.spline_piece import piece
from ..errors import ShapeError
from ..models.parts import Part
from .bounded import soft_bound


class Elementwise(Part):
    """A strictly increasing map of each element of x under parameters p.

    x, z: (B, C, *space); p: (B, n_params, C, *space), unconstrained reals, and p = 0 is (close
    to) the identity. ``forward`` and ``inverse`` return the image and the elementwise log of the
    derivative, both in the shape of x.

    Example:
        >>> issubclass(RationalQuadraticSpline, Elementwise)
        True
        >>> RationalQuadraticSpline(bins=5).n_params  # widths, heights, slopes of one number
        14
    """

    n_params: int
    kernel = None  # the module of `innverse.accelerate.native` that serves a coupling with this map

    def forward(self, x: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def inverse(self, z: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def parameters(self, p: Tensor, x: Tensor, channels: int) -> Tensor:
        """What a network gives (B, n_params * channels, *space) as parameters of a map of
        ``channels`` channels, in the type of x.

        Raises:
            ShapeError: the network gives another number, or not in the shape of x.
        """
        wanted = (x.shape[0], self.n_params * channels, *x.shape[2:])
        if p.shape != wanted:
            raise ShapeError(f"{self} needs parameters {wanted}, the network gives {(*p.shape,)}")
        return p.to(x.dtype).unflatten(1, (self.n_params, channels))

    def __repr__(self) -> str:
        settings = ", ".join(
            f"{k}={v}" for k, v in vars(self).items() if k[0] != "_" and k != "n_params"
        )
        return f"{type(self).__name__}({settings})"


def mapped(
    transform: Elementwise, x: Tensor, p: Tensor, *, inverse: bool = False
) -> tuple[Tensor, Tensor]:
    """``transform.forward(x, p)`` or ``inverse``, compiled where that pays."""
    return _mapped(x, p, transform=transform, inverse=inverse)


@region
def _mapped(x: Tensor, p: Tensor, *, transform: Any, inverse: bool) -> tuple[Tensor, Tensor]:
    return transform.inverse(x, p) if inverse else transform.forward(x, p)


class Additive(Elementwise):
    """z = x + t (NICE, Dinh et al. 2014, arXiv 1410.8516).

    Example:
        >>> layer = Coupling.build(6, innverse.nets.MLP, Additive())
        >>> z, log_det = layer(torch.rand(2, 6))
        >>> log_det
        tensor([0., 0.])
    """

    n_params = 1

    def forward(self, x, p):
        return x + p.squeeze(1), torch.zeros_like(x)

    def inverse(self, z, p):
        return z - p.squeeze(1), torch.zeros_like(z)


class Affine(Elementwise):
    """z = x exp(s) + t, with s bounded to (-bound, bound) (RealNVP, Dinh et al. 2016).

    Example:
        >>> Affine().n_params  # a scale and a shift
        2
        >>> layer = Coupling.build(6, innverse.nets.MLP, Affine(bound=1.0))
    """

    n_params = 2
    kernel = affine

    def __init__(self, bound: float = 2.0):
        self.bound = float(bound)

    def forward(self, x, p):
        s, t = p.unbind(1)
        s = soft_bound(s, self.bound)
        return torch.addcmul(t, x, s.exp()), s

    def inverse(self, z, p):
        s, t = p.unbind(1)
        s = -soft_bound(s, self.bound)
        return (z - t) * s.exp(), s


class RationalQuadraticSpline(Elementwise):
    """A monotone spline of ``bins`` rational-quadratic pieces on [-bound, bound], linear outside.

    Durkan et al. 2019, arXiv 1906.04032, section 3. Knot derivatives at the two ends are 1, so
    the map is continuously differentiable on the whole line. ``n_params`` = 3 bins - 1.

    Example:
        >>> spline = RationalQuadraticSpline(bins=8, bound=3.0)
        >>> layer = Coupling.build(6, innverse.nets.MLP, spline)
        >>> layer(torch.randn(2, 6))[0].shape
        torch.Size([2, 6])
    """

    kernel = spline

    def __init__(
        self,
        bins: int = 8,
        bound: float = 5.0,
        min_bin: float = 1e-3,
        min_derivative: float = 1e-3,
    ):
        if bins < 2:
            raise ValueError(f"bins={bins}: a spline needs at least 2")
        self.bins, self.bound = int(bins), float(bound)
        self.min_bin, self.min_derivative = float(min_bin), float(min_derivative)
        self.n_params = 3 * self.bins - 1

    @spline.by_kernel
    def forward(self, x, p):
        inside = x.abs() < self.bound
        x_in = torch.where(inside, x, 0.0)
        x0, w, y0, h, d0, d1 = piece(p, x_in, self, by_height=False)
        slope = h / w
        t = (x_in - x0) / w
        below, log_derivative = _within(t, slope, d0, d1)
        z = y0 + h * (slope * t.square() + d0 * t * (1 - t)) / below
        return torch.where(inside, z, x), torch.where(inside, log_derivative, 0.0)

    @spline.by_kernel
    def inverse(self, z, p):
        inside = z.abs() < self.bound
        z_in = torch.where(inside, z, 0.0)
        x0, w, y0, h, d0, d1 = piece(p, z_in, self, by_height=True)
        slope = h / w
        # the fraction t of the bin solves a t^2 + b t + c = 0; this root form does not cancel
        rise = z_in - y0
        mix = rise * (d0 + d1 - 2 * slope)
        a = h * (slope - d0) + mix
        b = h * d0 - mix
        c = -slope * rise
        root = (b.square() - 4 * a * c).clamp_min(0).sqrt()
        t = (2 * c / (-b - root)).clamp(0, 1)
        _, log_derivative = _within(t, slope, d0, d1)
        return torch.where(inside, x0 + t * w, z), torch.where(inside, -log_derivative, 0.0)


def _within(t: Tensor, slope: Tensor, d0: Tensor, d1: Tensor) -> tuple[Tensor, Tensor]:
    """The denominator of the piece at the fraction t of its bin, and the log of its derivative."""
    u = t * (1 - t)
    below = slope + (d0 + d1 - 2 * slope) * u
    top = d1 * t.square() + 2 * slope * u + d0 * (1 - t).square()
    return below, 2 * slope.log() + top.log() - 2 * below.log()
