"""The laws of the increments: N(0, z) with a random variance z, and for one of them an atom at 0.

Gaussian            z = 1/4
Laplace             z exponential with mean 2
Student-t           1 / z gamma with shape and rate nu / 2; nu = 1 is Cauchy
Bernoulli-Laplace   Laplace with probability 1/10, else exactly 0
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


class Law:
    """An increment is v u: v is 1 with probability ``active``, u ~ N(0, z), z random."""

    active = 1.0

    def variance(self, like: Tensor) -> Tensor:
        """z from its law, in the shape of ``like``."""
        raise NotImplementedError

    def variance_given(self, u: Tensor) -> Tensor:
        """z from its law given u."""
        raise NotImplementedError

    def log_density(self, u: Tensor) -> Tensor:
        """Of an increment that is not an atom."""
        raise NotImplementedError

    def sample(self, shape: tuple[int, ...]) -> Tensor:
        """Increments in float64, from torch's global generator."""
        like = torch.empty(shape, dtype=torch.float64)
        u = self.variance(like).sqrt() * torch.randn_like(like)
        return u if self.active == 1 else u * (torch.rand_like(like) < self.active)

    def log_prob(self, u: Tensor) -> Tensor:
        """With respect to the Lebesgue measure and, where there is an atom, a unit mass at 0."""
        dense = math.log(self.active) + self.log_density(u)
        return dense if self.active == 1 else torch.where(u == 0, math.log1p(-self.active), dense)


@dataclass(frozen=True)
class Gaussian(Law):
    of_all: float = 0.25

    def variance(self, like):
        return torch.full_like(like, self.of_all)

    variance_given = variance

    def log_density(self, u):
        return -0.5 * (u.square() / self.of_all + math.log(2 * math.pi * self.of_all))


@dataclass(frozen=True)
class Laplace(Law):
    scale: float = 1.0
    active: float = 1.0

    def variance(self, like):
        return 2 * self.scale**2 * torch.empty_like(like).exponential_()

    def variance_given(self, u):
        # 1 / z is inverse Gaussian with mean 1 / r and shape 1 / b^2 (Michael et al. 1976); of the
        # two roots 1 / ``most`` cancels nothing, and their product is 1 / r^2
        r = self.scale * u.abs()
        y = 0.5 * self.scale**2 * torch.randn_like(u).square()
        most = r + y + (2 * r * y + y.square()).sqrt()
        return torch.where(torch.rand_like(u) * (most + r) < most, most, r.square() / most)

    def log_density(self, u):
        return -u.abs() / self.scale - math.log(2 * self.scale)


@dataclass(frozen=True)
class Student(Law):
    freedom: float = 1.0

    def variance(self, like):
        half = torch.full_like(like, self.freedom / 2)
        return half / torch._standard_gamma(half)

    def variance_given(self, u):
        half = torch.full_like(u, (self.freedom + 1) / 2)
        return (self.freedom + u.square()) / (2 * torch._standard_gamma(half))

    def log_density(self, u):
        return torch.distributions.StudentT(self.freedom).log_prob(u)


LAWS: dict[str, Law] = {
    "gaussian": Gaussian(),
    "laplace": Laplace(),
    "bernoulli-laplace": Laplace(active=0.1),
    "student-3": Student(3.0),
    "student-2": Student(2.0),
    "cauchy": Student(1.0),
}
