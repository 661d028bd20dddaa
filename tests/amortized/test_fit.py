"""fit and Posterior on a linear normal problem whose posterior is known."""

from __future__ import annotations

import json
import warnings

import pytest
import torch
from torch import distributions as td

from innverse import amortized
from innverse.amortized.checks import FEWEST
from innverse.errors import InnverseError, InputError, ShapeError, UsageError
from innverse.metrics import calibration

QUICK = {"max_epochs": 12, "patience": 4, "progress": False}
TINY = {"layers": 2, "width": 16}
A = torch.tensor([[1.0, 0.5], [0.0, 1.0], [1.0, -1.0]])
NOISE = 0.5
COVARIANCE = torch.linalg.inv(torch.eye(2) + A.T @ A / NOISE**2)


def pairs(n: int, seed: int = 0):
    g = torch.Generator().manual_seed(seed)
    theta = torch.randn(n, 2, generator=g)
    return theta, theta @ A.T + NOISE * torch.randn(n, 3, generator=g)


def mean_at(x):
    return x @ A @ COVARIANCE / NOISE**2


@pytest.fixture(scope="module")
def learned():
    torch.set_num_threads(1)
    return amortized.fit(*pairs(4000), density="realnvp", size=TINY, **QUICK)


def test_posterior_is_the_known_normal(learned):
    x = torch.tensor([1.0, -0.5, 0.7])
    draws = learned.sample((20_000,), x=x)
    std = COVARIANCE.diagonal().sqrt()
    assert ((draws.mean(0) - mean_at(x)) / std).abs().max() < 0.15
    assert (draws.T.cov() - COVARIANCE).abs().max() < 0.15 * COVARIANCE.diagonal().max()
    truth = td.MultivariateNormal(mean_at(x), COVARIANCE)
    q = truth.sample((4000,))
    assert float((truth.log_prob(q) - learned.log_prob(q, x=x)).mean()) < 0.03
    assert (learned.map(x) - mean_at(x)).abs().max() < 0.15


def test_density_integrates_to_one(learned):
    axis = torch.linspace(-5, 5, 401)
    p = learned.log_prob(torch.cartesian_prod(axis, axis), x=torch.tensor([0.3, 0.2, -0.4])).exp()
    assert abs(float(p.sum()) * 0.025**2 - 1) < 1e-3


def test_posterior_is_calibrated(learned):
    theta, x = pairs(400, seed=1)
    assert (calibration.sbc(learned, theta, x, draws=100).p_values > 1e-3).all()
    assert calibration.tarp(learned, theta, x, draws=100).p_value > 1e-3
    found = calibration.coverage(learned, theta, x, draws=200)
    assert found.error < 0.08 and (found.joint - found.levels).abs().max() < 0.08


def test_shapes_and_seeds_of_draws(learned):
    theta, x = pairs(5)
    g = torch.Generator
    assert learned.sample((7,), x=x[0]).shape == (7, 2)
    assert learned.sample((7,), x=x[:1]).shape == (7, 2)
    assert learned.sample((3, 4), x=x[0]).shape == (3, 4, 2)
    assert learned.sample((), x=x[0]).shape == (2,)
    assert learned.sample((0,), x=x[0]).shape == (0, 2)
    assert learned.sample_batched((6,), x).shape == (6, 5, 2)
    assert learned.log_prob(theta, x=x).shape == (5,)
    assert learned.log_prob(theta, x=x[0]).shape == (5,)
    assert learned.log_prob(theta[0], x=x[0]).shape == ()
    batched = learned.log_prob_batched(theta.expand(3, 5, 2), x)
    assert batched.shape == (3, 5)
    torch.testing.assert_close(batched[1], learned.log_prob(theta, x=x), rtol=1e-4, atol=1e-4)
    one, two = (learned.sample((4,), x=x[0], generator=g().manual_seed(3)) for _ in "ab")
    assert torch.equal(one, two)
    # batched draws belong to their own observation
    means = learned.sample_batched((2000,), x).mean(0)
    assert (means - mean_at(x)).abs().max() < 0.2


def test_default_observation_and_arrays(learned):
    x = pairs(1)[1][0]
    with pytest.raises(InputError, match="which observation"):
        learned.sample((3,))
    try:
        assert learned.set_default_x(x.numpy()) is learned
        assert learned.sample((3,)).shape == (3, 2)
        assert learned.map().shape == (2,)
    finally:
        learned.default_x = None
    assert learned.log_prob([[0.0, 0.0]], x=x.tolist()).shape == (1,)


