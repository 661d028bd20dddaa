"""A noise-conditional prior whose posteriors are known in closed form."""

from __future__ import annotations

import torch
from torch import Tensor

SHAPE = (1, 4, 4)


class Levels:
    """x ~ N(mean, K), u = x + N(0, c^2); at(c) is the density of u, with latents."""

    shape = latent_shape = SHAPE
    noise_range = (0.02, 1.0)

    def __init__(self, c: float = 0.1):
        g = torch.Generator().manual_seed(3)
        root = torch.randn(16, 16, generator=g, dtype=torch.float64) / 6
        self.c, self.mean = c, torch.full((16,), 0.4, dtype=torch.float64)
        self.clean = root @ root.T
        self.covariance = self.clean + c**2 * torch.eye(16, dtype=torch.float64)
        self.precision = torch.linalg.inv(self.covariance)
        self.root = torch.linalg.cholesky(self.covariance)

    def at(self, sigma: float) -> Levels:
        return Levels(sigma)

    def log_prob(self, x: Tensor) -> Tensor:
        d = x.flatten(1) - self.mean
        return -0.5 * (d @ self.precision * d).sum(1)

    def decode(self, z: Tensor) -> Tensor:
        return (self.mean + z.flatten(1) @ self.root.T).view(z.shape)

    def encode(self, x: Tensor) -> Tensor:
        d = (x.flatten(1) - self.mean).T
        return torch.linalg.solve_triangular(self.root, d, upper=False).T.reshape(x.shape)

    def posterior(self, a: Tensor, y: Tensor, s: float, of: str) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of u ("noisy"; y is A u + noise) or of x ("clean")."""
        k = self.covariance if of == "noisy" else self.clean
        gain = k @ a.T @ torch.linalg.inv(a @ k @ a.T + s**2 * torch.eye(len(a)).double())
        return self.mean + gain @ (y - a @ self.mean), (k - gain @ a @ k).diagonal().sqrt()
