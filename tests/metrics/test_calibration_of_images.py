"""Calibration of images: u ~ N(0, K) on 8x8 pixels, y = u + N(0, I), and everything is known."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from innverse.errors import InputError, ShapeError
from innverse.metrics import calibration
from innverse.physics import Denoising

SHAPE = (1, 8, 8)
_far = torch.cdist(*[torch.cartesian_prod(*[torch.arange(8.0)] * 2)] * 2).double()
PRIOR = (-_far / 3).exp()
POSTERIOR = PRIOR - PRIOR @ torch.linalg.solve(PRIOR + torch.eye(64).double(), PRIOR)
ROOT = torch.linalg.cholesky(POSTERIOR)
GAIN = PRIOR @ torch.linalg.inv(PRIOR + torch.eye(64).double())


def images(n: int, seed: int = 0):
    """u and y (n, 1, 8, 8)."""
    g = torch.Generator().manual_seed(seed)
    u, e = torch.randn(2, n, 64, generator=g, dtype=torch.float64)
    u = u @ torch.linalg.cholesky(PRIOR).T
    return u.view(n, *SHAPE), (u + e).view(n, *SHAPE)


def posterior(y, n: int, width: float = 1.0, seed: int = 1):
    """n draws of each posterior, ``width`` times as wide as they should be."""
    g = torch.Generator().manual_seed(seed)
    e = torch.randn(n, len(y), 64, generator=g, dtype=torch.float64)
    return (y.flatten(1) @ GAIN.T + width * e @ ROOT.T).view(n, len(y), *SHAPE)


def log_posterior(y):
    precision = torch.linalg.inv(POSTERIOR)

    def log_prob(u):
        d = u.flatten(1) - y.flatten(1) @ GAIN.T
        return -0.5 * (d @ precision * d).sum(1)

    return log_prob


def log_likelihood(y):
    return lambda u: -0.5 * (y - u).flatten(1).square().sum(1)


QUANTITIES = [None, calibration.patches, calibration.haar]


@pytest.mark.parametrize("of", QUANTITIES)
def test_sbc_and_coverage_of_an_exact_posterior(of):
    u, y = images(300)
    draws = posterior(y, 99)
    found = calibration.sbc(draws, u, of=of)
    p = calibration.counts_p(found.ranks, 99, 20)
    assert calibration.holm(torch.cat((p, found.p_values))).min() > 0.05
    result = SimpleNamespace(samples=draws)  # as `solve` gives them
    assert torch.equal(calibration.sbc(result, u, of=of).ranks, found.ranks)
    assert found.inside(1 - 0.05 / len(p)).all()
    assert calibration.tarp(draws, u, of=of).p_value > 0.01
    sets = calibration.coverage(draws, u, of=of, log_prob=log_posterior(y))
    assert ((sets.covered.mean(1) - sets.levels).abs() < 0.03).all()
    assert ((sets.joint - sets.levels).abs() < 3.5 * sets.standard_error).all()


def test_sets_of_highest_density_of_a_narrow_posterior_cover_what_they_must():
    """Nine tenths as wide, the set of level a is the chi-square ball of radius .81 q_a."""
    u, y = images(400)
    log_prob = log_posterior(y)
    found = calibration.coverage(posterior(y, 99, width=0.9), u, log_prob=log_prob)
    values = torch.linspace(20, 130, 20_001).double()
    mass = torch.special.gammainc(torch.tensor(32.0).double(), values / 2)
    for level, share in zip(found.levels, found.joint, strict=True):
        radius = values[(mass < level).sum()] * 0.81
        want = float(torch.special.gammainc(torch.tensor(32.0).double(), radius / 2))
        assert float(share) == pytest.approx(want, abs=0.08)


def test_sbc_draws_of_the_prior_are_found_out_by_the_likelihood_alone():
    u, y = images(300)
    ignoring = images(300 * 99, seed=5)[0].view(99, 300, *SHAPE)

    def mean(v):
        return v.mean((1, 2, 3))

    assert calibration.sbc(ignoring, u, of=mean).p_values > 0.01  # they rank as they should
    found = calibration.sbc(ignoring, u, of=log_likelihood(y))
    assert found.p_values < 1e-6 and not found.inside(0.999)
    right = calibration.sbc(posterior(y, 99), u, of=log_likelihood(y))
    assert right.p_values > 0.01 and right.inside(0.999)


def test_haar_coefficients_are_orthonormal():
    eye = torch.eye(48).view(48, 3, 4, 4)
    matrix = calibration.haar(eye)
    torch.testing.assert_close(matrix @ matrix.T, torch.eye(48))
    flat = calibration.haar(torch.full((1, 1, 8, 8), 0.5), levels=3)[0]
    assert flat[0] == pytest.approx(4.0) and flat[1:].abs().max() == 0
    with pytest.raises(ShapeError, match="images must be"):
        calibration.haar(torch.rand(4, 4))


@pytest.mark.parametrize("width", [0.5, 2.0])
def test_repair_of_few_pictures(width):
    """One factor for all pixels: its reciprocal width, and the coverage that was asked for."""
    u, y = images(40)
    repair = calibration.recalibrate(posterior(y, 99, width), u)
    assert repair.factors.shape == (len(repair.levels), 1)
    assert float(repair.factors_at([0.9])) == pytest.approx(1 / width, rel=0.15)
    fresh, data = images(100, seed=7)
    draws = posterior(data, 99, width, seed=8)
    after = calibration.coverage(repair.samples(draws), fresh)
    error = (after.covered.mean(1) - after.levels).abs()
    assert (error < 3 * repair.standard_error() + 0.01).all()
    assert calibration.coverage(draws, fresh).error > 2 * after.error
    again = calibration.Recalibration.from_json(repair.to_json())
    assert torch.equal(again.standard_error(), repair.standard_error())
    moved = repair.intervals(draws, levels=[0.9])
    assert moved[0].shape == (1, 100, 64) and (moved[1] > moved[0]).all()


def test_repair_of_pictures_keeps_its_promise_on_average():
    covered = []
    for seed in range(12):
        u, y = images(20, seed)
        repair = calibration.recalibrate(posterior(y, 99, 0.5, seed), u)
        fresh, data = images(40, 100 + seed)
        moved = repair.samples(posterior(data, 99, 0.5, 200 + seed))
        covered.append(calibration.coverage(moved, fresh).covered.mean(1))
    mean = torch.stack(covered).mean(0)
    assert (mean - torch.tensor(calibration.LEVELS)).abs().max() < 0.012


def test_a_repair_of_very_few_pictures_knows_high_levels_too():
    u, y = images(4)
    repair = calibration.recalibrate(posterior(y, 199, 0.5), u)
    assert float(repair.levels[-1]) == 0.99
    fresh, data = images(100, seed=3)
    moved = repair.samples(posterior(data, 199, 0.5, seed=4))
    after = calibration.coverage(moved, fresh).covered.mean(1)
    assert (after - torch.tensor(calibration.LEVELS)).abs().max() < 0.06


def test_a_repair_learned_from_one_picture_is_refused():
    u, y = images(1)
    with pytest.raises(InputError, match="1 pairs are too few"):
        calibration.recalibrate(posterior(y, 99), u)


def test_predictive_p_values_find_a_wrong_noise_level():
    _, y = images(100)
    draws = posterior(y, 200)

    def misfit(y, u):
        return (y - u).flatten(1).square().sum(1)

    def check(noise):
        g = torch.Generator().manual_seed(0)
        return calibration.predictive_check(draws, y, Denoising(noise=noise), misfit, generator=g)

    right = check(1.0)
    assert abs(float(right.mean()) - 0.5) < 0.05 and right.std() < 0.25
    assert check(0.5).mean() < 0.01 and check(2.0).mean() > 0.99
    assert torch.equal(check(1.0), right)
    with pytest.raises(ShapeError, match="the simulator returned"):
        calibration.predictive_check(draws, y, lambda u: u[..., :4], misfit)


def test_stein_discrepancy_against_its_definition():
    """By automatic differentiation of the kernel, for a normal density."""
    g = torch.Generator().manual_seed(0)
    u = torch.randn(6, 3, generator=g, dtype=torch.float64)
    precision = torch.diag(torch.tensor([1.0, 4.0, 0.5]).double())
    scale = torch.tensor([1.0, 0.5, 2.0]).double()

    def score(v):
        return -v @ precision

    def kernel(a, b):
        return (1 + ((a - b) / scale / math.sqrt(3)).square().sum()).rsqrt()

    total = 0.0
    for i, j in [(i, j) for i in range(6) for j in range(6) if i != j]:
        a, b = u[i], u[j]
        by_a, by_b = torch.autograd.functional.jacobian(kernel, (a, b))
        mixed = torch.autograd.functional.hessian(kernel, (a, b))[0][1]
        # in coordinates scaled by `scale`, as the kernel is: the trace weighs by their squares
        weigh = (scale * math.sqrt(3)).square()
        total += (
            (score(a) * score(b) * weigh).sum() * kernel(a, b)
            + (score(a) * by_b * weigh).sum()
            + (score(b) * by_a * weigh).sum()
            + (mixed.diagonal() * weigh).sum()
        )
    found = calibration.stein_discrepancy(u, score(u), scale=scale)
    assert found.value == pytest.approx(float(total) / 30, rel=1e-9)


def test_stein_discrepancy_knows_the_posterior_from_a_wrong_one():
    _, y = images(1, seed=3)
    precision = torch.linalg.inv(POSTERIOR)

    def p_value(draws, **options):
        d = draws.flatten(1) - y.flatten(1) @ GAIN.T
        return calibration.stein_discrepancy(draws, -d @ precision, **options).p_value

    right = [p_value(posterior(y, 150, seed=s)[:, 0]) for s in range(20)]
    assert min(right) > 0.002 and max(right) > 0.3
    for width in (0.6, 2.0):
        assert p_value(posterior(y, 300, width)[:, 0]) < 0.01
    assert p_value(posterior(y, 150)[:, 0] + 0.3) < 0.01


def test_stein_discrepancy_of_a_chain_allows_for_its_persistence():
    """A right but slow chain is accused as if its draws were independent, and not otherwise."""
    accused = {0.0: 0, 0.95: 0}
    for seed in range(40):
        g = torch.Generator().manual_seed(seed)
        u, chain = torch.randn(2, generator=g), []
        for _ in range(150):
            u = 0.9 * u + math.sqrt(0.19) * torch.randn(2, generator=g)
            chain.append(u)
        u = torch.stack(chain)
        for persistence in accused:
            found = calibration.stein_discrepancy(
                u, -u, scale=torch.ones(2), persistence=persistence, resamples=200
            )
            accused[persistence] += found.p_value < 0.05
    assert accused[0.0] > 15 and accused[0.95] <= 6, accused


def test_bad_quantities_are_one_line():
    u, y = images(10)
    draws = posterior(y, 9)
    with pytest.raises(ShapeError, match="one row for each of 10 items"):
        calibration.sbc(draws, u, of=lambda v: v.mean())
    with pytest.raises(ShapeError, match="must be alike"):
        calibration.stein_discrepancy(draws[:, 0], draws[:4, 0])
    with pytest.raises(InputError, match="draws must be a tensor or an array, got None"):
        calibration.coverage(SimpleNamespace(samples=None), u)  # of a method that does not draw
    with pytest.raises(InputError, match="NaN"):
        calibration.stein_discrepancy(draws[:, 0], draws[:, 0] * math.nan)


NOISE = torch.randn(10, 30, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda c: c.sbc(torch.zeros(9, 0, 2), torch.zeros(0, 2)), "there are none"),
        (lambda c: c.tarp(NOISE[:9], NOISE[9], references=torch.zeros(3)), "do not fit"),
        (lambda c: c.tarp(NOISE[:9], NOISE[9], bins=0), "bins=0"),
        (lambda c: c.patches(torch.rand(1, 1, 4, 4), 5), "do not fit"),
        (lambda c: c.kolmogorov_p(torch.zeros(0)), "there are none"),
        (lambda c: c.counts_p(torch.tensor([[500]]), 99, 20), r"0\.\.99"),
        (lambda c: c.ecdf_band(0, 9), "at least one"),
        (lambda c: c.rank_test(NOISE[0], lambda u: u, lambda u: u, length=1), "length=1"),
        (lambda c: c.recalibrate(NOISE[:9], NOISE[9]).samples(NOISE[:9, :, :2]), "3 parameters"),
    ],
)
@pytest.mark.filterwarnings("ignore:a repair learned")
def test_what_cannot_be_judged_is_said_in_one_line(ask, words):
    from innverse.errors import InnverseError
    from innverse.metrics import calibration

    with pytest.raises(InnverseError, match=words) as caught:
        ask(calibration)
    assert "\n" not in str(caught.value)
