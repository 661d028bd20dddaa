"""Posteriors of codes: of an injective flow chains move in its latents."""

from __future__ import annotations

import pytest
import torch

from innverse import flows, solve
from innverse.bijections import Chain
from innverse.errors import UsageError
from innverse.physics import Inpainting
from innverse.protocols import has_density, is_of_codes

NOISE = 0.1


def plane():
    """x = W z + 1/2, so that all is Gaussian."""
    torch.manual_seed(0)
    flow = flows.build("injective", (1, 4, 4), latent=3, levels=1, tail_steps=0, steps=1)
    flow.core, flow.tail = Chain(), Chain()
    flow.embedding.offset.data.fill_(0.5)
    return flow.eval().requires_grad_(False)


def measured(flow):
    mask = (torch.arange(16).view(1, 1, 4, 4) % 3 > 0).float()
    x = flow.sample(1, generator=torch.Generator().manual_seed(1))
    physics = Inpainting(mask)
    noise = NOISE * torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
    return mask, physics, physics.A(x + noise)


@pytest.mark.filterwarnings("ignore:.*x_range")
def test_chains_in_codes_reach_the_gaussian():
    flow = plane()
    mask, physics, y = measured(flow)
    found = solve(
        y, physics, flow, "posterior", noise=NOISE, draws=240, chains=4, warmup=40, seed=0
    )
    w = flow.embedding.matrix(y).double()
    seen = w * mask.double().view(16, 1)
    covariance = torch.linalg.inv(torch.eye(3).double() + seen.T @ seen / NOISE**2)
    mean = covariance @ seen.T @ (y.double().view(16) - 0.5 * mask.double().view(16)) / NOISE**2
    std = (w @ covariance @ w.T).diagonal().sqrt().view(1, 1, 4, 4).float()
    expected = (w @ mean + 0.5).view(1, 1, 4, 4).float()
    assert float(((found.x - expected).abs() / std).max()) < 0.5  # of 240 draws, not independent
    torch.testing.assert_close(found.std, std, rtol=0.25, atol=0)
    assert found.diagnostics["space"] == "latent" and found.log_prob is None
    assert float(flow.project(found.samples.flatten(0, 1))[1].max()) < 1e-5  # all on the manifold


@pytest.mark.parametrize("method", ["map", "constrained", "langevin", "variational", "smc"])
def test_who_needs_a_density_of_images_says_so(method):
    flow = plane()
    _, physics, y = measured(flow)
    assert is_of_codes(flow) and not has_density(flow)
    with pytest.raises(UsageError, match="manifold of 3 dimensions: take 'latent' or 'posterior'"):
        solve(y, physics, flow, method, noise=NOISE)
    with pytest.raises(UsageError, match="space='image'"):
        solve(y, physics, flow, "posterior", noise=NOISE, space="image")
