"""The learned histogram: normal marginals, the closed form of its density, its ends."""

from __future__ import annotations

import math

import pytest
import torch

from innverse.bijections import Gaussianize, initialize
from innverse.flows import Flow


def pixels(n: int = 20000) -> torch.Tensor:
    """Dequantised grey levels, four in five black."""
    g = torch.Generator().manual_seed(0)
    level = torch.randint(0, 256, (n, 1), generator=g) * (torch.rand(n, 1, generator=g) < 0.2)
    return (level + torch.rand(n, 1, generator=g, dtype=torch.float64)) / 256


def test_the_marginal_becomes_standard_normal():
    layer, x = Gaussianize(256).double(), pixels()
    initialize(layer, x)
    z = layer(x)[0].detach()[:, 0].sort().values
    levels = (torch.arange(len(z)) + 0.5) / len(z)
    # a hundredth of the histogram is spread evenly, and that is how far it may be off
    assert (torch.special.ndtr(z) - levels).abs().max() < 0.02


def test_the_density_is_the_histogram():
    """p(x) = p_Z(z(x)) |dz/dx| is bins * p[bin], but for the mass kept beyond the ends."""
    layer = Gaussianize(8).double()
    layer.logits.data = torch.randn(8, dtype=torch.float64)
    x = (torch.arange(80, dtype=torch.float64)[:, None] + 0.5) / 80
    p = layer.logits.softmax(0).detach().repeat_interleave(10) * 8
    found = Flow(layer, (1,)).log_prob(x).exp().detach()
    torch.testing.assert_close(found, p * (1 - 2e-6), rtol=1e-9, atol=0)


def test_initialisation_happens_once_and_is_remembered():
    layer = Gaussianize(16)
    initialize(layer, pixels().float())
    first = layer.logits.detach().clone()
    initialize(layer, torch.rand(100, 1))
    assert torch.equal(layer.logits, first)
    again = Gaussianize(16)
    again.load_state_dict(layer.state_dict())
    initialize(again, torch.rand(100, 1))
    assert torch.equal(again.logits, first)


def test_ends_are_finite_and_beyond_is_nan():
    layer = Gaussianize(256)
    initialize(layer, pixels().float())
    z, logdet = layer(torch.tensor([[0.0], [1.0]]))
    assert bool(z.isfinite().all()) and bool(logdet.isfinite().all())
    assert math.isclose(float(z[0]), -float(z[1]), rel_tol=0.05)
    assert bool(layer(torch.tensor([[-0.1], [1.1]]))[0].isnan().all())
    far, _ = layer.inverse(torch.tensor([[-9.0], [9.0]]))
    torch.testing.assert_close(far, torch.tensor([[0.0], [1.0]]), rtol=0, atol=1e-4)


def test_too_few_bins():
    with pytest.raises(ValueError, match="bins=1: at least 2"):
        Gaussianize(1)
