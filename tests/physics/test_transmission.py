"""Counted photons: their logarithm, its spread, and the likelihood of the counts themselves."""

from __future__ import annotations

import math

import pytest
import torch

from innverse.errors import InnverseError
from innverse.physics import Tomography, TransmissionNoise, line_integrals, whiten
from innverse.physics.cg import conjugate_gradient
from innverse.solvers.posterior.likelihood import likelihood_of
from innverse.solvers.problem import Problem

GEN = torch.Generator


def test_line_integrals_of_counts_have_the_spread_that_the_noise_tells():
    depth = torch.tensor([0.1, 1.0, 3.0]).view(1, 1, 3, 1).expand(1, 1, 3, 20000)
    noise = TransmissionNoise(1e4, absorption=0.5)
    y = noise(depth, GEN().manual_seed(0))
    assert (y - depth).mean(-1).abs().max() < 4e-3
    told = noise.std(depth)
    assert torch.allclose(told[0, 0, :, 0], torch.exp(0.25 * depth[0, 0, :, 0]) / 100 / 0.5)
    assert (y.std(-1) / told[..., 0] - 1).abs().max() < 0.02
    assert torch.allclose(noise.counts(y), noise.counts(y).round(), atol=0.05)


def test_rays_without_photons_count_as_none():
    noise = TransmissionNoise(10.0)
    y = noise.log(torch.tensor([[0.0, 3.0]]), torch.tensor(10.0))
    assert torch.allclose(noise.counts(y), torch.tensor([[0.0, 3.0]]), atol=1e-4)


def test_the_likelihood_is_that_of_the_counts():
    physics = Tomography((1, 8, 8), 6, noise=TransmissionNoise(50.0, 0.1))
    x = torch.rand(2, 1, 8, 8, generator=GEN().manual_seed(0))
    y = physics(x, GEN().manual_seed(1))
    problem = Problem.build(y, physics, None)
    likelihood = likelihood_of(problem, torch.tensor([0, 1, 1]))
    counts = physics.noise.counts(y)[[0, 1, 1]].double().round()

    def want(u):
        rate = 50 * torch.exp(-0.1 * physics.A(u.double()))
        return torch.distributions.Poisson(rate).log_prob(counts).flatten(1).sum(1)

    a, b = x[[0, 1, 1]], 0.5 * x[[1, 0, 1]]
    difference = (likelihood(a) - likelihood(b)).double()
    assert torch.allclose(difference, want(a) - want(b), rtol=1e-3, atol=1e-2)


def test_rays_weigh_by_the_photons_behind_them():
    x = torch.zeros(1, 1, 24, 24)
    x[..., 6:18, 6:18] = 1.0
    physics = Tomography(x.shape[1:], 20, noise=TransmissionNoise(1e6, 0.3))
    y = physics(x, GEN().manual_seed(0))
    _, white = whiten(y, physics)
    want = torch.exp(-0.15 * physics.A(x))
    ratio = white.weight / want
    assert (ratio / ratio.median() - 1).abs().quantile(0.95) < 0.1


def test_weights_are_preconditioned():
    x = torch.zeros(1, 1, 32, 32, dtype=torch.float64)
    x[..., 8:24, 4:28] = 1.0
    physics = Tomography(x.shape[1:], 40, noise=TransmissionNoise(1e5, 0.3))
    y, white = whiten(physics(x, GEN().manual_seed(0)), physics)
    rhs, rho = white.A_adjoint(y), torch.ones(1, 1, 1, 1, dtype=torch.float64)

    def iterations(**how) -> int:
        calls = 0

        def normal(z):
            nonlocal calls
            calls += 1
            return white.A_normal(z) + rho * z

        found = conjugate_gradient(normal, rhs, tol=1e-8, **how)
        assert (normal(found) - rhs).norm() < 1e-7 * rhs.norm()
        return calls

    helped = iterations(precondition=white._preconditioner(rhs, rho))
    assert 1.3 * helped < iterations()


def frames(level: float, bins: int, n: int = 200, gain: float = 4.0) -> torch.Tensor:
    rate = torch.full((n, bins), level / gain)
    return gain * torch.poisson(rate, generator=GEN().manual_seed(0)) + 100


def test_counts_flats_and_darks_give_line_integrals_and_photons():
    flat, dark = frames(4000.0, 30), torch.full((5, 30), 100.0)
    depth = torch.linspace(0, 2, 30).expand(12, 30)
    counts = 4000 * torch.exp(-depth) + 100
    y, noise = line_integrals(counts, flat, dark, absorption=0.5)
    assert (y - 2 * depth).abs().max() < 0.02
    assert float(noise.photons.mean()) == pytest.approx(1000, rel=0.05)  # a photon is 4 counts


def test_bins_without_a_beam_are_not_measured():
    flat = torch.full((10,), 500.0)
    flat[3] = 0
    y, noise = line_integrals(torch.full((4, 10), 250.0), flat)
    assert noise.std(y.float())[:, 3].isinf().all() and (y[:, 3] == 0).all()
    physics = Tomography((1, 8, 8), 4, 10, noise=noise)
    _, white = whiten(y[None, None].float(), physics)
    assert (white.weight[..., 3] == 0).all() and (white.weight[..., 4] > 0).all()


COUNTS = torch.full((4, 10), 250.0)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: line_integrals(-COUNTS, 500.0), "40 of 40 counts are negative"),
        (lambda: line_integrals(COUNTS, torch.ones(3, 9)), "9 bins, but the scan has 10"),
        (lambda: line_integrals(COUNTS * math.nan, 500.0), "NaN"),
        (lambda: line_integrals(COUNTS, 100.0, 500.0), "exchanged"),
        (lambda: line_integrals(COUNTS, 500.0, gain=0.0), "gain=0"),
        (lambda: TransmissionNoise(-1.0), ">= 0"),
        (lambda: TransmissionNoise(0.0), "nothing was measured"),
        (lambda: TransmissionNoise(1.0, 0.0), "absorption=0"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(call, words):
    with pytest.raises(InnverseError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)
