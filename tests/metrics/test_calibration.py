"""Calibration on a posterior that is known exactly, and on ones that are wrong on purpose.

theta ~ N(0, I), x = theta + N(0, I): the posterior is N(x / 2, I / 2).
"""

from __future__ import annotations

import math
import warnings

import pytest
import torch

from innverse.errors import InputError, ShapeError, UsageError
from innverse.metrics import calibration
from innverse.metrics.importance import fit_generalized_pareto


class Normal:
    """N(x / 2 + bias, (width^2 / 2) I); exact with width 1 and bias 0."""

    def __init__(self, width: float = 1.0, bias: float = 0.0):
        self.std, self.bias = width / math.sqrt(2), bias

    def sample(self, shape, x, generator=None):
        return x / 2 + self.bias + self.std * torch.randn(*shape, len(x), generator=generator)

    def log_prob(self, theta, x):
        return torch.distributions.Normal(x / 2 + self.bias, self.std).log_prob(theta).sum(-1)


class BatchedNormal(Normal):
    def sample_batched(self, shape, x, generator=None):
        return x / 2 + self.bias + self.std * torch.randn(*shape, *x.shape, generator=generator)

    def log_prob_batched(self, theta, x):
        return self.log_prob(theta, x)


def pairs(n: int = 1000, d: int = 2, seed: int = 0):
    g = torch.Generator().manual_seed(seed)
    theta = torch.randn(n, d, generator=g)
    return theta, theta + torch.randn(n, d, generator=g)


@pytest.mark.parametrize("kind", [Normal, BatchedNormal])
def test_exact_posterior_is_calibrated(kind):
    theta, x = pairs(600)
    exact = kind()
    ranks = calibration.sbc(exact, theta, x, draws=200)
    assert ranks.ranks.min() >= 0 and ranks.ranks.max() <= 200
    assert (ranks.p_values > 0.01).all()
    points = calibration.tarp(exact, theta, x, draws=200)
    assert points.p_value > 0.01 and abs(points.area) < 0.03
    # binomial standard deviation at 600 pairs is at most 0.02
    found = calibration.coverage(exact, theta, x, draws=400)
    assert (found.covered - found.levels[:, None]).abs().max() < 0.06
    assert calibration.calibration_error(exact, theta, x, draws=400) < 0.025


@pytest.mark.parametrize(("width", "bias"), [(0.5, 0.0), (2.0, 0.0), (1.0, 0.5)])
def test_wrong_posteriors_are_found(width, bias):
    theta, x = pairs()
    wrong = BatchedNormal(width, bias)
    assert (calibration.sbc(wrong, theta, x, draws=200).p_values < 1e-4).all()
    assert calibration.tarp(wrong, theta, x, draws=200).p_value < 1e-3
    assert calibration.calibration_error(wrong, theta, x, draws=200) > 0.03


def test_coverage_of_a_narrow_posterior_is_the_known_one():
    """Half the width: the interval of level a covers erf(z_a / (2 sqrt 2))."""
    theta, x = pairs(4000)
    found = calibration.coverage(BatchedNormal(0.5), theta, x, draws=1000)
    z = math.sqrt(2) * torch.erfinv(found.levels)
    truth = torch.erf(z / 2 / math.sqrt(2))
    assert (found.covered - truth[:, None]).abs().max() < 0.03
    # regions of highest density in two dimensions: 1 - (1 - level)^(1/4)
    assert (found.joint - (1 - (1 - found.levels) ** 0.25)).abs().max() < 0.03
    assert calibration.tarp(BatchedNormal(0.5), theta, x, draws=200).area < -0.02


def test_p_value_of_the_kolmogorov_test_against_scipy():
    stats = pytest.importorskip("scipy.stats")
    g = torch.Generator().manual_seed(1)
    for n, power in ((20, 1.0), (100, 1.2), (1000, 1.05)):
        u = torch.rand(n, generator=g, dtype=torch.float64) ** power
        want = stats.kstest(u.numpy(), "uniform").pvalue
        assert abs(calibration.kolmogorov_p(u) - want) < 0.01


