"""Inverse ballistics: which throws land at a point (Kruse et al. 2021, arXiv 2101.10763)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .base import Noisy, normal_log_prob
from .priors import Prior

_G, _DRAG, _MASS = 9.81, 0.25, 0.2  # m/s^2, kg/s, kg
_ANGLES = (0.05 * math.pi, 0.45 * math.pi)


class InverseBallistics(Noisy):
    """Where a throw with air drag hits the ground.

    theta = (x0, y0, angle, speed): x0 ~ N(0, 1/4), y0 ~ max(0, N(3/2, 1/4)), the angle uniform
    between 9 and 81 degrees (in radians), speed ~ Poisson(15) in m/s; as in the code of the paper,
    so height and speed are partly discrete. With ``smooth`` they are not: the height is reflected
    at 0 and the speed is gamma distributed with the mean and variance 15. x (1,) is the place of
    impact in m plus N(0, noise^2).
    """

    name = "inverse_ballistics"
    names = ["x0", "y0", "angle", "speed"]
    x_shape = (1,)

    def __init__(self, noise: float = 0.02, smooth: bool = False):
        self.noise = float(noise)
        self.prior = ThrowPrior(smooth)

    def height(self, theta: Tensor, t: Tensor) -> Tensor:
        """The height at time t (B,) in seconds, below the ground if the throw has landed."""
        vy = theta[:, 3] * theta[:, 2].sin()
        decay = torch.expm1(-_DRAG * t / _MASS)
        fall = (_G * _MASS + vy * _DRAG) * decay + _G * t * _DRAG
        return theta[:, 1] - _MASS / _DRAG**2 * fall

    def forward(self, theta: Tensor) -> Tensor:
        """The place of impact without noise, (B, 1); by bisection of the time after the peak."""
        theta = self._theta(theta).double()
        vy = theta[:, 3] * theta[:, 2].sin()
        before = _MASS / _DRAG * torch.log1p(vy * _DRAG / (_G * _MASS))  # the highest point
        # a fall from h takes at most 0.8 s + h / (terminal speed 7.85 m/s), and h <= y0 + 0.8 s vy
        after = before + 4 + 0.2 * (theta[:, 1].abs() + vy)
        for _ in range(50):
            middle = (before + after) / 2
            up = self.height(theta, middle) > 0
            before, after = torch.where(up, middle, before), torch.where(up, after, middle)
        vx = theta[:, 3] * theta[:, 2].cos()
        place = theta[:, 0] - vx * _MASS / _DRAG * torch.expm1(-_DRAG * after / _MASS)
        return place.float().unsqueeze(1)


class ThrowPrior(Prior):
    """The prior of `InverseBallistics`; a mixed or, with ``smooth``, a proper density."""

    def __init__(self, smooth: bool):
        self.smooth = smooth
        inf = math.inf
        self.bounds = (
            torch.tensor([-inf, 0.0, _ANGLES[0], 0.0]),
            torch.tensor([inf, inf, _ANGLES[1], inf]),
        )

    def sample(self, sample_shape=(), generator=None):
        normal = torch.randn(*sample_shape, 2, generator=generator)
        x0, y0 = 0.5 * normal[..., 0], 1.5 + 0.5 * normal[..., 1]
        u = torch.rand(*sample_shape, generator=generator)
        angle = _ANGLES[0] + (_ANGLES[1] - _ANGLES[0]) * u
        if self.smooth:  # Gamma(15, 1): the sum of 15 exponentials
            v = torch.rand(*sample_shape, 15, generator=generator).clamp_min(1e-12)
            return torch.stack((x0, y0.abs(), angle, -v.log().sum(-1)), -1)
        speed = torch.poisson(torch.full(tuple(sample_shape), 15.0), generator=generator)
        return torch.stack((x0, y0.clamp_min(0), angle, speed), -1)

    def log_prob(self, theta):
        """In nats, for x0, y0 and angle as densities, and for speed as a density (``smooth``) or a
        probability. Without ``smooth`` a height of exactly 0 has the probability of max(0, .)."""
        x0, y0, _, speed = theta.unbind(-1)
        value = normal_log_prob(x0, torch.zeros(()), 0.5) - math.log(_ANGLES[1] - _ANGLES[0])
        direct = normal_log_prob(y0, torch.tensor(1.5), 0.5)
        if self.smooth:
            mirrored = normal_log_prob(-y0, torch.tensor(1.5), 0.5)
            value = value + torch.logaddexp(direct, mirrored)
            positive = speed.clamp_min(1e-30)
            value = value + 14 * positive.log() - positive - math.lgamma(15)
        else:
            at_ground = torch.special.log_ndtr(torch.tensor(-3.0))
            value = value + torch.where(y0 > 0, direct, at_ground)
            k = speed.clamp_min(0)
            value = value + k * math.log(15) - 15 - torch.lgamma(k + 1)
            value = torch.where(speed == speed.round(), value, -math.inf)
        return torch.where(self.inside(theta), value, -math.inf)
