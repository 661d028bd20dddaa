"""The expected patch log-likelihood under a mixture of Gaussians (Zoran & Weiss 2011).

Components have mean zero, patches are taken without their own mean. Restoration is half-quadratic
splitting: every overlapping patch goes to its most likely component under noise 1 / beta and through
that one's Wiener filter; the average of the patches meets the data; beta rises.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from innverse.physics import LinearPhysics

SIDE = 8
_FLOOR = 1e-5  # of the variances: a third of a grey level
_CHUNK = 2**15


class Mixture:
    """sum of weights[k] N(0, covariances[k]) on patches of SIDE^2 numbers."""

    def __init__(self, weights: Tensor, covariances: Tensor):
        self.weights, self.covariances = weights, covariances

    @classmethod
    def fit(cls, patches: Tensor, k: int, steps: int = 15) -> Mixture:
        """By expectation maximisation from patches (N, SIDE^2) of mean zero; the first groups are those
        of the most parallel of k patches."""
        g = torch.Generator().manual_seed(0)
        some = patches[torch.randperm(len(patches), generator=g)[:k]]
        group = (patches @ F.normalize(some, dim=1).T).abs().argmax(1)
        found = cls._of(F.one_hot(group, k).float(), patches)
        for _ in range(steps):
            log_p = found.log_density(patches, 0.0)
            found = cls._of(log_p.softmax(1), patches)
        return found

    @classmethod
    def _of(cls, shares: Tensor, patches: Tensor) -> Mixture:
        mass = shares.sum(0)
        each = torch.stack([(s[:, None] * patches).T @ patches for s in shares.T])
        eye = _FLOOR * torch.eye(patches.shape[1])
        return cls(mass / mass.sum(), each / mass.clamp_min(1e-6)[:, None, None] + eye)

    def log_density(self, patches: Tensor, noise: float) -> Tensor:
        """log weights[k] N(p; 0, covariances[k] + noise^2), (N, K), up to one constant."""
        eye = noise**2 * torch.eye(patches.shape[1])
        root = torch.linalg.cholesky(self.covariances + eye)
        whiten = torch.linalg.solve_triangular(root, torch.eye(len(eye)), upper=False)
        square = torch.stack([(patches @ w.T).square().sum(1) for w in whiten], 1)
        volume = root.diagonal(dim1=1, dim2=2).log().sum(1)
        return self.weights.clamp_min(1e-12).log() - volume - 0.5 * square

    def denoise(self, x: Tensor, noise: float) -> Tensor:
        """The average of the Wiener estimates of all patches of x (1, 1, H, W)."""
        size = x.shape[-2:]
        patches = F.unfold(x, SIDE)[0].T
        eye = noise**2 * torch.eye(SIDE**2)
        wiener = torch.linalg.solve(self.covariances + eye, self.covariances)
        clean = torch.cat([self._estimate(p, noise, wiener) for p in patches.split(_CHUNK)])
        count = F.fold(F.unfold(torch.ones_like(x), SIDE), size, SIDE)
        return F.fold(clean.T[None], size, SIDE) / count

    def _estimate(self, patches: Tensor, noise: float, wiener: Tensor) -> Tensor:
        mean = patches.mean(1, keepdim=True)
        patches = patches - mean
        best = self.log_density(patches, noise).argmax(1)
        clean = torch.zeros_like(patches)
        for k in best.unique():
            rows = best == k
            clean[rows] = patches[rows] @ wiener[k]
        return clean + mean


@torch.no_grad()
def restore(
    y: Tensor, physics: LinearPhysics, noise: float, mixture: Mixture, weight: float, x: Tensor
) -> Tensor:
    """From the first guess x; ``weight`` is that of the prior. For noise alone Zoran and Weiss' own
    levels, else falling ones."""
    alone = type(physics).__name__ == "Denoising"
    levels = [1.0, 0.5, 0.354, 0.25, 0.177]
    last = max(noise, 0.01) / 2
    falling = [0.2 * (last / 0.2) ** (k / 7) for k in range(8)]
    back = physics.A_adjoint(y)
    for level in [noise * v for v in levels] if alone else falling:
        smooth = mixture.denoise(x, level)
        rho = weight * (noise / level) ** 2
        x = physics.solve_normal(back + rho * smooth, rho, x0=smooth)
    return x
