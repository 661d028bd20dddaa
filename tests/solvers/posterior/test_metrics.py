"""Metrics: what momenta are drawn from is what velocities invert, for every kind of operator."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from gaussian_prior import Plain, gaussian_prior
from gaussian_prior import S as WIDTH
from innverse import physics
from innverse.bijections import Bijection
from innverse.flows import Flow
from innverse.solvers.each_channel import EachChannel
from innverse.solvers.posterior.adapt import ROUND, Lengths
from innverse.solvers.posterior.choose_metric import metric_for
from innverse.solvers.posterior.conditioning import condition, curvatures, ritz
from innverse.solvers.posterior.few_data import FewData
from innverse.solvers.posterior.frequencies import (
    ComplexFrequencies,
    Frequencies,
    Pixels,
    whole_plane,
)
from innverse.solvers.posterior.hmc import leapfrog, move
from innverse.solvers.posterior.masked import Masked
from innverse.solvers.posterior.metric import Flat, Metric
from innverse.solvers.posterior.prior_spectrum import Spread, prior_spectrum
from innverse.solvers.posterior.randomness import Streams
from innverse.solvers.posterior.spectral import Spectral
from innverse.solvers.posterior.start import apart
from innverse.solvers.posterior.target import Target

from .levels import SHAPE
from .test_hmc import (
    SIGMA,
    SPREAD,
    Gaussian,
    J,
    few_data,
    masked,
    matrix_of,
    problem,
    spectral,
)

S = 0.2


def operators():
    g = torch.Generator().manual_seed(0)
    mask = (torch.rand(4, 4, generator=g) > 0.5).double()
    kernel = torch.tensor([[0.1, 0.2, 0.0], [0.3, 0.2, 0.1], [0.0, 0.1, 0.0]]).double()
    yield "inpainting", physics.Inpainting(mask)
    yield "blur", physics.Blur(kernel, "reflect", image_shape=SHAPE)
    scanner = physics.Tomography(SHAPE, angles=3)
    yield "tomography", scanner
    shape = scanner.A(torch.zeros(2, *SHAPE)).shape
    yield "weighted", physics.Whitened(scanner, 0.2 + torch.rand(shape, generator=g).double())
    yield "matrix", physics.MatrixPhysics(torch.randn(6, 16, generator=g).double() / 4, SHAPE)
    yield "a mask by functions", physics.as_physics((lambda x: mask * x, lambda y: mask * y), SHAPE)


OPERATORS = dict(operators())


def target_of(operator, n: int = 2) -> Target:
    y = torch.zeros_like(operator.A(torch.zeros(n, *SHAPE, dtype=torch.float64)))
    return Target(Gaussian(), operator, y, torch.full((n,), S, dtype=torch.float64))


def scales(n: int = 2) -> Tensor:
    return torch.full((n,), SIGMA, dtype=torch.float64)


def kinds(operator):
    target, like = target_of(operator), torch.zeros(2, *SHAPE, dtype=torch.float64)
    yield metric_for(target, like)(target, scales())
    for basis in (SPREAD.basis, Pixels()):
        yield spectral(target, scales(), basis)
    yield spectral(target, scales(), j=J)
    yield few_data(target, scales(), SPREAD)
    if operator.is_diagonal:
        yield masked(target, scales())
    yield Metric(target, scales())


@pytest.mark.parametrize("name", OPERATORS)
def test_momenta_and_velocities_belong_together(name):
    operator = OPERATORS[name]
    target = target_of(operator)
    no_data = torch.zeros_like(target.y)
    no_image = torch.zeros(2, *SHAPE, dtype=torch.float64)
    for metric in kinds(operator):

        def from_data(e, metric=metric):
            return metric.momenta(e.expand(2, -1).reshape(no_data.shape), no_image)[0].flatten()

        def from_image(e, metric=metric):
            return metric.momenta(no_data, e.view(1, *SHAPE).expand(2, -1, -1, -1))[0].flatten()

        def velocity(e, metric=metric):
            return metric.velocity(e.view(1, *SHAPE).expand(2, -1, -1, -1))[0].flatten()

        root = torch.cat((matrix_of(from_data, no_data[0].numel()), matrix_of(from_image, 16)), 1)
        inverse = matrix_of(velocity, 16)
        product = inverse @ root @ root.T
        assert torch.allclose(product, torch.eye(16, dtype=torch.float64), atol=2e-5), metric
        p = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(1)).double()
        first = p[0].flatten()  # items may have weights of their own
        assert torch.allclose(metric.kinetic(p)[0], 0.5 * first @ inverse @ first, rtol=1e-5)


def test_few_data_and_closed_forms_are_the_metric_itself():
    for name in ("matrix", "weighted"):
        assert isinstance(next(kinds(OPERATORS[name])), FewData)
    assert type(next(kinds(OPERATORS["inpainting"]))) is Metric
    p = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(1)).double()
    for name in ("matrix", "tomography", "weighted", "blur"):
        target = target_of(OPERATORS[name])
        chosen, exact = next(kinds(OPERATORS[name])), Metric(target, scales())
        assert torch.allclose(chosen.velocity(p), exact.velocity(p), rtol=1e-4, atol=1e-7)


def test_few_data_know_the_curvature_of_the_prior_by_frequency():
    target, p = target_of(OPERATORS["matrix"]), torch.randn(2, *SHAPE).double()
    a = matrix_of(lambda e: target.physics.A(e.view(1, *SHAPE)).flatten(), 16)
    prior = matrix_of(lambda e: SPREAD.to_the(-1, e.view(1, *SHAPE)).flatten(), 16)
    want = torch.linalg.solve(a.T @ a / S**2 + prior / SIGMA**2, p.flatten(1).T).T
    found = few_data(target, scales(), SPREAD).velocity(p)
    assert torch.allclose(found.flatten(1), want, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("size", [(16, 12), (64, 64), (90, 135)])
def test_curvature_of_the_prior_by_frequency(size):
    prior, like = gaussian_prior(), torch.zeros(2, 1, *size)
    spectrum = prior_spectrum(prior.at(0.4), like)
    for level in (0.4, 0.1):  # measured at the first
        j = spectrum.at(level)
        assert j.shape == (1, size[0], size[1] // 2 + 1)
        want = level**2 / (level**2 + WIDTH**2)  # that of N(0, level^2) alone is 1
        assert float(j.median()) == pytest.approx(want, rel=0.1)
        assert (j / want - 1).abs().max() < 3  # of 16 draws, and 9 frequencies
        # as of a real operator: opposite frequencies are alike
        assert torch.allclose(j[:, 1:, 0], j[:, 1:, 0].flip(1), rtol=1e-4)
    assert prior_spectrum(gaussian_prior(noise_conditional=False), like) is None
    assert prior_spectrum(prior.at(torch.tensor([[0.1], [0.2]])), like) is None


COLOURS = torch.tensor([[1.0, 1.0, 1.0], [1.0, -1.0, 0.0], [1.0, 1.0, -2.0]])
COLOURS = COLOURS / COLOURS.norm(dim=1, keepdim=True)


class Natural(Bijection):
    """A normal law whose first channel varies slowly, as brightness does, and others hardly at all."""

    def __init__(self, shape: tuple[int, int, int]):
        super().__init__()
        channels, height, width = shape
        f = torch.fft.fftfreq(height)[:, None].square() + torch.fft.rfftfreq(width).square()
        self.power = torch.zeros(channels, *f.shape)
        self.power[0] = 1 / (1 + f / 0.05**2) ** 1.5
        self.basis = Frequencies(COLOURS if channels == 3 else None)

    def forward(self, x, c=None):
        root = (c[0, 0] ** 2 + self.power).sqrt()
        log_det = -(root.log().sum((1, 2)) - 0.5 * root[..., [0, -1]].log().sum((1, 2))).sum()
        return self.basis.filtered(x, 1 / root), 2 * log_det.expand(len(x))

    def inverse(self, z, c=None):
        root = (c[0, 0] ** 2 + self.power).sqrt()
        return self.basis.filtered(z, root), None


def natural(shape: tuple[int, int, int]) -> Flow:
    flow = Flow(Natural(shape), shape)
    flow.noise = Plain()
    flow.register_parameter("nothing", torch.nn.Parameter(torch.zeros(1), requires_grad=False))
    return flow.eval()


def test_images_vary_where_their_channels_and_frequencies_do():
    prior = natural((3, 16, 16)).at(0.1)
    spectrum = prior_spectrum(prior, torch.zeros(1, 3, 16, 16))
    j, brightness = spectrum.at(0.1), spectrum.basis.channels[0]  # of least curvature first
    assert (brightness.abs() * 3**0.5 - 1).abs().max() < 0.1
    want = 0.1**2 / (0.1**2 + prior.flow.bijection.power[0])
    assert float(j[1:].mean()) > 0.85
    assert (j[0].log() - want.log()).abs().mean() < 0.5
    assert j[0, :2, :2].mean() < 0.2 * j[0, 6:10, 6:].mean()


def test_a_prior_of_every_channel_has_the_spectrum_of_one():
    prior, like = gaussian_prior(), torch.zeros(2, 1, 8, 8)
    one = prior_spectrum(prior.at(0.4), like)
    two = prior_spectrum(EachChannel(prior, 2).at(0.4), like.expand(-1, 2, -1, -1))
    assert torch.equal(two.at(0.4), one.at(0.4).expand(2, -1, -1))


def test_few_data_take_the_curvature_of_the_prior_at_each_level():
    prior, like = gaussian_prior(), torch.zeros(2, 1, 8, 8)
    operator = physics.MatrixPhysics(torch.eye(6, 64), (1, 8, 8))
    y, s = torch.zeros(2, 6), torch.full((2,), S)
    make = metric_for(Target(prior.at(0.4), operator, y, s), like)
    for level in (0.4, 0.1):
        metric = make(Target(prior.at(level), operator, y, s), torch.full((2,), level))
        want = level**2 / (level**2 + WIDTH**2)
        assert float(metric.spread.j.median()) == pytest.approx(want, rel=0.2)


@pytest.mark.parametrize("size", [(6, 8), (5, 7)])
def test_frequencies_of_real_and_of_complex_images(size):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(2, 4, *size, generator=g).double()
    basis = ComplexFrequencies()
    z = basis.to(x)
    assert torch.allclose(basis.back(z, x), x) and torch.allclose(z.norm(), x.norm())
    f = torch.fft.fftfreq(size[0])[:, None].square() + torch.fft.rfftfreq(size[1]).square()
    weights = (1 + f).double()
    whole = whole_plane(weights, size[1])
    want = torch.fft.fftfreq(size[0])[:, None].square() + torch.fft.fftfreq(size[1]).square()
    assert torch.allclose(whole, 1 + want.double())
    assert torch.allclose(basis.back(whole * z, x), Frequencies().filtered(x, weights))


def masks():
    g = torch.Generator().manual_seed(0)
    kept, shape = (torch.rand(32, 32, generator=g) > 0.7).float(), (2, 32, 32)
    yield "denoising", physics.Denoising(), True
    yield "half the pixels", physics.Inpainting.random((1, 32, 32), 0.5, g), False
    yield "a blur", physics.Blur(physics.gaussian_kernel(1.0)), True
    yield "k-space", physics.SubsampledFourier(kept), True
    yield "complex", physics.SubsampledFourier(kept, complex_image=True, image_shape=shape), True


@pytest.mark.parametrize(("name", "operator", "exact"), [*masks()])
def test_closed_forms_know_the_curvature_of_the_prior(name, operator, exact):
    """M itself where one basis serves both, else nearer to it than without the prior's spectrum."""
    prior = natural((1, 32, 32))
    prior = EachChannel(prior, 2) if name == "complex" else prior
    like = torch.zeros(1, prior.shape[0], 32, 32, dtype=torch.float64)
    for level, noise in ((0.02, 0.1), (0.05, 0.05), (0.05, 0.01)):
        scale, s = (torch.full((1,), v, dtype=torch.float64) for v in (level, noise))
        target = Target(prior.at(level), operator, operator.A(like), s)
        metric, plain = metric_for(target, like)(target, scale), Metric(target, scale)
        spread = Spread.at(target.density, prior_spectrum(target.density, like))

        def curvature(v, s=s, level=level, spread=spread):
            return operator.A_normal(v) / s**2 + spread.to_the(-1, v) / level**2

        p = torch.randn(like.shape, generator=torch.Generator().manual_seed(1)).double()
        conditions = []
        for m in (metric, plain):
            values = ritz(curvature, m, p)
            conditions.append(float(values.max() / values.min()))
        assert conditions[0] < (1.01 if exact else conditions[1]), (level, noise, conditions)
        assert not exact or isinstance(metric, (Spectral, Masked))
        if noise >= level:
            assert conditions[0] < 0.6 * conditions[1], (level, noise, conditions)