def test_saved_posterior_is_the_same(learned, tmp_path):
    learned.save(tmp_path / "p")
    again = amortized.load(tmp_path / "p")
    theta, x = pairs(20, seed=2)
    assert torch.equal(again.log_prob(theta, x=x), learned.log_prob(theta, x=x))
    draws = [
        p.sample((5,), x=x[0], generator=torch.Generator().manual_seed(0)) for p in (again, learned)
    ]
    assert torch.equal(*draws)
    assert again.names == learned.names and again.n_simulations == 4000
    assert again.history.epochs == learned.history.epochs
    assert torch.equal(again.rank(x), learned.rank(x))
    weights = tmp_path / "p" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"abcd")
    with pytest.raises(InputError, match="damaged"):
        amortized.load(tmp_path / "p")
    config = tmp_path / "p" / "config.json"
    config.write_text(json.dumps({"format": "other"}))
    with pytest.raises(InputError, match="not describe"):
        amortized.load(tmp_path / "p")
    with pytest.raises(InputError, match="cannot read"):
        amortized.load(tmp_path / "nothing")


def test_training_is_reproducible_and_leaves_the_global_seed_alone():
    options = QUICK | {"max_epochs": 1, "size": TINY}
    torch.manual_seed(5)
    first = amortized.fit(*pairs(200), seed=1, **options)
    after = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(after, torch.rand(1))
    second = amortized.fit(*pairs(200), seed=1, **options)
    assert first.history.held_out == second.history.held_out
    assert amortized.fit(*pairs(200), seed=2, **options).history.held_out != first.history.held_out


def test_a_finished_training_is_lengthened(tmp_path, capsys):
    theta, x = pairs(300)

    def fit(**limits):
        size = {"width": 8, "layers": 1}
        return amortized.fit(theta, x, size=size, checkpoint=tmp_path, **limits).history

    short = fit(max_epochs=3)
    assert (
        short.epochs == 3 and "with a larger limit the same call goes on" in capsys.readouterr().err
    )
    longer = fit(max_epochs=6)
    assert longer.epochs == 6 and longer.held_out[:3] == short.held_out


@pytest.mark.parametrize("density", ["nsf", "realnvp", "mdn", "flow_matching"])
@pytest.mark.parametrize("d", [1, 3])
def test_every_density_is_normalised_and_agrees_with_its_draws(density, d):
    """E_q 1 = 1 by importance sampling with a wide normal, for a network that is hardly trained,
    with one bounded parameter."""
    g = torch.Generator().manual_seed(0)
    theta = torch.rand(300, d, generator=g) * 4 - 1
    x = theta.sum(1, keepdim=True) + torch.randn(300, 1, generator=g)
    bounds = ([-1.0] + [None] * (d - 1), [3.0] + [None] * (d - 1))
    options = QUICK | {"max_epochs": 2, "size": TINY}
    found = amortized.fit(theta, x, bounds=bounds, density=density, **options)
    draws = found.sample((4000,), x=x[0], generator=g)
    wide = td.Normal(draws.mean(0), 2 * draws.std(0))
    points = wide.sample((20_000,))
    weight = (found.log_prob(points, x=x[0]) - wide.log_prob(points).sum(1)).exp()
    assert abs(float(weight.mean()) - 1) < 0.06
    torch.testing.assert_close(
        (weight.unsqueeze(1) * points).mean(0), draws.mean(0), atol=0.15, rtol=0.05
    )


def test_bounded_parameters_never_leak():
    g = torch.Generator().manual_seed(0)
    low, high = torch.tensor([0.0, -2.0]), torch.tensor([1.0, 5.0])
    prior = td.Independent(td.Uniform(low, high), 1)
    theta = low + (high - low) * torch.rand(500, 2, generator=g)
    x = theta + torch.randn(500, 2, generator=g)
    options = QUICK | {"max_epochs": 2, "size": TINY}
    found = amortized.fit(theta, x, prior=prior, **options)
    assert torch.equal(found.bounds[0], low) and torch.equal(found.bounds[1], high)
    draws = found.sample((5000,), x=torch.tensor([1.5, 6.0]))
    assert (draws >= low).all() and (draws <= high).all()
    outside = torch.tensor([[1.01, 0.0], [0.5, 5.1], [-0.1, 0.0]])
    assert (found.log_prob(outside, x=x[0]) == -torch.inf).all()
    best = found.map(x[0])
    assert ((best > low) & (best < high)).all()
    assert float(found.log_prob(best, x=x[0])) >= float(found.log_prob(draws, x=x[0]).max()) - 1e-3


