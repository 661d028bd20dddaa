"""Simulation-based calibration of `solve(method="posterior")`, with its own start and warm-up."""

from __future__ import annotations

import warnings

import pytest
import torch

import innverse
from innverse.metrics import calibration

from .test_hmc import OPERATORS, SHAPE, Gaussian

S = 0.2


def simulated(name: str, n: int):
    """Pictures of the prior, their measurements, log p(y | u)."""
    g = torch.Generator().manual_seed(5)
    operator = OPERATORS[name]
    u = Gaussian().sample(n, g)
    clean = operator.A(u)
    y = operator.keep_measured(clean + S * torch.randn(clean.shape, generator=g).double())
    return u, y, lambda v: -0.5 * (operator.A(v) - y).flatten(1).square().sum(1) / S**2


def draws(name: str, y, warmup: int = 16, thin: int = 1):
    """99 thinned draws of each posterior."""
    options = {"noise": S, "image_shape": SHAPE, "draws": 99 * thin, "chains": 3, "steps": 6}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pictures that do not look like pictures
        found = innverse.solve(
            y, OPERATORS[name], Gaussian(), "posterior", warmup=warmup, **options
        )
    return found.samples.unflatten(0, (3, 33 * thin))[:, thin - 1 :: thin].flatten(0, 1)


def ranks(draws, u, log_likelihood):
    prior = Gaussian()

    def quantities(v):
        coefficient = calibration.haar(v)[:, 5]
        parts = (v.mean((1, 2, 3)), v[:, 0, 1, 2], coefficient, prior.log_prob(v))
        return torch.stack((*parts, log_likelihood(v)), 1)

    return calibration.sbc(draws, u, of=quantities)


def smallest_p(found) -> float:
    counts = calibration.counts_p(found.ranks, found.draws, bins=20)
    band = calibration.ecdf_p(found.ranks, found.draws)
    return float(calibration.holm(torch.cat((counts, band))).min())


def test_sbc_of_the_whole_method():
    u, y, log_likelihood = simulated("inpainting", 30)
    found = draws("inpainting", y)
    assert smallest_p(ranks(found, u, log_likelihood)) > 0.05
    density = Gaussian().log_prob
    sets = calibration.coverage(found, u, log_prob=lambda v: density(v) + log_likelihood(v))
    assert ((sets.joint - sets.levels).abs() < 3.5 * sets.standard_error).all()
    assert ((sets.covered.mean(1) - sets.levels).abs() < 0.06).all()


def test_sbc_draws_that_ignore_the_data_are_found_out():
    u, _, log_likelihood = simulated("inpainting", 60)
    g = torch.Generator().manual_seed(8)
    ignoring = torch.stack([Gaussian().sample(60, g) for _ in range(99)])
    assert smallest_p(ranks(ignoring, u, log_likelihood)) < 1e-3


def test_stein_discrepancy_of_draws_from_their_exact_score():
    _, y, log_likelihood = simulated("inpainting", 2)
    found, density = draws("inpainting", y, thin=4), Gaussian().log_prob

    def score(v):
        v = v.clone().requires_grad_()
        (slope,) = torch.autograd.grad((density(v) + log_likelihood(v)).sum(), v)
        return slope

    right, shifted = (torch.stack([score(v + d) for v in found]) for d in (0, 0.4))
    for i in range(2):
        assert calibration.stein_discrepancy(found[:, i], right[:, i]).p_value > 0.01
        assert calibration.stein_discrepancy(found[:, i] + 0.4, shifted[:, i]).p_value < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("name", OPERATORS)
def test_sbc_of_the_whole_method_with_many_replicates(name):
    u, y, log_likelihood = simulated(name, 300)
    assert smallest_p(ranks(draws(name, y, warmup=60, thin=2), u, log_likelihood)) > 0.01