def test_many_data_take_a_diagonal_that_is_near(monkeypatch):
    monkeypatch.setattr("innverse.solvers.posterior.few_data._MOST_DATA", 0)
    like = torch.zeros(2, *SHAPE, dtype=torch.float64)
    for name in ("blur", "a mask by functions"):
        target = target_of(OPERATORS[name])
        chosen = metric_for(target, like)(target, scales())
        assert isinstance(chosen, Spectral), name
    p = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(1)).double()
    exact = Metric(target, scales())  # of the mask, which is diagonal in pixels
    assert torch.allclose(chosen.velocity(p), exact.velocity(p), rtol=1e-5)


def test_curvature_in_the_metric_is_measured():
    _, target, metric, g = problem("inpainting", 1)
    m = torch.linalg.inv(matrix_of(lambda e: metric.velocity(e.view(1, *SHAPE)).flatten(), 16))
    mask = target.physics.mask.flatten().double()
    h = target.density.precision + (mask / 0.2**2).diag()
    want = torch.linalg.eigvals(torch.linalg.solve(m, h)).real
    p = torch.randn(1, *SHAPE, generator=g, dtype=torch.float64)
    found = curvatures(target, metric, target.density.sample(1, g), p)[0]
    assert torch.allclose(found, torch.stack((want.min(), want.max())), rtol=1e-2)
    assert condition(torch.tensor([[0.1, 2.0]]), torch.tensor([3 * ROUND])) == pytest.approx(18.0)


