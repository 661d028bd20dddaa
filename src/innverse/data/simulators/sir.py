"""An epidemic: susceptible, infected, recovered (Kermack & McKendrick 1927; as in sbibm)."""

from __future__ import annotations

import torch
from torch import Tensor

from .base import Simulator
from .priors import LogNormal
from .reference import by_ensemble

_POPULATION, _DAYS, _POINTS, _TESTS = 1e6, 160.0, 10, 1000


class SIR(Simulator):
    """Positive tests at ten times of an epidemic with contact rate beta and recovery rate gamma.

    dS/dt = -beta S I / N, dI/dt = beta S I / N - gamma I, N = 10^6, one infected at the start, 160
    days; x_i ~ Binomial(1000, I(t_i) / N), t_i = 0, 17.8, ..., 160 days. theta = (beta, gamma) in
    1/day, log-normal around 0.4 and 1/8.
    """

    name = "sir"
    names = ["beta", "gamma"]
    x_shape = (_POINTS,)
    has_likelihood = has_reference = True

    def __init__(self):
        centre = torch.tensor([0.4, 0.125]).log()
        self.prior = LogNormal(centre, torch.tensor([0.5, 0.2]))

    def forward(self, theta: Tensor) -> Tensor:
        """The infected share I / N at the ten times, (B, 10), by Runge-Kutta of fourth order."""
        beta, gamma = self._theta(theta).double().unbind(1)

        def rate(state: Tensor) -> Tensor:
            s, i = state.unbind(1)
            new = beta * s * i
            return torch.stack((-new, new - gamma * i), 1)

        between = 36  # steps of half a day
        h = _DAYS / (_POINTS - 1) / between
        start = torch.tensor([1 - 1 / _POPULATION, 1 / _POPULATION], dtype=torch.float64)
        state = start.expand(len(theta), 2)
        infected = [state[:, 1]]
        for _ in range(_POINTS - 1):
            for _ in range(between):
                k1 = rate(state)
                k2 = rate(state + h / 2 * k1)
                k3 = rate(state + h / 2 * k2)
                k4 = rate(state + h * k3)
                state = state + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
            infected.append(state[:, 1])
        return torch.stack(infected, 1).clamp(0, 1)

    def simulate(self, theta, generator=None):
        p = self.forward(theta).float()
        return torch.binomial(torch.full_like(p, float(_TESTS)), p, generator=generator)

    def log_likelihood(self, theta, x):
        x, p = self._x(x).double(), self.forward(theta).clamp(1e-12, 1 - 1e-12)
        n = torch.tensor(float(_TESTS), dtype=torch.float64)
        choose = (n + 1).lgamma() - (x + 1).lgamma() - (n - x + 1).lgamma()
        return (choose + x * p.log() + (n - x) * (-p).log1p()).sum(1).float()

    def reference_posterior(self, x, n, generator=None):
        return by_ensemble(self, x, n, generator, pilot=20_000)