@pytest.mark.parametrize(
    ("summary", "shape"),
    [
        ("set", (12, 1)),
        ("set_transformer", (12, 1)),
        ("series", (1, 32)),
        ("image", (1, 8, 8)),
        ("mlp", (30,)),
        ("auto", (30,)),
    ],
)
def test_summary_networks_find_the_mean(summary, shape):
    """x = theta + noise in every entry: the posterior shrinks to about noise / sqrt(entries)."""
    g = torch.Generator().manual_seed(0)
    theta = torch.randn(1500, 1, generator=g)
    noise = torch.randn(1500, *shape, generator=g)
    x = theta.view(-1, *[1] * len(shape)) + noise
    found = amortized.fit(theta, x, summary=summary, density="realnvp", size={"width": 24}, **QUICK)
    draws = found.sample_batched((200,), x[:100])
    assert float(draws.std(0).mean()) < 0.6
    assert float((draws.mean(0) - theta[:100]).square().mean().sqrt()) < 0.6


def test_sets_do_not_depend_on_the_order():
    from innverse.nets.summary import DeepSet, SetTransformer

    x = torch.randn(3, 7, 2)
    for net in (DeepSet(2, 5, 16), SetTransformer(2, 5, 18)):
        torch.testing.assert_close(net(x), net(x[:, torch.randperm(7)]))
        assert not torch.allclose(net(x), net(x.flip(0)))


def test_heavy_tails_and_units_do_not_matter():
    """The same data in other units, with a huge outlier: training stays finite."""
    theta, x = pairs(400)
    x = x * 1e6 - 3e6
    x[0, 0] = 1e15
    found = amortized.fit(theta * 1e-4 + 7, x, size=TINY, **QUICK | {"max_epochs": 4})
    draws = found.sample((100,), x=x[1])
    assert draws.isfinite().all() and (draws - 7).abs().max() < 1e-2
    assert bool(found.estimator.standardize.heavy[0]) and not found.estimator.standardize.heavy[1]


# ---- simulators ---------------------------------------------------------------------------------


def test_simulator_with_budget_in_batches_and_one_by_one():
    prior = td.Independent(td.Normal(torch.zeros(2), torch.ones(2)), 1)
    options = QUICK | {"prior": prior, "budget": 100, "max_epochs": 1, "size": TINY}
    found = amortized.fit(simulator=lambda t: t @ A.T, **options)
    assert found.x_shape == (3,) and found.n_simulations == 100
    found = amortized.fit(simulator=lambda t: (A @ t).tolist(), vectorized=False, **options)
    assert found.x_shape == (3,)
    theta = torch.randn(60, 2)
    options = QUICK | {"max_epochs": 1, "size": TINY}
    assert amortized.fit(theta, simulator=lambda t: t.numpy(), **options).n_simulations == 60


def test_simulator_that_raises():
    def broken(theta):
        if theta[0] > 0:
            raise ZeroDivisionError("no density at x")
        return theta

    prior = td.Independent(td.Normal(torch.zeros(2), torch.ones(2)), 1)
    with pytest.raises(InputError, match=r"ZeroDivisionError at simulation \d+, theta = \[") as e:
        amortized.fit(simulator=broken, prior=prior, budget=100, vectorized=False, progress=False)
    assert "no density at x" in str(e.value) and isinstance(e.value.__cause__, ZeroDivisionError)


def test_failed_simulations_are_counted_and_left_out():
    theta, x = pairs(300)
    x[:30, 1] = torch.nan
    x[30, 0] = torch.inf
    options = QUICK | {"max_epochs": 1, "size": TINY}
    with pytest.warns(UserWarning, match=r"31 of 300 simulations \(10 %\)") as caught:
        found = amortized.fit(theta, x, **options)
    assert found.n_excluded == 31 and found.n_simulations == 269
    assert caught[0].filename == __file__
    with pytest.raises(InputError, match="all 300"):
        amortized.fit(theta, x * torch.nan, **options)


