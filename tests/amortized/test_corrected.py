"""A wrong posterior made exact by the likelihood, where all is known in closed form."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from torch import distributions as td

from innverse import amortized
from innverse.errors import ShapeError, UsageError
from innverse.metrics import calibration


class Wide:
    """N(x / 2 + bias, (width^2 / 2) I) where N(x / 2, I / 2) is right."""

    def __init__(self, width: float = 1.4, bias: float = 0.2):
        self.std, self.bias = width / math.sqrt(2), bias

    def sample(self, shape, x, generator=None):
        return x / 2 + self.bias + self.std * torch.randn(*shape, len(x), generator=generator)

    def log_prob(self, theta, x):
        return td.Normal(x / 2 + self.bias, self.std).log_prob(theta).sum(-1)


def log_joint(theta, x):
    return td.Normal(0.0, 1.0).log_prob(theta).sum(-1) + td.Normal(theta, 1.0).log_prob(x).sum(-1)


def test_weighted_draws_are_exact():
    x = torch.tensor([1.0, -2.0])
    g = torch.Generator().manual_seed(0)
    exact = amortized.CorrectedPosterior(Wide(), log_joint)
    made = exact.correct(x, 20_000, generator=g)
    torch.testing.assert_close(made.mean, x / 2, atol=0.03, rtol=0)
    assert 0.3 < made.efficiency < 1 and made.importance.trustworthy
    evidence = float(td.Normal(0.0, math.sqrt(2)).log_prob(x).sum())
    assert abs(made.importance.log_evidence - evidence) < 0.03
    draws = exact.sample((4000,), x, generator=g)
    assert draws.shape == (4000, 2)
    assert (draws.mean(0) - x / 2).abs().max() < 0.05 and (draws.var(0) - 0.5).abs().max() < 0.06
    theta = torch.randn(5, 2)
    want = td.Normal(x / 2, math.sqrt(0.5)).log_prob(theta).sum(-1)
    torch.testing.assert_close(exact.log_prob(theta, x), want, atol=0.05, rtol=0)


def test_calibration_takes_it_and_finds_it_repaired():
    theta = torch.randn(150, 2)
    x = theta + torch.randn(150, 2)
    exact = amortized.CorrectedPosterior(Wide(1.5, 0.5), log_joint, proposals=2000)
    before = calibration.sbc(Wide(1.5, 0.5), theta, x, draws=100).p_values
    after = calibration.sbc(exact, theta, x, draws=100).p_values
    assert (before < 1e-3).all() and (after > 1e-3).all()


def test_a_posterior_that_misses_a_part_is_not_trusted():
    narrow = amortized.CorrectedPosterior(Wide(0.35, 0.0), log_joint)
    with pytest.warns(UserWarning, match="Pareto k"):
        narrow.sample((100,), torch.zeros(2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        amortized.CorrectedPosterior(Wide(), log_joint).sample((100,), torch.zeros(2))


def test_bad_input_is_one_line():
    with pytest.raises(UsageError, match="log_joint"):
        amortized.CorrectedPosterior(Wide(), 3)
    with pytest.raises(ShapeError, match="theta must be"):
        amortized.CorrectedPosterior(Wide(), log_joint).log_prob(torch.zeros(2), torch.zeros(2))
