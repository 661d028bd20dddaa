"""Is an observation like the training data? The rank of its density under a fitted normal."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_DENSE = 256  # dimensions up to which the covariance is a full matrix
_MARGIN = 1.25  # squared distance beyond the farthest simulation at which a flag is raised


class TrainingRange(nn.Module):
    """log N(z; m, C) of standardised observations z, ranked among the training simulations.

    m and C are the mean and the covariance of the training data (shrunk to its diagonal, the more
    the fewer the simulations; a diagonal above 256 dimensions). The rank needs no normality: it is
    the share of simulations that are less likely, so for an observation from the simulator it is
    uniform.

    Args:
        n: dimensions of a flattened observation.
    """

    mean: Tensor
    whiten: Tensor
    log_scale: Tensor
    distances: Tensor

    def __init__(self, n: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(n, dtype=torch.float64))
        shape = (n, n) if n <= _DENSE else (n,)
        self.register_buffer("whiten", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("log_scale", torch.zeros((), dtype=torch.float64))
        self.register_buffer("distances", torch.zeros(1001, dtype=torch.float64))

    def learn(self, z: Tensor) -> None:
        """From standardised observations z (N, ...)."""
        z = z.flatten(1).double()
        self.mean.copy_(z.mean(0))
        centred = z - self.mean
        variance = centred.square().mean(0)
        floor = 1e-4 * variance.mean().clamp_min(1e-12)
        if self.whiten.dim() == 1:
            self.whiten.copy_((variance + floor).rsqrt())
            self.log_scale.copy_(self.whiten.log().sum())
        else:
            covariance = centred.T @ centred / len(z)
            # few simulations of many numbers do not determine their correlations: forget them then
            share = min(1.0, 10 * len(variance) / len(z))
            covariance = (1 - share) * covariance + torch.diag(share * variance)
            covariance = covariance + torch.diag(floor + 1e-3 * variance)
            factor = torch.linalg.cholesky(covariance)
            eye = torch.eye(len(factor), dtype=torch.float64)
            self.whiten.copy_(torch.linalg.solve_triangular(factor, eye, upper=False))
            self.log_scale.copy_(-factor.diagonal().log().sum())
        d = self._distance(z).sort().values
        index = torch.linspace(0, len(d) - 1, 1001).round().long()
        self.distances.copy_(d[index])

    def log_density(self, z: Tensor) -> Tensor:
        """log N(z; m, C) of z (B, ...) -> (B,), in standardised units."""
        n = len(self.mean)
        constant = self.log_scale - 0.5 * n * torch.log(torch.tensor(2 * torch.pi))
        return constant - 0.5 * self._distance(z.flatten(1).double())

    def rank(self, z: Tensor) -> Tensor:
        """The share of training simulations less likely than z (B, ...) -> (B,), in steps of .001."""
        d = self._distance(z.flatten(1).double())
        return (self.distances > d.unsqueeze(1)).double().mean(1)

    def far_outside(self, z: Tensor) -> Tensor:
        """Whether z (B, ...) lies well beyond the farthest training simulation -> (B,) bool."""
        return self._distance(z.flatten(1).double()) > _MARGIN * self.distances[-1]

    def _distance(self, z: Tensor) -> Tensor:
        centred = z - self.mean
        white = centred * self.whiten if self.whiten.dim() == 1 else centred @ self.whiten.T
        return white.square().sum(1)