def test_observation_far_outside_is_flagged(learned):
    x = pairs(1, seed=3)[1][0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        learned.sample((3,), x=x)
    assert 0 < float(learned.rank(x)) <= 1
    with pytest.warns(UserWarning, match=r"far outside .*log-density -\d.*rank 0 of 4000"):
        learned.sample((3,), x=x + 40)
    assert float(learned.rank(x + 40)) == 0
    with pytest.warns(UserWarning, match="1 of 2 observations lie"):
        learned.sample_batched((3,), torch.stack((x, x + 40)))
    # unusual combinations count, not only unusual numbers
    theta = torch.randn(4000, 2)
    unlike = theta @ A.T
    found = amortized.fit(theta, unlike, size=TINY, **QUICK | {"max_epochs": 1})
    with pytest.warns(UserWarning, match="far outside"):
        found.sample((3,), x=torch.tensor([1.0, 1.0, 2.0]))


def test_few_simulations_of_many_numbers_raise_no_false_alarm():
    g = torch.Generator().manual_seed(0)
    theta = torch.randn(400, 2, generator=g)
    x = torch.cat((theta, torch.randn(400, 58, generator=g)), 1)
    options = QUICK | {"max_epochs": 1, "size": TINY}
    found = amortized.fit(theta[:200], x[:200], **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found.sample_batched((1,), x[200:])


PRIOR = td.Independent(td.Normal(torch.zeros(2), torch.ones(2)), 1)


@pytest.mark.parametrize(
    ("kind", "words", "change"),
    [
        (UsageError, "needs theta and x", {"theta": None}),
        (ShapeError, "100 rows but x has 99", {"x": torch.randn(99, 3)}),
        (ShapeError, r"theta must be \(N, D\)", {"theta": torch.randn(100, 2, 2)}),
        (ShapeError, "empty", {"x": torch.zeros(100, 0)}),
        (InputError, "array of numbers", {"x": [["a"]] * 100}),
        (InputError, "constant", {"theta": torch.ones(100, 2)}),
        (InputError, "says nothing", {"x": torch.ones(100, 3)}),
        (InputError, f"at least {FEWEST}", {"theta": torch.randn(10, 2), "x": torch.randn(10, 3)}),
        (InputError, r"mass = .* outside its bounds \[0, 1\]", {"bounds": (0, 1)}),
        (ShapeError, "bounds", {"bounds": ([0, 0, 0], 1)}),
        (InputError, "lower bound", {"bounds": (5, -5)}),
        (InputError, "pair", {"bounds": 3}),
        (UsageError, "2 different names", {"names": ["mass"]}),
        (UsageError, "density='glow'", {"density": "glow"}),
        (UsageError, "summary='cnn'", {"summary": "cnn"}),
        (ShapeError, r"\(N, C, T\)", {"summary": "series"}),
        (ShapeError, "summary='set'", {"x": torch.randn(100, 5, 2)}),
        (UsageError, "size has no 'depths'", {"size": {"depths": 2}}),
        (UsageError, "whole number", {"size": {"depth": 0}}),
        (UsageError, "held_out", {"held_out": 1.5}),
        (UsageError, "budget goes with", {"budget": 10}),
        (UsageError, "not both", {"simulator": lambda t: t}),
    ],
)
def test_bad_input_is_one_line(kind, words, change):
    options = {"theta": torch.randn(100, 2), "x": torch.randn(100, 3), "names": ["mass", "age"]}
    with pytest.raises(kind, match=words) as caught:
        amortized.fit(**options | change, progress=False)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "change"),
    [
        ("a prior and a budget", {"prior": None}),
        ("sample", {"prior": 3}),
        ("number of simulations", {"budget": 0}),
        ("one row per theta", {"simulator": lambda t: t.sum()}),
        ("one row per theta", {"simulator": lambda t: t[:3]}),
        ("not an array", {"simulator": lambda t: "text"}),
        ("same shape", {"simulator": lambda t: t[: 1 + (t[0] > 0)], "vectorized": False}),
    ],
)
def test_bad_simulators_are_one_line(words, change):
    options = {"simulator": lambda t: t, "prior": PRIOR, "budget": 100, "progress": False}
    with pytest.raises(InnverseError, match=words) as caught:
        amortized.fit(**options | change)
    assert "\n" not in str(caught.value)


def test_bad_questions_are_one_line(learned):
    x = torch.zeros(3)
    cases = [
        (ShapeError, r"x must be \(3,\)", lambda: learned.sample((2,), x=torch.zeros(4))),
        (ShapeError, "2 observations", lambda: learned.sample((2,), x=torch.zeros(2, 3))),
        (InputError, "NaN", lambda: learned.sample((2,), x=x * torch.nan)),
        (ShapeError, r"theta must be \(..., 2\)", lambda: learned.log_prob(torch.zeros(3), x=x)),
        (ShapeError, "one per row", lambda: learned.log_prob(torch.zeros(3, 2), torch.zeros(2, 3))),
        (ShapeError, "does not fit", lambda: learned.log_prob_batched(torch.zeros(3, 2), x)),
    ]
    for kind, words, call in cases:
        with pytest.raises(kind, match=words) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_a_summary_of_ones_own_works_and_says_it_cannot_be_saved(tmp_path):
    theta, x = pairs(100)
    own = torch.nn.Linear(3, 4)
    found = amortized.fit(theta, x, summary=own, size=TINY, **QUICK | {"max_epochs": 1})
    assert found.sample((3,), x=x[0]).shape == (3, 2)
    with pytest.raises(InnverseError, match="of your own"):
        found.save(tmp_path / "p")