def test_p_values_are_uniform_under_the_truth():
    """Among 200 experiments about a tenth have p < 0.1."""
    g = torch.Generator().manual_seed(0)
    theta = torch.randn(200, 200, generator=g)
    samples = torch.randn(99, 200, 200, generator=g)
    p = calibration.sbc(samples, theta).p_values
    assert 0.04 < float((p < 0.1).double().mean()) < 0.17


def test_ranks_count_the_draws_below():
    samples = torch.arange(10.0).view(10, 1, 1).expand(10, 3, 1)
    found = calibration.sbc(samples, torch.tensor([[-1.0], [4.5], [20.0]]))
    assert found.ranks.flatten().tolist() == [0, 5, 10]


def test_discrete_parameters_have_uniform_ranks():
    g = torch.Generator().manual_seed(0)
    theta = torch.randint(3, (2000, 1), generator=g).float()
    samples = torch.randint(3, (50, 2000, 1), generator=g).float()
    assert calibration.sbc(samples, theta).p_values > 0.01


@pytest.mark.parametrize("width", [0.4, 1.0, 2.5])
def test_recalibration_repairs_coverage(width):
    wrong = BatchedNormal(width, bias=0.1)
    repair = calibration.recalibrate(wrong, *pairs(2000, seed=1), draws=500)
    theta, x = pairs(2000, seed=2)
    g = torch.Generator().manual_seed(3)
    low, high = repair.intervals(wrong, x, draws=500, generator=g)
    levels = torch.tensor(calibration.LEVELS)
    covered = ((theta >= low) & (theta <= high)).double().mean(1)
    # two binomial errors of 0.011, four standard deviations
    assert (covered - levels[:, None]).abs().max() < 0.06
    before = calibration.coverage(wrong, theta, x, draws=500).error
    moved = repair.samples(wrong.sample_batched((500,), x, g))
    after = calibration.coverage(moved, theta).error
    assert after < 0.035 and (before > 2 * after or width == 1.0)
    error = calibration.calibration_error(moved, theta)
    assert error < 0.025


def test_recalibration_holds_its_promise_on_average():
    """Mean coverage over many small calibration sets is at least the level, and not much more."""
    narrow, n = BatchedNormal(0.5), 60
    covered = []
    for seed in range(60):
        repair = calibration.recalibrate(narrow, *pairs(n, 1, seed), draws=200)
        theta, x = pairs(200, 1, 1000 + seed)
        low, high = repair.intervals(narrow, x, levels=[0.9], draws=200)
        covered.append(((theta >= low[0]) & (theta <= high[0])).double().mean())
    mean = float(torch.stack(covered).mean())
    assert 0.885 < mean < 0.9 + 1 / (n + 1) + 0.015


def test_repaired_draws_keep_their_order_and_shape():
    theta, x = pairs(200)
    narrow = BatchedNormal(0.3)
    repair = calibration.recalibrate(narrow, theta, x, draws=100)
    samples = narrow.sample_batched((100,), x)
    moved = repair.samples(samples)
    assert moved.shape == samples.shape and moved.dtype == samples.dtype
    assert torch.equal(samples.argsort(0), moved.argsort(0))
    assert float(moved.std()) > float(samples.std())


def test_contraction_and_z_score():
    theta, x = pairs(3000)
    found = calibration.contraction(BatchedNormal(), theta, x, prior_variance=[1.0, 1.0], draws=400)
    assert (found.contraction.mean(0) - 0.5).abs().max() < 0.01
    assert found.z_score.mean().abs() < 0.05 and (found.z_score.std() - 1).abs() < 0.05


