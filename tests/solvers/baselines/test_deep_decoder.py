from __future__ import annotations

import pytest
import torch

from innverse import physics as P
from innverse.errors import UsageError
from innverse.metrics import psnr
from innverse.solvers import solve
from innverse.solvers.baselines import DeepDecoder


def smooth(batch=2, side=16):
    """Pictures of a disc before a ramp."""
    t = torch.linspace(-1, 1, side)
    ramp = 0.4 + 0.3 * t.expand(side, side)
    centre = torch.linspace(-0.3, 0.3, batch).view(-1, 1, 1)
    disc = ((t[:, None] - centre).square() + t.square() < 0.3).float()
    return (0.7 * ramp + 0.3 * disc)[:, None]


def test_an_item_has_weights_of_its_own_and_fewer_than_pixels():
    network = DeepDecoder((3, 20, 12), channels=6, doublings=2)
    assert network.latent_shape == (2 * (36 + 12) + 18,) and network.sizes[-1] == (20, 12)
    weights = network.start(3, seed=4)
    x = network.decode(weights)
    assert x.shape == (3, 3, 20, 12) and x.min() > 0 and x.max() < 1
    torch.testing.assert_close(network.decode(weights[1:2]), x[1:2])
    assert torch.equal(network.start(1, seed=5), weights[1:2])


def test_a_layer_is_the_formula():
    network = DeepDecoder((1, 4, 4), channels=3, doublings=1)
    weights = torch.randn(1, *network.latent_shape, generator=torch.Generator().manual_seed(0))
    matrix, scale, shift, last = weights[0].split([9, 3, 3, 3])
    x = torch.einsum("ij,jhw->ihw", matrix.view(3, 3), network.first[0])
    x = torch.nn.functional.interpolate(x[None], (4, 4), mode="bilinear")[0].relu()
    mean, var = x.mean((1, 2)), x.var((1, 2), correction=0)
    x = (x - mean.view(-1, 1, 1)) / (var + 1e-5).sqrt().view(-1, 1, 1)
    x = x * scale.view(-1, 1, 1) + shift.view(-1, 1, 1)
    expected = torch.einsum("j,jhw->hw", last, x).sigmoid()
    torch.testing.assert_close(network.decode(weights)[0, 0], expected)


def test_it_reconstructs_from_few_measurements_without_learning():
    x = smooth()
    physics = P.CompressedSensing(128, (1, 16, 16), noise=0.002)
    y = physics(x, torch.Generator().manual_seed(0))
    options = {"channels": 8, "doublings": 2, "steps": 800}
    r = solve(y, physics, None, "deep_decoder", **options)
    least_squares = psnr(physics.A_dagger(y), x)
    assert (psnr(r.x, x) > least_squares + 6).all()
    assert r.evaluations.tolist() == [800, 800]
    assert not r.converged.any() and r.noise_ratio.min() > 5  # far from noise of 0.002
    assert r.trace[-1]["residual"] == pytest.approx(r.residual.tolist(), rel=1e-3)


def test_items_do_not_influence_each_other():
    y = smooth(3).double()
    options = {"channels": 6, "doublings": 2, "steps": 40}
    together = solve(y, P.Denoising(), None, "deep_decoder", **options).x
    alone = solve(y[1:2], P.Denoising(), None, "deep_decoder", seed=1, **options)
    # its own seed is that of its place; B_0 is that of the seed, so only place 0 can be compared
    first = solve(y[:1], P.Denoising(), None, "deep_decoder", **options).x
    torch.testing.assert_close(first, together[:1])
    assert not torch.allclose(alone.x, together[1:2])


def test_sizes_of_the_network_are_checked():
    with pytest.raises(UsageError, match="channels=0"):
        DeepDecoder((1, 8, 8), channels=0)
