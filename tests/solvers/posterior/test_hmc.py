"""The sampler against closed forms, and its exact rank test."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from torch import Tensor

from innverse import physics
from innverse.metrics.calibration import SBC, counts_p, haar, holm, rank_test
from innverse.solvers.posterior.adapt import TARGET, DualAveraging
from innverse.solvers.posterior.few_data import FewData, gram_matrix
from innverse.solvers.posterior.frequencies import Frequencies, Pixels
from innverse.solvers.posterior.hmc import leapfrog, move
from innverse.solvers.posterior.latent import LatentTarget
from innverse.solvers.posterior.likelihood import log_of_count, poisson, poisson_gaussian
from innverse.solvers.posterior.masked import Masked
from innverse.solvers.posterior.metric import Flat, Metric
from innverse.solvers.posterior.prior_spectrum import Spread
from innverse.solvers.posterior.spectral import Basis, Spectral, diagonal
from innverse.solvers.posterior.target import Point, Target

from .levels import SHAPE, Levels

SIGMA = 0.3  # the largest curvature of the densities here is 1 / SIGMA^2


class Gaussian:
    """N(mean, K) on images, with K between SIGMA^2 and about 1; its own exact sampler."""

    shape = latent_shape = SHAPE

    def __init__(self):
        g = torch.Generator().manual_seed(3)
        root = torch.randn(16, 16, generator=g, dtype=torch.float64) / 6
        self.mean = torch.full((16,), 0.4, dtype=torch.float64)
        self.covariance = root @ root.T + SIGMA**2 * torch.eye(16, dtype=torch.float64)
        self.precision = torch.linalg.inv(self.covariance)
        self.root = torch.linalg.cholesky(self.covariance)

    def log_prob(self, x: Tensor) -> Tensor:
        d = x.flatten(1) - self.mean
        return -0.5 * (d @ self.precision * d).sum(1)

    def decode(self, z: Tensor) -> Tensor:
        return (self.mean + z.flatten(1) @ self.root.T).view(-1, *SHAPE)

    def encode(self, x: Tensor) -> Tensor:
        centred = (x.flatten(1) - self.mean).T
        return torch.linalg.solve_triangular(self.root, centred, upper=False).T.reshape(x.shape)

    def sample(self, n: int, g) -> Tensor:
        return self.decode(torch.randn(n, 16, generator=g, dtype=torch.float64))


def operators():
    g = torch.Generator().manual_seed(0)
    spread = 4 ** (torch.rand(SHAPE, generator=g).double() - 0.5)
    yield "inpainting", physics.Inpainting.random(SHAPE, 0.5, g)
    yield "denoising", physics.Denoising()
    yield "matrix", physics.MatrixPhysics(torch.randn(6, 16, generator=g).double() / 4, SHAPE)
    yield "blur", physics.Blur(physics.gaussian_kernel(1.0).double(), boundary="circular")
    mask = physics.cartesian_mask(SHAPE[1:], 2.0).double()
    yield "fourier", physics.SubsampledFourier(mask, image_shape=SHAPE)
    yield "noise per pixel", physics.Whitened(physics.Denoising(), spread.unsqueeze(0))


OPERATORS = dict(operators())


GAIN = 0.05


def photons(n: int, seed: int = 0):
    """Images drawn from the prior, some pixels negative, and the target given photon counts."""
    g = torch.Generator().manual_seed(seed)
    prior, operator = Gaussian(), physics.Denoising()
    u = prior.sample(n, g)
    y = physics.PoissonNoise(GAIN)(operator.A(u), g)
    level = torch.full((n,), (0.4 * GAIN) ** 0.5, dtype=torch.float64)
    target = Target(prior, operator, y, level, likelihood=poisson(y, GAIN))
    return u, target, Metric(target, torch.full((n,), SIGMA, dtype=torch.float64)), g


def problem(name: str, n: int, noise: float = 0.2, seed: int = 0):
    """Images drawn from the prior, and the target given their measurements."""
    g = torch.Generator().manual_seed(seed)
    prior, operator = Gaussian(), OPERATORS[name]
    u = prior.sample(n, g)
    clean = operator.A(u)
    y = clean + noise * torch.randn(clean.shape, generator=g, dtype=torch.float64)
    target = Target(prior, operator, y, torch.full((n,), noise, dtype=torch.float64))
    return u, target, Metric(target, torch.full((n,), SIGMA, dtype=torch.float64)), g


def matrix_of(f, n: int) -> Tensor:
    return torch.stack([f(e) for e in torch.eye(n, dtype=torch.float64)], 1)


@pytest.mark.parametrize("name", OPERATORS)
def test_metric_is_what_it_says(name):
    _, target, metric, _ = problem(name, 1)
    a = matrix_of(lambda e: target.physics.A(e.view(1, *SHAPE)).flatten(), 16)
    m = a.T @ a / 0.2**2 + torch.eye(16, dtype=torch.float64) / SIGMA**2
    inverse = matrix_of(lambda e: metric.velocity(e.view(1, *SHAPE)).flatten(), 16)
    assert torch.allclose(inverse @ m, torch.eye(16, dtype=torch.float64), atol=1e-6)
    # momenta are linear in two normal draws: their covariance is L L^T
    of_data, of_image = target.y[:1] * 0, torch.zeros(1, *SHAPE, dtype=torch.float64)

    def from_data(e):
        return metric.momenta(e.view_as(of_data), of_image).flatten()

    def from_image(e):
        return metric.momenta(of_data, e.view_as(of_image)).flatten()

    root = torch.cat((matrix_of(from_data, of_data.numel()), matrix_of(from_image, 16)), 1)
    assert torch.allclose(root @ root.T, m, rtol=1e-9)


def test_leapfrog_is_reversible_keeps_volume_and_energy():
    u, target, metric, g = problem("inpainting", 3)
    p = torch.randn(u.shape, generator=g, dtype=torch.float64)
    step = torch.full((3,), 0.1, dtype=torch.float64)
    start = target.at(u)
    end, q = leapfrog(target, metric, start, p, step, 7)
    back, minus_p = leapfrog(target, metric, end, -q, step, 7)
    assert torch.allclose(back.u, u, atol=1e-9) and torch.allclose(-minus_p, p, atol=1e-9)

    def error(size, n):
        end, q = leapfrog(target, metric, start, p, size * torch.ones_like(step), n)
        return (metric.kinetic(q) - end.log_p - metric.kinetic(p) + start.log_p).abs().max()

    assert error(0.05, 20) < 0.35 * error(0.1, 10)  # second order

    def both(v):
        x, p = v.view(2, 1, *SHAPE)
        one = Target(target.density, target.physics, target.y[:1], target.noise[:1])
        end, q = leapfrog(one, Metric(one, metric.scale[:1]), one.at(x), p, step[:1], 2)
        return torch.cat((end.u.flatten(), q.flatten()))

    at = torch.cat((u[:1].flatten(), p[:1].flatten()))
    columns = [(both(at + 1e-4 * e) - both(at - 1e-4 * e)) / 2e-4 for e in torch.eye(32).double()]
    assert torch.linalg.det(torch.stack(columns, 1)).abs().item() == pytest.approx(1, abs=1e-5)


def test_posterior_of_a_gaussian():
    name, chains = "matrix", 400
    u, one, _, g = problem(name, 1)
    prior, s = one.density, 0.2
    target = Target(
        prior, one.physics, one.y.expand(chains, -1), torch.full((chains,), s, dtype=torch.float64)
    )
    metric = Metric(target, torch.full((chains,), SIGMA, dtype=torch.float64))
    a = one.physics.A(torch.eye(16, dtype=torch.float64).view(16, *SHAPE)).T
    precision = prior.precision + a.T @ a / s**2
    covariance = torch.linalg.inv(precision)
    mean = prior.mean + covariance @ a.T @ (one.y[0] - a @ prior.mean) / s**2
    point, draws = target.at(u.expand(chains, -1, -1, -1).clone()), []
    for k in range(40):
        e = torch.randn(target.y.shape, generator=g, dtype=torch.float64)
        p = metric.momenta(e, torch.randn(point.u.shape, generator=g, dtype=torch.float64))
        uniform = torch.rand(chains, generator=g, dtype=torch.float64)
        step = torch.full((chains,), 0.35, dtype=torch.float64)
        point = move(target, metric, point, p, uniform, step, 6 + k % 5).point
        if k >= 20:
            draws.append(point.u.flatten(1))
    draws = torch.cat(draws)
    # chains are independent of each other: their number bounds the error
    z = (draws.mean(0) - mean) / (covariance.diagonal() / chains).sqrt()
    assert z.abs().max() < 3.5
    ratio = draws.var(0) / covariance.diagonal()
    assert (ratio - 1).abs().max() < 4 * math.sqrt(2 / chains)


def ranks(name: str, mutant: str | None = None, replicates: int = 2000, length: int = 12) -> SBC:
    """The exact rank test of the transitions: u from the prior, y from u, chains that start at u."""
    made = MADE.get(name, functools.partial(problem, name))
    start, target, metric, g = made(replicates, seed=11)
    step = torch.full((replicates,), 0.5 if mutant != "accepts" else 1.2, dtype=torch.float64)

    def transition(point: Point) -> Point:
        e = torch.randn(target.y.shape, generator=g, dtype=torch.float64)
        p = torch.randn(start.shape, generator=g, dtype=torch.float64)
        p = p if mutant == "momenta" else metric.momenta(e, p)
        uniform = torch.rand(replicates, generator=g, dtype=torch.float64)
        uniform = uniform * (mutant != "accepts")
        return move(target, metric, point, p, uniform, step, 5).point

    def quantities(point: Point) -> Tensor:
        u = target.images(point.u)
        rough = (u[..., 1:] - u[..., :-1]).square().flatten(1).sum(1)
        mean, pixel, coefficient = u.mean((1, 2, 3)), u[:, 0, 1, 2], haar(u)[:, 5]
        log_p, likelihood = target.density.log_prob(u), target.likelihood(u)
        return torch.stack(
            (mean, pixel, coefficient, rough, u.flatten(1).std(1), log_p, likelihood), 1
        )

    return rank_test(target.at(start), transition, quantities, length=length)


def smallest_p(found: SBC) -> float:
    return float(holm(counts_p(found.ranks, found.draws, bins=6)).min())


def with_metric(operator, make, n: int, seed: int = 0):
    """As `problem`, in the metric that ``make`` gives for the target."""
    u, _, _, g = problem("denoising", n, seed=seed)
    clean = operator.A(u)
    y = clean + 0.2 * torch.randn(clean.shape, generator=g, dtype=torch.float64)
    target = Target(Gaussian(), operator, y, torch.full((n,), 0.2, dtype=torch.float64))
    return u, target, make(target, torch.full((n,), SIGMA, dtype=torch.float64)), g


J = torch.tensor([[0.2, 0.5, 1.0], [0.5, 0.6, 0.9], [1.0, 0.8, 0.9], [0.5, 0.6, 0.9]])
J = J[None].double()
SPREAD = Spread(Frequencies(), J)


def images(scale: Tensor) -> Tensor:
    return torch.zeros(len(scale), *SHAPE, dtype=torch.float64)


def spectral(
    target: Target, scale: Tensor, basis: Basis = SPREAD.basis, j: Tensor | float = 1.0
) -> Spectral:
    return Spectral(target, scale, diagonal(target, images(scale), basis), basis, j)


def masked(target: Target, scale: Tensor) -> Masked:
    return Masked(target, scale, SPREAD, images(scale))


def few_data(target: Target, scale: Tensor, spread: Spread | None = None) -> FewData:
    physics = getattr(target.physics, "physics", target.physics)  # without weights of items
    between = spread or Spread()
    return FewData(target, scale, gram_matrix(physics, target.y[:1], between), spread)


def latent(n: int, seed: int = 0):
    g, prior = torch.Generator().manual_seed(seed), Levels(SIGMA)
    z = torch.randn(n, *SHAPE, generator=g, dtype=torch.float64)
    clean = OPERATORS["inpainting"].A(prior.decode(z))
    y = clean + 0.4 * torch.randn(clean.shape, generator=g, dtype=torch.float64)
    noise = torch.full((n,), 0.4, dtype=torch.float64)
    return z, LatentTarget(prior, OPERATORS["inpainting"], y, noise), Flat(), g


def saturated(n: int, seed: int = 0):
    """An operator that is not linear, in the metric of its derivative elsewhere."""
    bent = physics.Nonlinear(lambda x: torch.tanh(2 * x), SHAPE)
    grey = torch.full((n, *SHAPE), 0.4, dtype=torch.float64)

    def metric(target: Target, scale: Tensor) -> Spectral:
        derivative = Target(target.density, bent.at(grey), target.y, target.noise)
        return spectral(derivative, scale, Pixels())

    return with_metric(bent, metric, n, seed)


KERNEL = torch.tensor([[0.1, 0.2, 0.0], [0.3, 0.2, 0.1], [0.0, 0.1, 0.0]]).double()
BLUR = physics.Blur(KERNEL, "reflect", image_shape=SHAPE)
MADE = {
    "photons": photons,
    "blur in frequencies": functools.partial(with_metric, BLUR, spectral),
    "few data": functools.partial(with_metric, OPERATORS["matrix"], few_data),
    "few data, by frequency": functools.partial(
        with_metric,
        OPERATORS["matrix"],
        functools.partial(few_data, spread=SPREAD),
    ),
    "blur, by frequency": functools.partial(with_metric, BLUR, functools.partial(spectral, j=J)),
    "a mask, by frequency": functools.partial(with_metric, OPERATORS["inpainting"], masked),
    "latent space": latent,
    "not linear": saturated,
}


@pytest.mark.parametrize("name", [*OPERATORS, *MADE])
def test_sbc_exact_ranks_are_uniform(name):
    found = ranks(name)
    assert smallest_p(found) > 0.01
    assert found.inside(1 - 0.01 / 7).all()


@pytest.mark.parametrize("mutant", ["accepts", "momenta"])
def test_sbc_a_wrong_sampler_is_found_out(mutant):
    found = ranks("inpainting", mutant)
    assert smallest_p(found) < 1e-4 and not found.inside(1 - 0.01 / 7).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", [*OPERATORS, *MADE])
def test_sbc_exact_ranks_are_uniform_in_many_replicates(name):
    assert smallest_p(ranks(name, replicates=20_000, length=24)) > 0.01


def test_dual_averaging_reaches_its_target_item_by_item():
    scale = torch.tensor([1.0, 5.0])
    adapt = DualAveraging(torch.full((2,), 0.1))
    for _ in range(400):
        adapt.update((-adapt.step / scale).exp())  # acceptance falls with the step
    assert torch.allclose(adapt.final, -scale * math.log(TARGET), rtol=0.1)


def test_photons_have_their_own_likelihood():
    u, target, _, _ = photons(50)
    rate = (u.clamp_min(0) / GAIN).flatten(1)
    counts = (target.y / GAIN).flatten(1)
    log_p = torch.distributions.Poisson(rate, validate_args=False).log_prob(counts)
    want = (log_p - log_of_count(counts)).sum(1)
    assert torch.allclose(target.log_likelihood(u), want)
    assert (u < 0).any() and torch.isfinite(target.at(u).gradient).all()
    dark = torch.where(counts.view_as(u) > 0, -0.1, u)
    assert torch.isinf(target.log_likelihood(dark)).all()


@pytest.mark.parametrize("noise", ["counts", "counts and reading", "transmission"])
def test_many_photons_are_told_apart_in_single_precision(noise):
    """A tenth of a nat between neighbours, where the sums of counts are 10^9."""
    g, gain = torch.Generator().manual_seed(0), 1e-5
    u = 0.3 + 0.4 * torch.rand(1, 1, 64, 64, generator=g, dtype=torch.float64)
    near = u + 1e-4 * torch.randn(u.shape, generator=g, dtype=torch.float64)

    def difference(dtype):
        y = u.to(dtype)
        if noise == "transmission":
            model = physics.TransmissionNoise(1 / gain, 0.7)
            return (model.log_likelihood(near.to(dtype), y) - model.log_likelihood(y, y)).double()
        if noise == "counts":
            likelihood = poisson(y, gain)
        else:
            likelihood = poisson_gaussian(y, gain, 2 * gain)
        return (likelihood(near.to(dtype)) - likelihood(y)).double()

    assert torch.allclose(difference(torch.float32), difference(torch.float64), atol=0.1)


@pytest.mark.parametrize("sigma", [0.02, 0.3, 2.0])
def test_photons_read_with_noise_have_the_likelihood_of_both(sigma):
    """The sum over all counts, for noise that shows single photons and for noise that hides them."""
    u, _, _, g = photons(20)
    u = u[u.flatten(1).amin(1) > 0.02].clone()
    y = u + sigma * torch.randn(u.shape, generator=g, dtype=torch.float64)
    k = torch.arange(400, dtype=torch.float64)
    rate = (u / GAIN)[..., None]
    log_p = torch.distributions.Poisson(rate).log_prob(k)
    log_p = log_p + torch.distributions.Normal(GAIN * k, sigma).log_prob(y[..., None])
    want = log_p.logsumexp(-1).flatten(1).sum(1)
    found = poisson_gaussian(y, GAIN, sigma)(u)
    offset = want - found  # constants of y alone are left out: the same for other images
    v = 0.5 * u + 0.1
    rate = (v / GAIN)[..., None]
    log_p = torch.distributions.Poisson(rate).log_prob(k)
    log_p = log_p + torch.distributions.Normal(GAIN * k, sigma).log_prob(y[..., None])
    other = log_p.logsumexp(-1).flatten(1).sum(1)
    close = poisson_gaussian(y, GAIN, sigma)(v)
    assert torch.allclose(other - close, offset, rtol=1e-3, atol=1e-6 if sigma < 1 else 0.02)
