from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from innverse import physics as P
from innverse.errors import UsageError
from innverse.solvers import solve


class Tiny(nn.Module):
    """3 latents -> 8x8 images."""

    latent_shape, shape = (3,), (1, 8, 8)

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 64), nn.Sigmoid())

    def decode(self, z):
        return self.net(z).view(-1, 1, 8, 8)


SEARCH = {"start": "random", "restarts": 2, "optimizer": "adam", "steps": 60}


def test_tuning_the_weights_removes_the_representation_error_and_leaves_the_prior_alone():
    prior = Tiny().double()
    before = copy.deepcopy(prior.state_dict())
    y = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(1)).double()
    latent = solve(y, P.Denoising(), prior, "latent", **SEARCH)
    adaptive = solve(y, P.Denoising(), prior, "adaptive", tune_steps=300, tune_lr=3e-2, **SEARCH)
    assert latent.residual.min() > 0.2 and adaptive.residual.max() < 0.05
    assert all(torch.equal(v, before[k]) for k, v in prior.state_dict().items())
    assert (adaptive.evaluations - latent.evaluations == 300).all()
    alone = solve(y[:1], P.Denoising(), prior, "adaptive", tune_steps=300, tune_lr=3e-2, **SEARCH)
    torch.testing.assert_close(alone.x, adaptive.x[:1], atol=1e-4, rtol=0)


def test_an_item_stops_at_the_noise_level():
    physics = P.Denoising(noise=0.3)
    y = physics(torch.full((2, 1, 8, 8), 0.5), torch.Generator().manual_seed(0))
    r = solve(y, physics, Tiny(), "adaptive", tune_steps=500, tune_lr=1e-2, **SEARCH)
    misfit = (r.x - y).square().flatten(1).sum(1)
    assert misfit.max() <= 64 * 0.3**2 and misfit.min() > 0.7 * 64 * 0.3**2
    assert all(len(row["misfits"]) < 500 for row in r.trace[-2:])


def test_nan_while_tuning_is_a_failure_of_that_item():
    class Fragile(Tiny):
        def decode(self, z):
            x = super().decode(z)
            changed = (self.net[2].bias - self.limit).abs().max() > 0.05
            return torch.where(changed & (z.shape[0] == 1), x * torch.nan, x)

    prior = Fragile()
    prior.register_buffer("limit", prior.net[2].bias.detach().clone())
    y = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    r = solve(y, P.Denoising(), prior, "adaptive", tune_steps=50, tune_lr=3e-2, **SEARCH)
    assert not r.converged.any() and all("NaN" in s for s in r.status)
    assert torch.isfinite(r.x).all()


def test_it_needs_a_module():
    class Function:
        latent_shape, shape = (64,), (1, 8, 8)

        def decode(self, z):
            return z.view(-1, 1, 8, 8)

    with pytest.raises(UsageError, match="torch module"):
        solve(torch.rand(1, 1, 8, 8), P.Denoising(), Function(), "adaptive")
