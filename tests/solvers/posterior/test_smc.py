"""Tempered sequential Monte Carlo: draws, and evidence against closed forms."""

from __future__ import annotations

import math

import pytest
import torch

import innverse
from gaussian_prior import S, gaussian_prior
from innverse import physics
from innverse.errors import InnverseError, ShapeError, UsageError
from innverse.solvers import Evidence, evidence
from innverse.solvers.posterior.modes.constant import log_constant
from innverse.solvers.posterior.modes.particles import rise, systematic
from innverse.solvers.posterior.modes.setting import target_of
from innverse.solvers.problem import Problem

from .mixture import SHAPE as SMALL
from .mixture import TAU, WEIGHTS, Mixture, modes
from .test_hmc import SHAPE, Gaussian

# the Gaussians here leave [0, 1]
pytestmark = pytest.mark.filterwarnings("ignore::innverse.solvers.SolveWarning")


class Drawn(Gaussian):
    """The Gaussian with its normalising constant and a decoder: p(y) is known."""

    def log_prob(self, x):
        constant = self.root.diagonal().log().sum() + 8 * math.log(2 * math.pi)
        return super().log_prob(x) - constant

    def decode(self, z):
        return (self.mean + z.flatten(1) @ self.root.T).view(-1, *SHAPE)


