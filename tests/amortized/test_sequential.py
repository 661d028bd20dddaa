"""Rounds for one observation, on a normal posterior that is a small part of a wide prior."""

from __future__ import annotations

import math

import pytest
import torch
from torch import distributions as td

from innverse import amortized
from innverse.amortized.truncated import TruncatedPrior
from innverse.data import simulators
from innverse.errors import InnverseError, InputError, UsageError

QUICK = {
    "density": "realnvp",
    "size": {"layers": 2, "width": 16},
    "max_epochs": 30,
    "lr": 5e-3,
    "progress": False,
}
STD = 0.1
PRIOR = simulators.Uniform([-5.0, -5.0], [5.0, 5.0])
X = torch.tensor([1.0, -2.0])


def simulator(theta):
    return theta + STD * torch.randn_like(theta)


class Known:
    """The exact posterior N(x, std^2 I)."""

    def __init__(self, std: float = STD):
        self.std = std

    def sample(self, shape, x):
        return x + self.std * torch.randn(*shape, 2)

    def log_prob(self, theta, x):
        return td.Normal(x, self.std).log_prob(theta).sum(-1)


def test_truncated_prior_is_the_prior_inside_its_region():
    """The region of all but epsilon of N(x, s^2 I) in two dimensions is a disc of radius
    s sqrt(-2 log epsilon); inside, draws are uniform."""
    region = TruncatedPrior(PRIOR, X, epsilon=1e-3)
    region.cut(Known(0.5))
    radius = 0.5 * math.sqrt(-2 * math.log(1e-3))
    assert region.acceptance == pytest.approx(math.pi * radius**2 / 100, rel=0.2)
    draws = region.sample((4000,))
    r = (draws - X).norm(dim=1) / radius
    assert r.max() < 1.1  # the threshold is estimated from draws
    assert float((r < 0.5).double().mean()) == pytest.approx(0.25, abs=0.04)


def test_small_regions_are_drawn_from_the_posterior_instead():
    region = TruncatedPrior(PRIOR, X, epsilon=0.02)
    region.cut(Known(0.05))
    assert region.acceptance < 2e-3
    region.acceptance = 0.0
    draws = region.sample((2000,))
    radius = 0.05 * math.sqrt(-2 * math.log(0.02))
    r = (draws - X).norm(dim=1) / radius
    assert draws.shape == (2000, 2) and r.max() < 1.1
    assert float((r < math.sqrt(0.5)).double().mean()) == pytest.approx(0.5, abs=0.07)


def test_regions_are_nested():
    region = TruncatedPrior(PRIOR, X, epsilon=1e-3)
    region.cut(Known(0.3))
    region.cut(Known(3.0))  # a worse posterior cannot bring back what was left out
    assert (region.sample((500,)) - X).norm(dim=1).max() < 1.4


def test_an_empty_region_is_said():
    region = TruncatedPrior(td.Uniform(torch.zeros(2), torch.ones(2)), X)
    region.prior = type("NoDensity", (), {"sample": staticmethod(lambda s: torch.rand(*s, 2))})()
    region.cuts.append((Known(), 1e9))
    with pytest.raises(InnverseError, match="only 0 of"):
        region.sample((10,))


def test_rounds_zoom_in_on_one_observation(tmp_path):
    """600 simulations in all: alone they could not tell a posterior of 0.04 % of the prior's area."""
    found = amortized.fit_sequential(simulator, PRIOR, X, budget=600, rounds=2, **QUICK)
    shares = [r["share_of_prior"] for r in found.config["rounds"]]
    assert shares[0] == 1 and shares[1] < 0.2
    assert [r["simulations"] for r in found.config["rounds"]] == [300, 300]
    draws = found.sample((4000,))
    assert (draws.mean(0) - X).abs().max() < STD
    assert STD / 2 < float(draws.std(0).mean()) < 4 * STD
    found.save(tmp_path / "p")
    again = amortized.load(tmp_path / "p")
    assert again.sample((3,)).shape == (3, 2) and again.config["rounds"] == found.config["rounds"]
    with pytest.warns(UserWarning, match="for one observation"):
        again.sample((3,), x=X + 0.01)


def test_bad_input_is_one_line():
    for kind, words, change in (
        (UsageError, "some simulations", {"rounds": 0}),
        (UsageError, "some simulations", {"budget": 2}),
        (UsageError, "epsilon", {"epsilon": 0.7}),
        (InputError, "NaN", {"x": X * math.nan}),
        (InputError, "raised ValueError", {"simulator": lambda t: int("x")}),
    ):
        options = {"simulator": simulator, "prior": PRIOR, "x": X, "budget": 300} | change
        with pytest.raises(kind, match=words) as caught:
            amortized.fit_sequential(**options, progress=False)
        assert "\n" not in str(caught.value)
