"""What `solve(method="posterior")` returns can be asked, and given to other tools."""

from __future__ import annotations

import sys

import pytest
import torch

import innverse
from innverse.errors import InnverseError, UsageError
from innverse.physics import Denoising, Inpainting, PoissonNoise
from innverse.solvers.posterior.draws.predictive import check

from .test_hmc import SHAPE, Gaussian
from .test_solve_posterior import OPTIONS, case

FEW = {"draws": 40, "chains": 4, "warmup": 10, "steps": 5} | OPTIONS


@pytest.fixture(scope="module")
def result():
    prior, operator, y = case(2)
    return innverse.solve(y, operator, prior, **FEW)


def test_a_result_answers_for_its_draws(result):
    x = result.samples
    assert torch.equal(result.quantiles(0.0), x.min(0).values)
    low, high = result.interval(0.9)
    assert ((low < result.x) & (result.x < high)).all()
    assert result.quantity == "x"
    assert result.by_chain.shape == (4, 10, 2, *SHAPE)
    assert torch.equal(result.by_chain[2, 3], x[23])  # chain after chain


def test_the_probability_of_a_region(result):
    here, there = torch.zeros(2, 4, 4, dtype=torch.bool)
    here[:2, :2], there[2:, 2:] = True, True
    means = [result.samples[..., m].mean((2, 3)) for m in (here, there)]
    assert torch.equal(
        result.probability(region=here, above=0.4), (means[0] > 0.4).double().mean(0)
    )
    between = result.probability(region=here, above=0.3, below=0.5)
    assert torch.equal(between, ((means[0] > 0.3) & (means[0] < 0.5)).double().mean(0))
    assert torch.equal(
        result.probability(region=here, above=there), (means[0] > means[1]).double().mean(0)
    )
    as_event = result.probability(lambda images: images[:, 0, :2, :2].mean((1, 2)) > 0.4)
    assert torch.equal(as_event, result.probability(region=here, above=0.4))


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"region": torch.ones(4, 4)},
        {"above": 0.5},
        {"event": lambda x: x, "region": torch.ones(4, 4), "above": 0.5},
    ],
)
def test_a_question_that_is_none_is_one_line(result, asked):
    with pytest.raises(UsageError, match="give an event, or a region"):
        result.probability(**asked)


def test_the_spread_is_split_by_the_operator_that_was_given(result):
    seen, unseen = result.spread()
    mask = result.measured.physics.mask.bool().expand(seen.shape)
    assert (seen[~mask] == 0).all() and (unseen[mask] < 1e-6).all()
    assert torch.allclose((seen.square() + unseen.square()).sqrt(), result.std)


def test_results_without_draws_say_so():
    found = innverse.solve(torch.rand(1, 1, 8, 8), Denoising(noise=0.1), method="tv")
    for ask in (lambda r: r.spread(), lambda r: r.by_chain, lambda r: r.to_arviz()):
        with pytest.raises(UsageError, match="gives no draws"):
            ask(found)
    assert found.quantity == "x" and found.measured.noise.sigma == 0.1


@pytest.mark.parametrize("noise", [0.2, PoissonNoise(0.05)], ids=["gaussian", "photons"])
def test_predictive_p_values_of_exact_draws_are_uniform_and_find_a_wrong_noise_level(noise):
    g = torch.Generator().manual_seed(0)
    n = 400
    x = torch.rand(n, 1, 8, 8, generator=g).double() + 0.5
    operator = Inpainting.random((1, 8, 8), 0.5, g, noise=noise)
    y = operator(x, g)
    # from the very image that was measured the p-value is uniform
    p = check(x.expand(60, *x.shape), y, operator, operator.noise)
    assert abs(p.mean() - 0.5) < 4 / (12 * n) ** 0.5
    assert abs(p.var() - 1 / 12) < 0.02
    far = x + 0.3
    assert check(far[None], y, operator, operator.noise).mean() < 0.1
    if noise == 0.2:
        twice = innverse.physics.GaussianNoise(0.4)
        assert check(x[None], y, operator, twice).mean() > 0.99


def test_the_predictive_check_of_a_result_is_of_what_was_measured(result):
    _, operator, y = case(2)
    noise = innverse.physics.GaussianNoise(0.2)
    p = result.predictive_check(seed=3)
    assert torch.equal(p, check(result.samples, y, operator, noise, seed=3))
    assert (p > 0.01).all() and (p < 0.99).all()


def test_the_noise_of_what_is_drawn_is_on_the_scale_of_the_images():
    flow = innverse.flows.build("glow", (1, 8, 8), levels=1, steps=1, hidden=4, noise=(0.01, 0.4))
    few = {"draws": 8, "chains": 2, "warmup": 1, "steps": 1}
    y = 100 * torch.rand(1, 1, 8, 8)
    found = innverse.solve(
        y, Denoising(noise=10.0), flow, "posterior", x_range=(0, 100), sigma=0.05, **few
    )
    assert found.quantity == found.quantity_of_mean == "u = x + 5 e"
    assert found.diagnostics["sigma"] == pytest.approx(5.0)


def test_to_arviz_keeps_chains_apart(result):
    base = pytest.importorskip("arviz_base")
    tree = result.to_arviz()
    x = tree["posterior"]["x"]
    assert x.dims == ("chain", "draw", "item", "channel", "row", "column")
    assert torch.equal(torch.from_numpy(x.values), result.by_chain)
    assert tree["posterior"].attrs["quantity"] == "x"
    assert tree["observed_data"]["y"].shape == (2, *SHAPE)
    assert base.extract(tree).sizes["sample"] == 40


def test_without_arviz_there_is_one_clear_line(result, monkeypatch):
    monkeypatch.setitem(sys.modules, "arviz_base", None)
    monkeypatch.setitem(sys.modules, "arviz", None)
    with pytest.raises(InnverseError, match="pip install arviz") as caught:
        result.to_arviz()
    assert "\n" not in str(caught.value)


class DeepinvPhysics:
    """As deepinv's operators look."""

    class noise_model:
        sigma = 0.2

    def __init__(self, operator):
        self.A, self.A_adjoint = operator.A, operator.A_adjoint


def test_a_sampler_in_the_manners_of_deepinv():
    _, operator, y = case(2)
    options = {k: v for k, v in FEW.items() if k != "method"}
    sampler = innverse.solvers.DeepinvSampler(Gaussian(), **options).eval()
    with pytest.raises(UsageError, match="no draws yet"):
        sampler.get_chain()
    mean, variance = sampler(y, operator, seed=3)
    want = innverse.solve(y, operator, Gaussian(), seed=3, **FEW)
    assert torch.equal(mean, want.x) and torch.allclose(variance, want.std.square())
    assert len(sampler.get_chain()) == 40
    assert sampler.mean_has_converged == bool(want.converged.all())
    means, _ = sampler.sample(
        y, operator, seed=3, g_statistics=[lambda d: d["x"], lambda d: d["x"] ** 2]
    )
    assert torch.allclose(means[1] - means[0] ** 2, variance * 39 / 40)
    assert torch.equal(
        innverse.solvers.DeepinvSampler(Gaussian(), mean_only=True, **options)(y, operator, seed=3),
        mean,
    )


def test_an_event_answers_yes_or_no(result):
    with pytest.raises(UsageError, match="booleans"):
        result.probability(lambda x: x.mean((1, 2, 3)))
    with pytest.raises(UsageError, match="function"):
        result.probability("bright")
    yes = result.probability(lambda x: (x.mean((1, 2, 3)) > -9).numpy())
    assert bool((yes == 1).all())