def exact(prior: Gaussian, operator, y: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """log p(y) of items (B,), where A sees anything."""
    a = operator.A(torch.eye(16).double().view(16, *SHAPE)).flatten(1).T
    seen = a.abs().sum(1) > 0
    a, noise = a[seen], std.expand(y[:1].shape).flatten()[seen].square().diag()
    covariance = a @ prior.covariance @ a.T + noise
    law = torch.distributions.MultivariateNormal(a @ prior.mean, covariance)
    return law.log_prob(y.flatten(1)[:, seen])


def measured(operator, std, n: int = 1):
    g = torch.Generator().manual_seed(0)
    clean = operator.A(Drawn().sample(n, g))
    noise = std * torch.randn(clean.shape, generator=g, dtype=torch.float64)
    return operator.keep_measured(clean + noise)


def operators():
    g = torch.Generator().manual_seed(0)
    yield "inpainting", physics.Inpainting.random(SHAPE, 0.5, g)
    yield "large norm", physics.MatrixPhysics(20 * torch.randn(6, 16, generator=g).double(), SHAPE)
    yield "map of levels", physics.Denoising()


OPERATORS = dict(operators())
STD = {
    "inpainting": torch.tensor(0.2).double(),
    "large norm": torch.tensor(8.0).double(),  # on the scale of y
    "map of levels": torch.linspace(0.15, 0.5, 16).double().view(1, *SHAPE),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_evidence_of_a_gaussian_within_its_error(name):
    operator, std, prior = OPERATORS[name], STD[name], Drawn()
    y = measured(operator, std)
    noise = std if std.dim() else float(std)
    model = evidence(y, operator, prior, noise=noise, draws=256, seed=1)
    off = model.log_evidence - exact(prior, operator, y, std)
    assert (off.abs() < 3 * model.error).all() and (model.error < 0.4).all()
    assert model.reconstruction.converged.all(), model.reconstruction.status


def test_mean_and_spread_of_the_closed_form():
    operator, prior = OPERATORS["inpainting"], Drawn()
    y = measured(operator, 0.2)
    found = innverse.solve(y, operator, prior, "smc", noise=0.2, draws=1024)
    seen = operator.mask.flatten().double()
    covariance = torch.linalg.inv(prior.precision + (seen / 0.2**2).diag())
    mean = covariance @ (prior.precision @ prior.mean + (seen * y.flatten()) / 0.2**2)
    std = covariance.diagonal().sqrt()
    size = found.diagnostics["ess_bulk"].flatten()
    assert size.min() > 300 and found.converged.all(), found.status
    assert ((found.x.flatten() - mean) / std * size.sqrt()).abs().max() < 4
    assert (found.std.flatten() / std - 1).abs().max() < 0.15
    assert found.samples.shape == (1024, 1, *SHAPE) and found.method == "smc"
    temperatures = torch.tensor(found.diagnostics["temperatures"][0])
    assert (temperatures.diff() > 0).all() and temperatures[-1] == 1


def test_modes_weigh_what_they_should():
    """Of a flow on pictures of two kinds, where plain chains see one."""

    class Kinds(Mixture):
        def decode(self, z):  # of a mixture no map of normals: its first number chooses
            spread = (TAU**2 + self.c**2) ** 0.5
            dark = torch.special.ndtr(z[:, :1, :1, :1]) < WEIGHTS[0]
            # given the choice that number is normal again
            u = torch.special.ndtr(z[:, :1, :1, :1])
            again = torch.where(dark, u / WEIGHTS[0], (u - WEIGHTS[0]) / WEIGHTS[1])
            z = torch.cat((torch.special.ndtri(again), z.flatten(2)[:, :, None, 1:]), 3)
            return torch.where(dark, modes()[0], modes()[1]) + spread * z.view(-1, *SMALL)

        def at(self, c):
            return Kinds(c)

    mask = torch.ones(4, 4)
    mask[3] = 0
    physics_, s = physics.Inpainting(mask), 0.05
    g = torch.Generator().manual_seed(0)
    y = modes()[:1] + s * torch.randn(1, *SMALL, generator=g, dtype=torch.float64)
    y = mask * y
    model = evidence(y, physics_, Kinds(), noise=s, sigma=0.02, draws=512)
    bright = (model.reconstruction.samples[:, 0, 0, 3].mean(1) > 0.5).double().mean()
    assert abs(bright - WEIGHTS[1]) < 0.15
    std = (TAU**2 + 0.02**2 + s**2) ** 0.5
    log_p = torch.distributions.Normal(modes(), std).log_prob(y)
    want = (WEIGHTS.log() + (mask * log_p).flatten(1).sum(1)).logsumexp(0)
    assert abs(model.log_evidence - want) < 3 * model.error


def test_the_better_model_has_the_larger_evidence():
    """Priors and noise levels, each against the truth, with a flow of our own."""
    prior, side = gaussian_prior(), 8
    g = torch.Generator().manual_seed(0)
    x = 0.5 + (S**2 + 0.02**2) ** 0.5 * torch.randn(1, 1, side, side, generator=g)
    y = x + 0.2 * torch.randn(x.shape, generator=g)

    def exact_log_p(sigma, s):
        std = (S**2 + sigma**2 + s**2) ** 0.5
        return torch.distributions.Normal(0.5, std).log_prob(y).sum()

    models = {}
    for sigma, s in ((0.02, 0.2), (0.02, 0.6), (0.4, 0.2)):
        operator = physics.Denoising(noise=s)
        models[sigma, s] = evidence(y, operator, prior, sigma=sigma, draws=256, runs=4)
    for key, model in models.items():
        assert abs(model.log_evidence - exact_log_p(*key)) < 3 * model.error
        factor, error = models[0.02, 0.2].against(model)
        want = exact_log_p(0.02, 0.2) - exact_log_p(*key)
        assert abs(factor - want) < 3 * error and error == pytest.approx(
            float((models[0.02, 0.2].error ** 2 + model.error**2).sqrt())
        )


def test_photon_counts_have_probabilities():
    """One bright pixel that no other depends on: the sum over counts is 1."""
    gain, prior = 0.1, Drawn()
    prior.mean = prior.mean + 3
    operator = physics.Denoising(noise=physics.PoissonNoise(gain))
    y = operator(
        prior.sample(1, torch.Generator().manual_seed(2)), torch.Generator().manual_seed(3)
    )
    found = innverse.solve(y, operator, prior, "smc", draws=256)
    # by importance sampling from the posterior under noise that is taken as Gaussian
    counts, variance = (y / gain).flatten(), gain * y.flatten()
    covariance = torch.linalg.inv(prior.precision + (1 / variance).diag())
    mean = covariance @ (prior.precision @ prior.mean + y.flatten() / variance)
    law = torch.distributions.MultivariateNormal(mean, 1.3 * covariance)
    torch.manual_seed(0)
    u = law.sample((100_000,))
    poisson = torch.distributions.Poisson(u.clamp_min(1e-9) / gain).log_prob(counts).sum(1)
    log_w = prior.log_prob(u.view(-1, *SHAPE)) + poisson - law.log_prob(u)
    want = log_w.logsumexp(0) - math.log(len(u))
    known = found.diagnostics
    assert abs(known["log_evidence"] - want) < 3 * known["log_evidence_error"] + 0.05


@pytest.mark.slow
def test_calibration_of_the_error_of_the_evidence():
    operator, prior = OPERATORS["inpainting"], Drawn()
    y = measured(operator, 0.2)
    want = exact(prior, operator, y, STD["inpainting"])
    models = [
        evidence(y, operator, prior, noise=0.2, draws=128, runs=8, seed=seed) for seed in range(60)
    ]
    z = torch.cat([(m.log_evidence - want) / m.error for m in models])
    assert abs(z.mean()) < 0.5 and 0.6 < z.std() < 1.4


def test_weights_are_drawn_as_often_as_they_say():
    g = torch.Generator().manual_seed(0)
    weights = torch.rand(2, 7, generator=g).double()
    weights /= weights.sum(1, keepdim=True)
    offsets = (torch.arange(4000) + 0.5) / 4000
    counts = torch.zeros(2, 7).double()
    for offset in offsets:
        chosen = systematic(weights, offset.expand(2))
        each = torch.stack([torch.bincount(row, minlength=7) for row in chosen]).double()
        assert ((each - 7 * weights).abs() < 1).all()  # never off by a whole copy
        counts += each / 4000
    assert torch.allclose(counts, 7 * weights, atol=2e-3)


def test_temperatures_keep_what_was_asked():
    g = torch.Generator().manual_seed(0)
    log_p = 50 * torch.randn(3, 100, generator=g, dtype=torch.float64)
    dt = rise(log_p, 1.0, 0.6)
    effective = (1 / (dt * log_p).softmax(1).square().sum(1)).mean() / 100
    assert effective == pytest.approx(0.6, abs=1e-6)
    assert rise(log_p / 1e4, 0.3, 0.6) == 0.3
    log_p[:, :50] = -math.inf  # photons where there is no light
    dt = rise(log_p, 1.0, 0.6)
    effective = (1 / (dt * log_p).softmax(1).square().sum(1)).mean() / 100
    assert effective == pytest.approx(0.3, abs=1e-6)


def test_an_item_gets_the_same_alone_and_in_a_batch():
    operator, prior = OPERATORS["inpainting"], Drawn()
    y = measured(operator, 0.2, 3)
    few = {"noise": 0.2, "draws": 32, "runs": 2, "moves": 1, "steps": 3}
    together = innverse.solve(y, operator, prior, "smc", **few)
    alone = innverse.solve(y[1:2], operator, prior, "smc", **few)
    assert torch.allclose(together.samples[:, 1], alone.samples[:, 0], atol=1e-9)
    a, b = together.diagnostics["log_evidence"][1], alone.diagnostics["log_evidence"][0]
    assert a == pytest.approx(float(b))
    levels = evidence(y, operator, prior, **few | {"noise": torch.tensor([0.2, 0.3, 0.4])})
    assert levels.log_evidence.shape == (3,) and levels.log_evidence[0] == pytest.approx(
        float(together.diagnostics["log_evidence"][0])
    )


def test_runs_that_disagree_are_not_called_converged():
    y = measured(physics.Denoising(), 0.01)
    model = evidence(
        y, physics.Denoising(), Drawn(), noise=0.01, draws=16, runs=4, moves=1, steps=1
    )
    assert not model.reconstruction.converged.any()
    assert model.reconstruction.status[0].startswith("not converged:")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"noise": None}, "noise level"),
        ({"runs": 1}, "runs=1"),
        ({"draws": 16, "runs": 8}, "draws=16: give 8 runs"),
        ({"effective": 1.0}, "effective=1"),
        ({"moves": 0}, "moves=0"),
    ],
)
def test_what_makes_no_sense_is_one_line(options, words):
    y = measured(physics.Denoising(), 0.2)
    with pytest.raises(InnverseError, match=words) as caught:
        innverse.solve(y, physics.Denoising(), Drawn(), "smc", **({"noise": 0.2} | options))
    assert "\n" not in str(caught.value)