def test_resimulation_error_is_the_known_one():
    """E|theta' + 0 - x|^2 with theta' ~ N(x / 2, I / 2) is |x|^2 / 4 + D / 2."""
    _, x = pairs(50)
    found = calibration.resimulation_error(BatchedNormal(), x, lambda t: t, draws=20_000)
    torch.testing.assert_close(found, (x.square().sum(1) / 4 + 1).double(), atol=0.05, rtol=0.02)


def test_images_and_arrays_are_taken_too():
    g = torch.Generator().manual_seed(0)
    images = torch.randn(100, 1, 3, 3, generator=g)
    draws = torch.randn(99, 100, 1, 3, 3, generator=g)
    assert calibration.sbc(draws.numpy(), images.numpy()).ranks.shape == (100, 9)
    assert calibration.coverage(draws, images).covered.shape == (4, 9)
    moved = calibration.recalibrate(draws, images).samples(draws)
    assert moved.shape == draws.shape


def test_resimulation_follows_its_generator_and_leaves_others_alone():
    """Simulators draw their noise from global generators; so does numpy's."""
    import numpy as np

    _, x = pairs(20)

    def simulator(theta):
        noise = torch.from_numpy(np.random.normal(size=theta.shape)).float()  # noqa: NPY002
        return theta + noise + torch.randn_like(theta)

    torch.manual_seed(1)
    found = []
    for _ in range(2):
        g = torch.Generator().manual_seed(3)
        found.append(calibration.resimulation_error(BatchedNormal(), x, simulator, generator=g))
        torch.rand(5), np.random.rand(5)  # noqa: NPY002 - as if something had happened before
    assert torch.equal(*found)
    torch.manual_seed(1)
    want = torch.rand(1)
    torch.manual_seed(1)
    g = torch.Generator().manual_seed(3)
    calibration.resimulation_error(BatchedNormal(), x, simulator, generator=g)
    assert torch.equal(torch.rand(1), want)
    other = torch.Generator().manual_seed(4)
    again = calibration.resimulation_error(BatchedNormal(), x, simulator, generator=other)
    assert not torch.equal(again, found[0])


def test_coverage_tells_its_own_error_bar():
    """Of an exact posterior, two thirds of the shares lie within one binomial standard error."""
    within = []
    for seed in range(60):
        theta, x = pairs(100, 1, seed)
        g = torch.Generator().manual_seed(seed)
        found = calibration.coverage(BatchedNormal(), theta, x, draws=300, generator=g)
        want = (found.levels * (1 - found.levels) / 100).sqrt()
        torch.testing.assert_close(found.standard_error, want)
        within.append(((found.covered[:, 0] - found.levels).abs() <= want)[:2].double().mean())
    assert 0.5 < float(torch.stack(within).mean()) < 0.85


