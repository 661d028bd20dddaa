"""A neuron's spikes: a Bernoulli generalised linear model (as in sbibm)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .base import Simulator
from .priors import Gaussian
from .reference import resample

_STEPS, _FILTER = 100, 9


class BernoulliGLM(Simulator):
    """Spikes s_t ~ Bernoulli(sigmoid((V theta)_t)), t = 1..100, V from a white-noise stimulus.

    theta = (offset, filter of 9 lags), with a prior that wants smooth filters. x (10,) are the
    sufficient statistics V^T s: the number of spikes and the spike-triggered sums of the stimulus.
    """

    name = "bernoulli_glm"
    names = ["offset", *(f"filter[{i}]" for i in range(_FILTER))]
    x_shape: tuple[int, ...] = (10,)
    has_likelihood = has_reference = True

    def __init__(self):
        stimulus = np.random.RandomState(42).randn(_STEPS)
        stimulus = torch.from_numpy(stimulus.astype(np.float32))
        design = torch.zeros(_STEPS, 1 + _FILTER)
        design[:, 0] = 1
        for lag in range(_FILTER):
            design[lag:, 1 + lag] = stimulus[: _STEPS - lag]
        self.design = design
        # second differences are penalised
        m = _FILTER
        difference = torch.eye(m) - torch.diag(torch.ones(m - 1), -1)
        f = difference @ difference + torch.diag((torch.arange(m) / m).sqrt())
        precision = torch.zeros(1 + m, 1 + m, dtype=torch.float64)
        precision[0, 0] = 0.5
        precision[1:, 1:] = (f.T @ f).double()
        self.precision = precision
        self.prior = Gaussian(torch.zeros(1 + m), torch.linalg.inv(precision))

    def simulate(self, theta, generator=None):
        return self.spikes(theta, generator) @ self.design

    def spikes(self, theta: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """0 or 1 at each of the 100 times, (B, 100)."""
        rate = (self._theta(theta) @ self.design.T).sigmoid()
        return (torch.rand(rate.shape, generator=generator) < rate).float()

    def log_likelihood(self, theta, x):
        """Up to a constant: how many spike trains share the statistics x."""
        theta = self._theta(theta)
        drive = theta @ self.design.T
        return (theta * self._statistics(self._x(x))).sum(1) - F.softplus(drive).sum(1)

    def reference_posterior(self, x, n, generator=None):
        """By importance resampling from a t distribution at the mode; the density is log-concave,
        so it fits well."""
        x = self._x(x).double()
        design = self.design.double()
        statistics = self._statistics(x)[0].double()
        mode = torch.zeros(1 + _FILTER, dtype=torch.float64)
        for _ in range(50):  # Newton with damping
            rate = (design @ mode).sigmoid()
            gradient = statistics - design.T @ rate - self.precision @ mode
            hessian = design.T @ (design * (rate * (1 - rate)).unsqueeze(1)) + self.precision
            step = torch.linalg.solve(hessian, gradient)
            mode = mode + step * min(1.0, 2.0 / float(step.norm()))
        factor = torch.linalg.cholesky(torch.linalg.inv(hessian))
        m, dof = max(20 * n, 100_000), 12
        e = torch.randn(m, len(mode), generator=generator, dtype=torch.float64)
        chi = torch.randn(m, dof, generator=generator, dtype=torch.float64).square().sum(1)
        white = e / (chi / dof).sqrt().unsqueeze(1)
        theta = mode + white @ factor.T
        log_t = -0.5 * (dof + len(mode)) * (white.square().sum(1) / dof).log1p()
        prior = -0.5 * ((theta @ self.precision) * theta).sum(1)
        likelihood = theta @ statistics - F.softplus(theta @ design.T).sum(1)
        return resample(theta.float(), prior + likelihood - log_t, n, generator)

    def _statistics(self, x: Tensor) -> Tensor:
        """V^T s (B, 10)."""
        return x


class BernoulliGLMRaw(BernoulliGLM):
    """The same with the spikes themselves, x (100,) of 0 and 1."""

    name = "bernoulli_glm_raw"
    x_shape = (_STEPS,)

    def simulate(self, theta, generator=None):
        return self.spikes(theta, generator)

    def _statistics(self, x):
        return x.to(self.design.dtype) @ self.design
