"""The reference of benchmarks/levy and its sampler, against closed forms and by calibration."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
import torch

from innverse.bijections import Autoregressive, Diagonal, RationalQuadraticSpline
from innverse.metrics.calibration import kolmogorov_p

FOLDER = Path(__file__).parents[1] / "benchmarks"
if not (FOLDER / "levy").is_dir():  # an installed package without its sources
    pytest.skip("benchmarks are not here", allow_module_level=True)
sys.path.append(str(FOLDER))

from levy import gibbs, priors, sampler, study  # noqa: E402
from levy.laws import LAWS, Gaussian  # noqa: E402
from levy.operators import cumulative, noise_level, operators  # noqa: E402

LENGTH = 16


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def measured(law, a, n: int, noise: float):
    u = law.sample((n, a.shape[1]))
    clean = u.cumsum(1) @ a.T
    return u, clean + noise * torch.randn_like(clean)


@pytest.mark.parametrize("name", LAWS)
def test_laws_are_mixtures_of_normals(name):
    law = LAWS[name]
    grid = torch.linspace(-14, 14, 200_001, dtype=torch.float64).sinh()
    assert torch.trapezoid(law.log_density(grid).exp(), grid) == pytest.approx(1, abs=1e-4)
    n = 4000
    z = law.variance(torch.empty(n, dtype=torch.float64))
    u = z.sqrt() * torch.randn_like(z)
    # the probability of the interval (-1, 1)
    inside = (u.abs() < 1).double().mean()
    fine = grid[grid.abs() < 1]
    want = torch.trapezoid(law.log_density(fine).exp(), fine)
    assert abs(inside - want) < 4 * math.sqrt(0.25 / n)
    # (z, u) and (z', u), z' drawn given u, have the same law: so has |u| / sqrt(z), a normal's
    again = law.variance_given(u)
    normal = torch.distributions.Normal(0.0, 1.0)
    assert kolmogorov_p(normal.cdf(u / again.sqrt())) > 1e-3
    if name != "gaussian":
        both = torch.cat((z, again)).argsort().argsort()[n:]  # ranks of z' among all
        assert kolmogorov_p((both + 0.5) / (2 * n)) > 1e-3


@pytest.mark.parametrize("name", operators())
def test_gibbs_of_the_gaussian_is_the_closed_form(name):
    law, a, noise, n = Gaussian(), operators(LENGTH)[name], 0.3, 4000
    _, y = measured(law, a, 1, noise)
    h = a @ cumulative(LENGTH)
    precision = h.T @ h / noise**2 + torch.eye(LENGTH).double() / 0.25
    covariance = torch.linalg.inv(precision)
    mean = covariance @ h.T @ y[0] / noise**2
    chain = gibbs.Gibbs(law, a, y.expand(n, -1), noise)
    for _ in range(2):
        chain.sweep()
        assert torch.allclose(chain.mean, mean.expand(n, -1), atol=1e-9)
    root = torch.linalg.cholesky(precision)
    white = (chain.u - mean) @ root
    assert white.mean(0).abs().max() < 4.5 / math.sqrt(n)
    found = white.T @ white / n - torch.eye(LENGTH)
    assert found.abs().max() < 4.5 * math.sqrt(2 / n)
    # log_p is the log-density, up to one constant
    other = chain.log_p(chain.u) + 0.5 * white.square().sum(1)
    assert other.std() < 1e-8


def ranks_of_gibbs(name: str, operator: str, monkeypatch=None, n: int = 400) -> list[float]:
    """p-values of the ranks of the truth among nearly independent draws."""
    law, a, noise = LAWS[name], operators(LENGTH)[operator], 0.4
    u, y = measured(law, a, n, noise)
    chain = gibbs.Gibbs(law, a, y, noise)
    for _ in range(20):
        chain.sweep()

    def statistics(u):
        x = u.cumsum(1)
        return torch.stack((u[:, 0], x[:, LENGTH // 2], x.mean(1), u.abs().amax(1), chain.log_p(u)))

    draws = []
    for _ in range(19):
        for _ in range(4):
            chain.sweep()
        draws.append(statistics(chain.u))
    at, draws = statistics(u), torch.stack(draws)
    below, same = (draws < at).sum(0), (draws == at).sum(0)
    place = below + torch.rand(at.shape).double() * (same + 1)
    return [kolmogorov_p(row / 20) for row in place]


@pytest.mark.parametrize("operator", ["deconvolution", "imputation"])
@pytest.mark.parametrize("name", ["laplace", "bernoulli-laplace", "student-2", "cauchy"])
def test_sbc_of_gibbs(name, operator):
    assert min(ranks_of_gibbs(name, operator)) > 0.05 / 40


def test_sbc_finds_exchanges_that_ignore_the_data(monkeypatch):
    monkeypatch.setattr(gibbs.torch, "rand_like", lambda t: torch.zeros_like(t) + 1e-300)
    # every lottery is won: neighbours always change places, and every jump is present
    assert min(ranks_of_gibbs("bernoulli-laplace", "imputation")) < 1e-4


def test_layers_of_the_flows_are_bijections():
    n = 5
    x = torch.randn(3, n, dtype=torch.float64)
    guess = priors.AroundGuess(RationalQuadraticSpline(bins=4), 0.5)
    window = priors.Window(n, guess.n_params, 3, 8, 0, 0.5).double()
    torch.nn.init.normal_(window.net.last.weight, std=0.5)
    asinh = Diagonal(n, priors.Asinh()).double()
    torch.nn.init.normal_(asinh.p)
    for layer in (priors.Differences(), asinh, Autoregressive(window, guess)):
        z, logdet = layer(x)
        back, minus = layer.inverse(z)
        assert torch.allclose(back, x) and torch.allclose(minus, -logdet)
        jacobian = torch.autograd.functional.jacobian(lambda v, f=layer: f(v)[0].sum(0), x)
        assert torch.allclose(torch.linalg.slogdet(jacobian.transpose(0, 1))[1], logdet)


def test_held_and_interval_are_exact_for_exact_draws():
    truth, draws = torch.randn(20_000), torch.randn(30, 20_000)
    low, high = study.interval(draws)
    for share in (
        study.held(draws, truth),
        float(((low < truth) & (truth < high)).double().mean()),
    ):
        assert abs(share - 0.9) < 0.01


class Normal:
    """N(0, covariance) on signals, as a flow."""

    def __init__(self, covariance):
        self.precision = torch.linalg.inv(covariance).float()

    def at(self, level):
        return self

    def log_prob(self, x):
        return -0.5 * (x @ self.precision * x).sum(1)

    def score(self, x):
        return -x @ self.precision


@pytest.mark.parametrize("level", [0.0, 0.15])
def test_mean_and_coverage_by_the_flow(level):
    # signals whose posterior is known: with or without noise on what the flow has a density of
    law, n, noise = Gaussian(), 200, 0.3
    a = operators()["imputation"]
    c = cumulative()
    prior = 0.25 * c @ c.T
    x = law.sample((n, 64)).cumsum(1)
    u = x + level * torch.randn_like(x)
    problem = study.Problem(x, u, x, noise, level)
    root = torch.linalg.cholesky(problem.spread(a))
    problem.y = u @ a.T + torch.randn(n, len(a)).double() @ root.T
    flow = Normal(prior + level**2 * torch.eye(64))
    effort = study.Effort(signals=n, warmup=30, draws=60, steps=8, together=n)
    found = study.by_flow(law, flow, a, problem, effort)
    gain = prior @ a.T @ torch.linalg.inv(a @ prior @ a.T + noise**2 * torch.eye(len(a)))
    best = problem.y @ gain.T
    variance = (prior - gain @ a @ prior).diagonal()
    share = (found.mean - best).square().mean() / variance.mean()
    assert share < 8 / effort.draws  # by chance alone, 1 / (effective draws)
    assert abs(found.coverage_of_intervals - 0.9) < 0.03
    assert abs(found.coverage - 0.9) < 0.06


def test_noise_is_25_decibels_below_the_median_signal():
    law, a = Gaussian(), operators()["deconvolution"]
    power = (law.sample((4000, 64)).cumsum(1) @ a.T).square().mean(1).median()
    assert float(10 * (power / noise_level(law, a) ** 2).log10()) == pytest.approx(25, abs=0.4)


def test_operators_lie_within_the_unit_ball():
    for a in operators().values():
        assert torch.linalg.matrix_norm(a, 2) < 1 + 1e-9


def test_draws_have_the_variance_of_the_target_from_any_start():
    a, eye = operators()["denoising"] / 0.5, torch.eye(64).double()
    y = torch.zeros(50, 64).double()
    start = torch.full_like(y, 3.0)
    drawn = sampler.sample(Normal(eye), a, y, y, start, eye, warmup=30, kept=80, steps=4)
    assert drawn.u.var() == pytest.approx(1 / 5, rel=0.1)
    assert torch.allclose(drawn.score, -drawn.u, atol=1e-3)


def test_the_start_is_a_maximum_and_the_curvature_that_of_a_gaussian():
    law, a = LAWS["gaussian"], operators()["deconvolution"] / 0.1
    difference = torch.linalg.inv(cumulative())
    precision = difference.T @ difference / law.of_all
    flow = Normal(torch.linalg.inv(precision))
    _, y = measured(law, a, 5, 1.0)
    start, curvature = sampler.start_in_jumps(flow, a, y, law.of_all**0.5, 3)
    want = torch.linalg.solve(a.T @ a + precision, (y @ a).T).T
    assert torch.allclose(start, want, atol=1e-3)
    assert torch.allclose(curvature, precision.expand_as(curvature), rtol=1e-3, atol=1e-3)


def test_tables_of_a_spline_are_the_spline():
    layer = Diagonal(5, RationalQuadraticSpline(bins=6, bound=2.0))
    torch.nn.init.normal_(layer.p)
    x = torch.randn(300, 5) * 2
    for found, want in zip(priors.Fixed(layer)(x), layer(x)):
        assert torch.allclose(found, want, atol=1e-5)


def test_a_signal_of_steps_is_where_the_sampler_starts():
    x = torch.zeros(3, 64).double()
    x[:, 20:] += 2
    x[:, 41:] -= 1
    a = operators()["fourier"] / 0.05
    start, curvature = sampler.start_in_steps(a, x @ a.T, 0.05)
    assert (start - x).abs().max() < 0.2
    # the level of a step is loose, what happens within it as stiff as the noise allows
    v = torch.linalg.eigvalsh(curvature[0])
    assert v.max() < 1.01 / 0.05**2 and v.min() < 1