class Wide:
    """N(0, width^2 I), one width for each chain."""

    def __init__(self, width: Tensor):
        self.width = width

    def log_prob(self, x: Tensor) -> Tensor:
        return -0.5 * (x.flatten(1) / self.width[:, None]).square().sum(1)


def test_trajectories_end_where_more_would_not_pay():
    width = torch.tensor([1.0, 5.0], dtype=torch.float64)
    y = torch.zeros(2, 1, 8, 8, dtype=torch.float64)
    target = Target(Wide(width), physics.Denoising(), y, torch.ones(2), likelihood=lambda u: 0)
    g, flat = torch.Generator().manual_seed(0), Flat()
    lengths, step = Lengths(torch.full((2,), 0.5, dtype=torch.float64)), 0.2 * width
    point = target.at(width.view(-1, 1, 1, 1) * torch.randn(y.shape, generator=g).double())
    for _ in range(150):
        n = (lengths.time / step).round().clamp(1, 60).long()
        p = flat.momenta(y, torch.randn(y.shape, generator=g).double())
        result = move(target, flat, point, p, torch.zeros(2).double(), step, n)
        point = result.point
        lengths.update(n * step, result.distance, result.growth)
    assert torch.allclose(lengths.final, ROUND * width, rtol=0.1)


def test_chains_whose_trajectory_is_over_stand_still():
    u, target, metric, g = problem("inpainting", 3)
    p = torch.randn(u.shape, generator=g, dtype=torch.float64)
    step, n = torch.full((3,), 0.1, dtype=torch.float64), torch.tensor([2, 5, 0])
    end, q = leapfrog(target, metric, target.at(u), p, step, n)
    assert torch.equal(end.u[2], u[2]) and torch.equal(q[2], p[2])
    for i in (0, 1):
        alone, r = leapfrog(target, metric, target.at(u), p, step, int(n[i]))
        assert torch.allclose(end.u[i], alone.u[i], atol=1e-12) and torch.allclose(q[i], r[i])


@pytest.mark.parametrize("name", OPERATORS)
def test_chains_begin_within_the_noise_of_the_data(name):
    """Not sigma0 apart along what is measured, from where the noise is 1e-4 energies of 1e6 fall."""
    operator, noise, energy = OPERATORS[name], 1e-4, []
    target = target_of(operator)
    target.noise = torch.full((2,), noise, dtype=torch.float64)
    like = torch.zeros(2, *SHAPE, dtype=torch.float64)
    metric = metric_for(target, like)(target, scales())
    for seed in range(32):
        moved = apart(metric, Streams(target.y[:1], 2, seed), target.y, like)
        of_data = (operator.A(moved) / noise).square().flatten(1).sum(1)
        energy.append(of_data + (moved / SIGMA).square().flatten(1).sum(1))
    energy = torch.stack(energy)  # chi^2 of 16 pixels
    assert 12 < energy.mean() < 20 and energy.max() < 60
