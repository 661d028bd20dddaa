"""What every simulator offers: a prior, a forward process, and its likelihood where it is known."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...errors import InnverseError, ShapeError
from ...gaussian import HALF_LOG_2PI
from .priors import Prior
from .reference import rejection


class Simulator:
    """x ~ p(x | theta), theta ~ prior.

    Subclasses set ``name``, ``names`` (of the parameters), ``prior``, ``x_shape`` and give
    ``simulate``; those with ``has_likelihood`` give ``log_likelihood``, those with
    ``has_reference`` draw from the posterior without a network. An object can be called like its
    ``simulate``, and handed to `innverse.amortized.fit` with ``prior=task.prior``.
    """

    name: str
    names: list[str]
    prior: Prior
    x_shape: tuple[int, ...]
    has_likelihood = False
    has_reference = False

    @property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """(low, high) of the parameters, each (D,)."""
        return self.prior.bounds

    def simulate(self, theta: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Measurements x (B, *x_shape) at parameters theta (B, D)."""
        raise NotImplementedError

    def __call__(self, theta: Tensor) -> Tensor:
        return self.simulate(theta)

    def pairs(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """``n`` draws (theta, x) of the joint distribution."""
        theta = self.prior.sample((n,), generator)
        return theta, self.simulate(theta, generator)

    def log_likelihood(self, theta: Tensor, x: Tensor) -> Tensor:
        """log p(x | theta) in nats; theta (B, D), x one measurement or B of them -> (B,)."""
        raise InnverseError(f"{self.name} has no likelihood that can be computed")

    def log_joint(self, theta: Tensor, x: Tensor) -> Tensor:
        """log p(theta) + log p(x | theta) -> (B,); -inf outside the prior's bounds."""
        inside = self.prior.inside(theta)
        low, high = self.bounds
        safe = torch.minimum(torch.maximum(theta, low), high)
        value = self.prior.log_prob(theta) + self.log_likelihood(safe, x)
        return torch.where(inside, value, -math.inf)

    def reference_posterior(
        self, x: Tensor, n: int, generator: torch.Generator | None = None
    ) -> Tensor:
        """``n`` draws (n, D) of p(theta | x) for one measurement, by a method that is exact, or
        exact up to Monte-Carlo error."""
        raise InnverseError(f"{self.name} has no reference posterior")

    def _theta(self, theta: Tensor) -> Tensor:
        if theta.dim() != 2 or theta.shape[1] != len(self.names):
            raise ShapeError(
                f"{self.name} takes theta (B, {len(self.names)}), got {tuple(theta.shape)}"
            )
        return theta

    def _x(self, x: Tensor) -> Tensor:
        """x with a batch axis (1 or B)."""
        x = torch.as_tensor(x)
        x = x.unsqueeze(0) if tuple(x.shape) == self.x_shape else x
        if tuple(x.shape[1:]) != self.x_shape:
            raise ShapeError(f"{self.name} takes x {self.x_shape}, got {tuple(x.shape)}")
        return x

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.names)} parameters, x {self.x_shape})"


class Noisy(Simulator):
    """x ~ N(forward(theta), noise^2), each number for itself."""

    noise: float
    has_likelihood = has_reference = True

    def forward(self, theta: Tensor) -> Tensor:
        """The measurement without noise, (B, *x_shape)."""
        raise NotImplementedError

    def simulate(self, theta: Tensor, generator: torch.Generator | None = None) -> Tensor:
        x = self.forward(theta)
        return x + self.noise * torch.randn(x.shape, generator=generator)

    def log_likelihood(self, theta: Tensor, x: Tensor) -> Tensor:
        return normal_log_prob(self._x(x), self.forward(theta), self.noise).sum(1)

    def reference_posterior(
        self, x: Tensor, n: int, generator: torch.Generator | None = None
    ) -> Tensor:
        """By rejection from the prior with probability exp(-|forward(theta) - x|^2 / (2 noise^2))."""
        x = self._x(x)

        def accept(theta: Tensor) -> Tensor:
            return -0.5 * ((self.forward(theta) - x) / self.noise).square().sum(1)

        return rejection(lambda m: self.prior.sample((m,), generator), accept, n, generator)


def normal_log_prob(x: Tensor, mean: Tensor, std: float | Tensor) -> Tensor:
    """log N(x; mean, std^2), elementwise."""
    std = torch.as_tensor(std, dtype=x.dtype)
    return -0.5 * ((x - mean) / std).square() - std.log() - HALF_LOG_2PI
