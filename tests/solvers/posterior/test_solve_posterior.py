"""`solve(method="posterior")` as a user calls it."""

from __future__ import annotations

import pytest
import torch

import innverse
from innverse.errors import UsageError
from innverse.physics import Inpainting

from .levels import SHAPE
from .test_hmc import SIGMA, Gaussian

OPTIONS = {"method": "posterior", "noise": 0.2}


def case(n: int = 2):
    g = torch.Generator().manual_seed(0)
    prior, operator = Gaussian(), Inpainting.random(SHAPE, 0.5, g)
    y = operator.A(prior.sample(n, g))
    return prior, operator, y + 0.2 * torch.randn(y.shape, generator=g).double() * operator.mask


def test_mean_and_spread_of_the_closed_form():
    prior, operator, y = case(1)
    found = innverse.solve(y, operator, prior, draws=800, chains=4, warmup=40, steps=8, **OPTIONS)
    seen = operator.mask.flatten().double()
    covariance = torch.linalg.inv(prior.precision + (seen / 0.2**2).diag())
    mean = covariance @ (prior.precision @ prior.mean + (seen * y.flatten()) / 0.2**2)
    std = covariance.diagonal().sqrt()
    size = found.diagnostics["ess_bulk"].flatten()
    assert found.converged.all(), found.status
    assert size.min() > 300
    assert ((found.x.flatten() - mean) / std * size.sqrt()).abs().max() < 4
    assert (found.std.flatten() / std - 1).abs().max() < 0.15
    assert found.samples.shape == (800, 1, *SHAPE)
    assert found.diagnostics["sigma"] is None


def test_an_item_gets_the_same_draws_alone_and_in_a_batch():
    prior, operator, y = case(3)
    few = {"draws": 8, "chains": 2, "warmup": 3, "steps": 4} | OPTIONS
    together = innverse.solve(y, operator, prior, **few)
    alone = innverse.solve(y[1:2], operator, prior, **few)
    assert torch.allclose(together.samples[:, 1], alone.samples[:, 0], atol=1e-8)
    other = innverse.solve(y[1:2], operator, prior, seed=1, **few)
    assert not torch.allclose(alone.samples, other.samples, atol=1e-3)


def test_the_scale_of_a_density_without_levels_is_its_steepest():
    from innverse.solvers.posterior.choose_metric import steepest_scale

    prior = Gaussian()
    u = prior.sample(2, torch.Generator().manual_seed(0))
    want = torch.linalg.eigvalsh(prior.precision)[-1].rsqrt()
    assert torch.allclose(steepest_scale(prior, u), want.expand(2), rtol=0.05)
    assert want == pytest.approx(SIGMA, rel=0.2)


def test_chains_that_have_not_met_are_not_called_converged():
    prior, operator, y = case(1)
    found = innverse.solve(y, operator, prior, draws=16, chains=2, warmup=0, steps=1, **OPTIONS)
    assert not found.converged.any() and found.status[0].startswith("not converged:")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"noise": None}, "noise level"),
        ({"draws": 2}, "draws=2"),
        ({"chains": 1}, "chains=1"),
        ({"steps": 0}, "steps=0"),
        ({"warmup": -1}, "warmup=-1"),
    ],
)
def test_what_cannot_be_sampled_is_said_in_one_line(options, words):
    prior, operator, y = case(1)
    with pytest.raises(UsageError, match=words) as caught:
        innverse.solve(y, operator, prior, **(OPTIONS | options))
    assert "\n" not in str(caught.value)


def test_a_generator_without_density_is_refused():
    gan = innverse.generators.build("gan", (1, 8, 8), latent=4, width=8)
    y = torch.rand(1, 1, 8, 8)
    with pytest.raises(UsageError, match="needs a density: GAN has no log_prob"):
        innverse.solve(y, Inpainting(torch.ones(8, 8)), gan, **OPTIONS)


def test_counted_photons_are_sampled_by_their_own_likelihood():
    from innverse.physics import Denoising, PoissonNoise

    prior = Gaussian()
    x = prior.sample(1, torch.Generator().manual_seed(2)).clamp_min(0)
    operator = Denoising(noise=PoissonNoise(0.05))
    y = operator(x, torch.Generator().manual_seed(3))
    found = innverse.solve(
        y, operator, prior, method="posterior", draws=400, chains=4, warmup=30, steps=6
    )
    # where photons were counted no draw is dark: a Gaussian likelihood would allow it
    assert (found.samples[:, y > 0] > 0).all()
    # the mean score of a posterior is zero: E[grad log p(u) + counts / u - 1 / gain] = 0
    draws = found.samples.flatten(1)
    pull = -(draws - prior.mean) @ prior.precision
    counts = (y / 0.05).flatten()
    score = pull + torch.where(counts > 0, counts / draws, 0.0) - (draws > 0) / 0.05
    size = found.diagnostics["ess_bulk"].flatten()
    assert ((score.mean(0) / score.std(0) * size.sqrt()).abs() < 5).all()
