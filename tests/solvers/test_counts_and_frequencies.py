"""Noise of counts and of k-space, estimated and reached; methods by problem."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import innverse
from innverse import physics as P
from innverse.errors import UsageError
from innverse.solvers import method_for
from innverse.solvers.discrepancy import choose_gamma, noise_energy
from innverse.solvers.judge import noise_ratio
from innverse.solvers.noise_level import estimate_noise, photon_gain
from innverse.solvers.problem import Problem
from innverse.solvers.shown import shown


def g(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def smooth(side: int = 128):
    t = torch.linspace(0, 6, side)
    return (0.5 + 0.3 * torch.sin(t)[:, None] * torch.cos(1.3 * t))[None, None]


SCANS = {
    "tomography": P.Tomography((1, 64, 64), 20, noise=0.2),
    "mri": P.build("mri", (1, 64, 64), acceleration=4.0, sigma=0.01),
}
BLIND = {
    "fourier": P.SubsampledFourier(P.cartesian_mask((64, 64), 4.0), noise=0.01),
    "projections": P.CompressedSensing(800, (1, 64, 64), noise=0.01),
    "a wedge": P.Tomography((1, 64, 64), torch.arange(20.0), noise=0.2),
    "high frequencies": P.SubsampledFourier(P.cartesian_mask((64, 64), 4.0, 0.0), noise=0.01),
}


@pytest.mark.parametrize("gain", [0.002, 0.05, 3.0])
@pytest.mark.parametrize("operator", ["denoising", "blur"])
def test_the_gain_of_counts_is_variance_over_mean(gain, operator):
    clean = smooth() * (100 if gain > 1 else 1)
    physics = P.Denoising() if operator == "denoising" else P.Blur(P.gaussian_kernel(1.0))
    y = P.PoissonNoise(gain)(physics.A(clean), g())
    assert photon_gain(Problem.build(y, physics, None)) == pytest.approx(gain, rel=0.15)


def test_counts_are_solved_as_photons_and_said_so():
    y = P.PoissonNoise(1.0)(50 * smooth(), g())
    given = {"method": "tv", "x_range": (0, 50), "steps": 100}
    found = innverse.solve(y, P.Denoising(), noise="counts", **given)
    known = innverse.solve(y, P.Denoising(), noise=P.PoissonNoise(1.0), **given)
    assert (found.x - known.x).abs().max() < 1.0  # of 50
    assert any("photons" in note for note in found.notes[0])
    whole = innverse.solve(y.int(), P.Denoising(), noise="counts", **given)
    assert torch.equal(whole.x, found.x)
    array = innverse.solve(y.numpy().astype(np.int32), P.Denoising(), noise="counts", **given)
    assert torch.equal(array.x, found.x)


def test_a_gain_that_cannot_be_read_is_refused():
    with pytest.raises(UsageError, match="reads the gain from pictures"):
        innverse.solve(torch.rand(1, 800), BLIND["projections"], method="tv", noise="counts")
    with pytest.raises(UsageError, match="bright blocks"):
        innverse.solve(torch.rand(1, 1, 8, 8), P.Denoising(), method="tv", noise="counts")
    with pytest.raises(UsageError, match="'auto'"):
        innverse.solve(torch.rand(1, 1, 8, 8), P.Denoising(), method="tv", noise="count")


@pytest.mark.parametrize("level", [0.005, 0.05])
@pytest.mark.parametrize("name", ["fourier", "mri", "complex"])
def test_the_noise_of_k_space(name, level):
    x = smooth(64)
    if name == "complex":
        physics = P.SubsampledFourier(P.cartesian_mask((64, 64), 2.0), complex_image=True)
        x = torch.cat([x, 0.3 * x.flip(2)], 1)
    else:
        physics = (SCANS | BLIND)[name]
    y = P.GaussianNoise(level)(physics.A(x), g())
    y = physics.mask * y
    found, _ = estimate_noise(Problem.build(y, physics, None, P.NoNoise()))
    assert float(found) == pytest.approx(level, rel=0.15)


def test_the_noise_of_a_sinogram():
    t = torch.linspace(-1, 1, 64)
    disc = (t[:, None].square() + t.square() < 0.4).float()[None, None]
    physics = P.Tomography((1, 64, 64), 40)
    y = P.GaussianNoise(0.3)(physics.A(disc), g())
    found, words = estimate_noise(Problem.build(y, physics, None, P.NoNoise()))
    assert float(found) == pytest.approx(0.3, rel=0.15) and "rays" in words


@pytest.mark.parametrize("kind", ["counts", "k-space", "transmission"])
def test_the_misfit_of_the_truth_is_the_noise_and_the_discrepancy_reaches_it(kind):
    x = smooth(32)
    physics = {
        "counts": P.Blur(P.gaussian_kernel(1.0), noise=P.PoissonNoise(0.01)),
        "k-space": P.SubsampledFourier(P.cartesian_mask((32, 32), 2.0), noise=0.05),
        "transmission": P.Tomography((1, 32, 32), 30, noise=P.TransmissionNoise(1e4, 0.1)),
    }[kind]
    y = physics(x, g())
    problem = Problem.build(y, physics, None)
    count = len(y.flatten())
    assert float(noise_ratio(problem, x)) == pytest.approx(1, abs=8 / count**0.5)
    # the weight at which a quadratic penalty leaves the misfit of the noise
    chosen = choose_gamma(
        problem, lambda z: 0.5 + z, lambda z: z.flatten(1).square().sum(1), torch.zeros_like(x),
        steps=400,
    )  # fmt: skip
    misfit = problem.misfit(0.5 + chosen.z, torch.arange(1))
    assert bool(chosen.reached)
    assert 0.7 < float(misfit / noise_energy(problem)) <= 1 + 1e-4


@pytest.mark.parametrize("name", [*SCANS, *BLIND])
def test_scans_show_what_is_smooth(name):
    physics = (SCANS | BLIND)[name]
    assert shown(Problem.build(physics.A(smooth(64)), physics, None)) == (name in SCANS)


class Whole:
    """A prior of whole pictures, by what it says of itself."""

    shape = latent_shape = (1, 64, 64)
    noise_range, symmetries = (0.01, 0.4), ()

    def log_prob(self, x):
        raise AssertionError("to choose takes no density")


@pytest.mark.parametrize("name", [*SCANS, "projections", "fourier"])
def test_auto_goes_from_what_scans_show_and_searches_where_nothing_is(name):
    physics = (SCANS | BLIND)[name]
    chosen = method_for(physics.A(smooth(64)), physics, Whole())
    assert chosen == ("pnp" if name in SCANS else "map")
