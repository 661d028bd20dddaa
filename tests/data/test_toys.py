"""Toy densities: normalised, in agreement with their samples, converged in their integrals."""

from __future__ import annotations

import math

import pytest
import torch

from innverse.data import toys
from innverse.errors import ShapeError, UsageError

H = 0.05  # half of the smallest noise, and it divides the squares of the checkerboard


def cells() -> torch.Tensor:
    """The centres of the cells of a grid on [-6, 6]^2."""
    axis = H * (torch.arange(240, dtype=torch.float64) + 0.5) - 6
    return torch.cartesian_prod(axis, axis)


@pytest.mark.parametrize("name", toys.names())
def test_density_integrates_to_one(name):
    mass = toys.log_prob(name, cells()).exp().sum() * H**2
    assert abs(float(mass) - 1) < 1e-6


@pytest.mark.parametrize("name", toys.names())
def test_samples_follow_the_density(name):
    """The share of the samples in each of 144 squares is the mass of the density there."""
    n = 20000
    x = toys.sample(name, n, torch.Generator().manual_seed(0))
    assert x.shape == (n, 2) and x.dtype == torch.float32
    mass = toys.log_prob(name, cells()).exp().view(12, 20, 12, 20).sum((1, 3)) * H**2
    column, row = (x.double() + 6).floor().long().clamp(0, 11).T
    counts = torch.bincount(12 * column + row, minlength=144).view(12, 12)
    # 5 standard deviations of a binomial, and one count where hardly any is expected
    allowed = 5 * (n * mass * (1 - mass)).sqrt() + 1
    assert bool(((counts - n * mass).abs() <= allowed).all())


@pytest.mark.parametrize("name", toys.names())
def test_entropy_is_that_of_samples(name):
    x = toys.sample(name, 20000, torch.Generator().manual_seed(1)).double()
    log_p = toys.log_prob(name, x)
    error = -log_p.mean() - toys.entropy(name)
    assert abs(error) < 4 * log_p.std() / math.sqrt(len(x)) + 1e-6


@pytest.mark.parametrize("name", ["two moons", "spirals"])
def test_integrals_along_curves_have_converged(name):
    """Four times as many nodes change nothing, near the curve or far from it."""
    toy = toys._TOYS[name]
    x = torch.cat((toys.sample(name, 200), 6 * torch.rand(200, 2) - 3)).double()
    centres, weights = toy.mixture(4 * toy.nodes)
    finer = (toys._log_normal(x, centres, toy.s) + weights).logsumexp(1)
    torch.testing.assert_close(toys.log_prob(name, x), finer, rtol=0, atol=1e-6)


def test_rings_are_an_average_over_the_circle():
    """The Bessel function against the mean of 720 Gaussians around each circle."""
    toy = toys._TOYS["rings"]
    angle = 2 * math.pi * torch.arange(720, dtype=torch.float64) / 720
    circle = torch.stack((angle.cos(), angle.sin()), 1)
    centres = torch.cat([r * circle for r in toy.radii])
    x = 4 * torch.rand(100, 2, dtype=torch.float64)
    mean = toys._log_normal(x, centres, toy.s).logsumexp(1) - math.log(len(centres))
    torch.testing.assert_close(toys.log_prob("rings", x), mean, rtol=0, atol=1e-9)


def test_seeds_and_errors():
    first, second = (toys.sample("spirals", 5, torch.Generator().manual_seed(7)) for _ in "ab")
    assert torch.equal(first, second)
    assert toys.log_prob("checkerboard", torch.tensor([[1.0, -1.0], [1.0, 1.0]]))[0] == -math.inf
    with pytest.raises(
        UsageError, match="no toy is called 'moon': did you mean 'two moons'.* choose one of check"
    ):
        toys.sample("moon", 3)
    with pytest.raises(ShapeError, match=r"\(n, 2\), got \(3,\)"):
        toys.log_prob("rings", torch.zeros(3))