def test_the_probabilities_of_all_counts_of_a_ray_add_to_one():
    noise, counts = physics.TransmissionNoise(9.0, 0.5), torch.arange(40.0).double()
    y = noise.log(counts, torch.tensor(9.0).double()).view(-1, 1, 1, 1)
    problem = Problem.build(y, physics.Denoising(), None, noise=noise, image_shape=(1, 1, 1))
    log_p = target_of(problem, None, 1).log_likelihood(torch.full_like(y, 0.6))
    assert abs(float((log_p + log_constant(problem)).exp().sum()) - 1) < 1e-3


def test_a_density_without_draws_is_refused_and_items_must_match():
    class DensityOnly:
        def log_prob(self, x):
            return -x.square().flatten(1).sum(1)

    y = measured(physics.Denoising(), 0.2)
    with pytest.raises(UsageError, match="draws from the prior"):
        innverse.solve(y, physics.Denoising(), DensityOnly(), "smc", noise=0.2)
    one = Evidence(torch.zeros(1), torch.zeros(1), None)
    with pytest.raises(ShapeError, match="1 and 2 items"):
        one.against(Evidence(torch.zeros(2), torch.zeros(2), None))


@pytest.mark.parametrize(
    ("noise", "dy"),
    [
        (physics.GaussianNoise(0.2), 0.01),
        (physics.PoissonNoise(0.1), 0.1),
        (physics.PoissonGaussianNoise(0.1, 0.05), 0.01),
        (physics.PoissonGaussianNoise(0.01, 0.1), 0.01),  # too much noise to count photons
    ],
)
def test_the_probabilities_of_all_measurements_of_a_picture_add_to_one(noise, dy):
    """Likelihood and constant together are log p(y | u), of the pixel that is measured."""
    y = torch.zeros(420 if dy < 0.1 else 42, 1, 1, 2, dtype=torch.float64)
    y[:, 0, 0, 0] = torch.arange(len(y)) * dy - (1.2 if dy < 0.1 else 0)
    operator = physics.Inpainting(torch.tensor([[1.0, 0.0]]).double())
    problem = Problem.build(y, operator, None, noise=noise, image_shape=(1, 1, 2))
    target = target_of(problem, None, 1)
    log_p = target.log_likelihood(torch.full((len(y), 1, 1, 2), 0.6).double())
    each = (log_p + log_constant(problem)).exp()
    width = 1 if type(noise) is physics.PoissonNoise else dy
    assert abs(float(each.sum() * width) - 1) < 1e-3