def test_a_repair_from_few_pairs_says_what_it_is_worth():
    """The coverage of intervals repaired by 40 pairs varies as their standard error says."""
    covered = []
    for seed in range(80):
        theta, x = pairs(40, 1, seed)
        g = torch.Generator().manual_seed(seed)
        with pytest.warns(UserWarning, match="learned from 40 pairs is uncertain.* 42 to 58 %"):
            repair = calibration.recalibrate(BatchedNormal(), theta, x, draws=200, generator=g)
        z = torch.linspace(-4, 4, 2001, dtype=torch.float64)
        low, high = repair.intervals(z.view(-1, 1, 1) / math.sqrt(2), levels=[0.5])
        # draws on a grid stand for all: the interval of level 1/2 of N(0, 1/2), times its factor
        half = float(repair.factors_at([0.5])[0, 0]) * 0.6744897501960817
        covered.append(math.erf(half / math.sqrt(2)))
        assert low < high
    spread = float(torch.tensor(covered).std())
    assert spread == pytest.approx(float(repair.standard_error([0.5])), rel=0.25)
    assert float(repair.standard_error([0.5])) == pytest.approx(0.077, abs=2e-3)
    theta, x = pairs(calibration.ENOUGH, 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        calibration.recalibrate(BatchedNormal(), theta, x, draws=100)


# ---- importance weights -------------------------------------------------------------------------


def test_reweighting_makes_a_wide_posterior_exact():
    x = torch.tensor([1.0, -2.0])
    exact = Normal()

    def log_joint(theta, x):
        prior = torch.distributions.Normal(0.0, 1.0).log_prob(theta).sum(1)
        return prior + torch.distributions.Normal(theta, 1.0).log_prob(x).sum(1)

    g = torch.Generator().manual_seed(0)
    theta, weights = calibration.reweight(Normal(1.5, 0.2), x, log_joint, generator=g)
    mean = weights.weights.float() @ theta
    torch.testing.assert_close(mean, x / 2, atol=0.04, rtol=0)
    evidence = torch.distributions.Normal(0.0, math.sqrt(2)).log_prob(x).sum()
    assert abs(weights.log_evidence - float(evidence)) < 0.03
    # E_q w^2 in closed form for a normal q of variance s^2 v, one dimension, shifted by b
    v, s2, b = 0.5, 2.25, 0.2
    per_axis = s2 / math.sqrt(2 * s2 - 1) * math.exp(b * b / (v * (2 * s2 - 1)))
    assert abs(weights.ess / 10_000 - per_axis**-2) < 0.03
    assert weights.trustworthy and weights.pareto_k < 0.3
    again = weights.resample(theta, 20_000, g)
    assert (again.var(0) - 0.5).abs().max() < 0.04
    theta, weights = calibration.reweight(exact, x, log_joint, generator=g)
    assert abs(weights.ess / 10_000 - 1) < 1e-3 and weights.trustworthy


def test_a_narrow_proposal_is_not_trusted():
    x = torch.zeros(2)
    target = Normal()
    _, weights = calibration.reweight(Normal(0.4), x, target.log_prob)
    assert weights.pareto_k > 0.7 and not weights.trustworthy


@pytest.mark.parametrize("k", [0.2, 0.5, 0.9])
def test_shape_of_a_pareto_tail_is_found(k):
    u = torch.rand(20_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    excess = (2.0 * (u ** (-k) - 1) / k).sort().values
    shape, scale = fit_generalized_pareto(excess)
    assert abs(shape - k) < 0.04 and abs(scale - 2.0) < 0.1


def test_weights_of_truncated_targets():
    g = torch.Generator().manual_seed(0)
    u = torch.rand(1000, generator=g)
    target = torch.where(u < 0.25, 0.0, -math.inf)
    found = calibration.importance_weights(target, torch.zeros(1000))
    assert float(found.weights[u >= 0.25].sum()) == 0
    assert abs(math.exp(found.log_evidence) - 0.25) < 0.05


# ---- mistakes -----------------------------------------------------------------------------------


def test_bad_input_is_one_line():
    theta, x = pairs(100)
    good = torch.randn(50, 100, 2)
    cases = [
        (UsageError, "pass x", lambda: calibration.sbc(Normal(), theta)),
        (ShapeError, "do not fit", lambda: calibration.sbc(good[:, :50], theta)),
        (ShapeError, "draws must be", lambda: calibration.sbc(good[0, 0], theta)),
        (InputError, "at least 2", lambda: calibration.tarp(good[:1], theta)),
        (InputError, "NaN", lambda: calibration.coverage(good * math.nan, theta)),
        (UsageError, "between 0 and 1", lambda: calibration.coverage(good, theta, levels=[95])),
        (InputError, "at least 20", lambda: calibration.recalibrate(good[:, :10], theta[:10])),
        (ShapeError, "two vectors", lambda: calibration.importance_weights(x, x)),
        (InputError, "no draw", lambda: calibration.importance_weights([-math.inf], [0.0])),
        (InputError, "NaN", lambda: calibration.importance_weights([math.nan], [0.0])),
    ]
    for kind, words, call in cases:
        with pytest.raises(kind, match=words) as caught:
            call()
        assert "\n" not in str(caught.value)
