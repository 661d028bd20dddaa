"""Bounds of every kind: round trips, slopes against autodiff, priors that know their support."""

from __future__ import annotations

import math

import pytest
import torch
from torch import distributions as td

from innverse.amortized.parameters import ParameterTransform
from innverse.amortized.supports import as_bounds, region_of
from innverse.data import simulators

INF = math.inf
LOW, HIGH = torch.tensor([0.0, -INF, 2.0, -INF]), torch.tensor([3.0, INF, INF, -1.0])


@pytest.fixture
def learned():
    g = torch.Generator().manual_seed(0)
    e = torch.rand(500, 4, generator=g, dtype=torch.float64)
    theta = torch.stack((3 * e[:, 0], 5 + e[:, 1], 2 + e[:, 2].exp(), -1 - 4 * e[:, 3]), 1)
    transform = ParameterTransform(LOW, HIGH)
    transform.learn(theta)
    return transform, theta


def test_standard_coordinates_and_back(learned):
    transform, theta = learned
    u, _ = transform(theta)
    assert u.dtype == torch.float32
    assert u.mean(0).abs().max() < 1e-5 and (u.std(0) - 1).abs().max() < 1e-4
    torch.testing.assert_close(transform.inverse(u), theta.float(), atol=1e-5, rtol=1e-5)
    far = transform.inverse(torch.tensor([[50.0] * 4, [-50.0] * 4]))
    assert transform.region.inside(far.double()).all()


def test_slopes_against_autodiff(learned):
    transform, theta = learned
    u, log_det = transform(theta[:5])
    for i in range(5):
        step = 1e-6
        slopes = []
        for j in range(4):
            e = torch.zeros(1, 4, dtype=torch.float64)
            e[0, j] = step
            ends = [theta[i : i + 1] + s * e for s in (1, -1)]
            v = [transform.region.to_line(t)[0] / transform.scale for t in ends]
            slopes.append(float((v[0] - v[1])[0, j]) / (2 * step))
        assert abs(float(log_det[i]) - sum(math.log(s) for s in map(abs, slopes))) < 1e-4
    torch.testing.assert_close(transform.log_det_at(u), log_det, atol=1e-4, rtol=1e-4)


def test_outside_there_is_no_density(learned):
    transform, _ = learned
    inside = torch.tensor([1.0, 5.0, 3.0, -2.0])
    for j, value in ((0, 3.1), (0, -0.1), (2, 1.9), (3, -0.9)):
        theta = inside.clone()
        theta[j] = value
        assert float(transform(theta[None])[1]) == -INF


def test_draws_on_a_bound_stay_finite():
    """A height that is exactly 0 now and then does not blow up the scale of all the others."""
    task = simulators.get("inverse_ballistics")
    theta = task.prior.sample((2000,), torch.Generator().manual_seed(0))
    theta[:4, 1] = 0
    transform = ParameterTransform(*task.bounds)
    transform.learn(theta)
    u, log_det = transform(theta)
    assert u.isfinite().all() and log_det.isfinite().all() and u.abs().max() < 30


@pytest.mark.parametrize(
    ("prior", "low", "high"),
    [
        (simulators.Uniform([0.0, 1.0], [2.0, 3.0]), [0, 1], [2, 3]),
        (td.Independent(td.Uniform(torch.zeros(2), torch.ones(2)), 1), [0, 0], [1, 1]),
        (td.Independent(td.LogNormal(torch.zeros(2), torch.ones(2)), 1), [0, 0], [INF, INF]),
        (td.MultivariateNormal(torch.zeros(2), torch.eye(2)), [-INF, -INF], [INF, INF]),
        (None, [-INF, -INF], [INF, INF]),
    ],
)
def test_bounds_of_priors(prior, low, high):
    region = region_of(prior, 2)
    assert region.low.tolist() == low and region.high.tolist() == high


def test_bounds_by_hand():
    low, high = as_bounds(([None, 0.5], None), 2)
    assert low.tolist() == [-INF, 0.5] and high.tolist() == [INF, INF]
