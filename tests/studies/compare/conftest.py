from __future__ import annotations

import pytest
import torch

from innverse import flows, generators
from innverse.bijections import initialize
from innverse.studies.compare import Contestant

SHAPE = (1, 16, 16)


def small_flow(**options):
    flow = flows.build("glow", SHAPE, levels=2, steps=2, hidden=8, **options)
    noise = 0.1 if flow.noise is not None else None
    initialize(flow, torch.rand(16, *SHAPE), noise)
    for p in flow.parameters():
        p.data.add_(0.02 * torch.randn_like(p))
    return flow.eval().requires_grad_(False)


@pytest.fixture
def three():
    """Untrained contestants, the flow noise-conditional."""
    torch.manual_seed(0)
    vae = generators.build("vae", SHAPE, latent=4, width=8).eval().requires_grad_(False)
    gan = generators.build("gan", SHAPE, latent=4, width=8).eval().requires_grad_(False)
    return [
        Contestant("INN", "flow", small_flow(noise=(0.01, 0.4)), 0.01),
        Contestant("VAE", "vae", vae),
        Contestant("GAN", "gan", gan),
    ]


@pytest.fixture
def images():
    return torch.randint(0, 256, (8, *SHAPE), dtype=torch.uint8)
