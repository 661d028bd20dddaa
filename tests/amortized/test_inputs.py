"""What is handed in and comes out: types, digits, bounds with their ends, gradients, copies."""

from __future__ import annotations

import copy
import math
import pickle
import warnings

import numpy as np
import pytest
import torch

from innverse import amortized
from innverse.amortized.checks import as_floats, as_shape
from innverse.errors import InnverseError, InputError, ShapeError, UsageError
from innverse.fitting.schedule import schedule_of

QUICK = {"max_epochs": 1, "size": {"layers": 2, "width": 8}, "progress": False}
LONGER = QUICK | {"max_epochs": 20, "density": "realnvp", "lr": 5e-3}


def pairs(n: int = 120, dtype=torch.float32):
    g = torch.Generator().manual_seed(0)
    theta = torch.randn(n, 2, generator=g, dtype=torch.float64)
    x = theta + 0.5 * torch.randn(n, 2, generator=g, dtype=torch.float64)
    return theta.to(dtype), x.to(dtype)


@pytest.fixture(scope="module")
def learned():
    torch.set_num_threads(1)
    options = QUICK | {"max_epochs": 4, "density": "realnvp", "bounds": ([-9, None], [7.0, None])}
    return amortized.fit(*pairs(400), **options)


# ---- types --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "dtype"),
    [
        (torch.Tensor.half, torch.float32),
        (torch.Tensor.bfloat16, torch.float32),
        (torch.Tensor.double, torch.float64),
        (lambda t: (10 * t).int(), torch.float64),
        (torch.Tensor.tolist, torch.float64),
        (list, torch.float32),
        (torch.Tensor.numpy, torch.float32),
        (lambda t: t.numpy().astype(">f8"), torch.float64),
        (lambda t: t.numpy().astype(np.longdouble), torch.float64),
        (lambda t: t.numpy().astype(object), torch.float64),
        (lambda t: t.numpy()[::-1], torch.float32),
        (torch.Tensor.to_sparse, torch.float32),
        (lambda t: t.clone().requires_grad_(), torch.float32),
    ],
)
def test_arrays_of_every_kind(make, dtype):
    theta, x = map(make, pairs())
    found = amortized.fit(theta, x, **QUICK)
    draws = found.sample((3,), x=make(pairs()[1])[0])
    assert draws.dtype == dtype and draws.isfinite().all() and not draws.requires_grad
    assert found.log_prob(make(pairs()[0]), x=pairs()[1][0]).shape == (120,)


@pytest.mark.parametrize(
    ("words", "values"),
    [
        ("no numbers", [["a", "b"]]),
        ("no numbers", np.array(["2020-01-01"], "M8[D]")),
        ("complex", torch.zeros(3, 2) + 0j),
        ("complex", np.zeros((3, 2)) + 0j),
        ("beyond 2\\^53", [2**53 + 1, 2**53 + 3]),
        ("beyond 2\\^53", torch.tensor([-(2**60)])),
        ("array of numbers", [[1.0, 2.0], [1.0]]),
        ("array of numbers", {"a": 1}),
        ("None", None),
        ("meta", torch.zeros(2, device="meta")),
    ],
)
def test_what_is_no_array_of_numbers(words, values):
    with pytest.raises(InputError, match=words) as caught:
        as_floats(values, "theta")
    assert "\n" not in str(caught.value)


def test_masked_entries_are_missing():
    masked = np.ma.masked_array([1.0, 2.0], mask=[False, True])
    assert as_floats(masked, "x")[1].isnan()


def test_shapes_of_samples(learned):
    x = pairs()[1]
    for shape, lead in (((0,), (0,)), (5, (5,)), (np.int64(2), (2,)), ([2, 3], (2, 3)), ((), ())):
        assert learned.sample(shape, x=x[0]).shape == (*lead, 2)
        assert learned.sample_batched(shape, x[:4]).shape == (*lead, 4, 2)
    assert learned.sample_batched((3,), x[:0]).shape == (3, 0, 2)
    assert learned.log_prob(torch.zeros(0, 2), x=x[0]).shape == (0,)
    assert learned.log_prob_batched(torch.zeros(3, 0, 2), x[:0]).shape == (3, 0)
    for bad in (-1, (-1,), (2.5,), "a", None):
        with pytest.raises(UsageError, match="sample_shape="):
            as_shape(bad)


def test_bad_parameters_and_observations_are_one_line(learned):
    theta, x = pairs()
    for kind, words, call in (
        (ShapeError, "0 observations", lambda: learned.sample((2,), x=x[:0])),
        (ShapeError, "2 observations", lambda: learned.sample((2,), x=x[:2])),
        (InputError, "NaN", lambda: learned.log_prob(theta * math.nan, x=x[0])),
        (InputError, "NaN", lambda: learned.sample((2,), x=x[0] * math.nan)),
        (ShapeError, "3 observations", lambda: learned.log_prob(theta[:5], x=x[:3])),
        (ShapeError, r"x must be \(2,\)", lambda: learned.sample((2,), x=1.5)),
    ):
        with pytest.raises(kind, match=words) as caught:
            call()
        assert "\n" not in str(caught.value)


# ---- digits -------------------------------------------------------------------------------------


def test_small_differences_of_large_numbers_are_learned(tmp_path):
    """theta = 10^9 + N(0, 1), of which float32 knows steps of 64; x = theta + noise of 0.2."""
    g = torch.Generator().manual_seed(0)
    small = torch.randn(600, 1, generator=g, dtype=torch.float64)
    noise = 0.2 * torch.randn(600, 1, generator=g, dtype=torch.float64)
    bounds = 1e9 - 50, 1e9 + 50
    found = amortized.fit(1e9 + small, 3e9 + small + noise, bounds=bounds, **LONGER)
    found.save(tmp_path / "p")
    for posterior in (found, amortized.load(tmp_path / "p")):
        draws = posterior.sample((500,), x=[3e9 + 1.0])
        assert draws.dtype == torch.float64
        assert abs(float(draws.mean()) - 1e9 - 1) < 0.3 and float(draws.std()) < 0.6
        assert posterior.bounds[0].tolist() == [1e9 - 50]
    best = found.map([3e9 + 1.0])
    assert abs(float(best) - 1e9 - 1) < 0.3
    log_q = found.log_prob([[1e9 + 1.0], [1e9 + 3.0]], x=[3e9 + 1.0])
    assert log_q[0] > log_q[1] + 2


def test_one_is_handed_the_density_of_ones_own_digits():
    """coverage's joint regions compare densities of draws and truth, which float32 makes equal."""
    from innverse.metrics import calibration

    class Exact:
        def sample(self, shape, x, generator=None):
            raise NotImplementedError

        def sample_batched(self, shape, x, generator=None):
            return x + torch.randn(*shape, *x.shape, generator=generator, dtype=x.dtype)

        def log_prob_batched(self, theta, x):
            return -0.5 * (theta - x).square().sum(-1)

    g = torch.Generator().manual_seed(0)
    x = 1e9 + torch.randn(500, 1, dtype=torch.float64, generator=g)
    theta = x + torch.randn(500, 1, dtype=torch.float64, generator=g)
    found = calibration.coverage(Exact(), theta, x, draws=200, generator=g)
    assert (found.joint - found.levels).abs().max() < 0.08


# ---- bounds -------------------------------------------------------------------------------------


def test_training_draws_on_the_bounds_are_inside_in_their_own_type():
    """0.1 of float32 lies above 0.1, and is no draw outside of [0, 0.1]."""
    theta = 0.1 * torch.rand(200, 1)
    theta[:20], theta[20:40] = 0.0, 0.1
    x = theta + torch.randn(200, 1)
    found = amortized.fit(theta, x, bounds=(0.0, 0.1), **QUICK)
    ends = torch.tensor([[0.0], [0.1], [-1e-6], [0.1000001], [math.inf], [-math.inf]])
    log_q = found.log_prob(ends, x=x[0])
    assert log_q[:2].isfinite().all() and (log_q[2:] == -math.inf).all()
    exact = found.log_prob(ends.double(), x=x[0])
    assert torch.equal(exact.isfinite(), log_q.isfinite())
    assert found.log_prob([[0.1]], x=x[0]).isfinite()
    draws = found.sample((3000,), x=x[0])
    assert (draws > 0).all() and (draws.double() < 0.1).all()
    assert found.log_prob(draws, x=x[0]).isfinite().all()


def test_whole_numbers_at_both_bounds():
    theta = torch.randint(0, 4, (300, 1))
    x = theta + 0.5 * torch.randn(300, 1)
    found = amortized.fit(theta, x, bounds=(0, 3), **QUICK)
    assert found.log_prob(theta, x=x[0]).isfinite().all()
    draws = found.sample((500,), x=x[0])
    assert ((draws > 0) & (draws < 3)).all()


# ---- gradients and copies -----------------------------------------------------------------------


@pytest.mark.parametrize("density", ["nsf", "realnvp", "mdn", "flow_matching"])
def test_gradients_by_theta_and_x_against_differences(density):
    theta, x = pairs(200)
    bounds = ([-6.0, None], [6.0, None])
    found = amortized.fit(theta, x, density=density, bounds=bounds, **QUICK | {"max_epochs": 3})
    t, c = theta[:4].clone().requires_grad_(), x[:4].clone().requires_grad_()
    by_theta, by_x = torch.autograd.grad(found.log_prob(t, x=c).sum(), (t, c))
    e = 5e-3 * torch.eye(2)
    for k in range(2):
        for given, slope in ((theta, by_theta), (x, by_x)):
            up, down = given[:4] + e[k], given[:4] - e[k]
            ends = [(u, x[:4]) if given is theta else (theta[:4], u) for u in (up, down)]
            high, low = (found.log_prob(a, x=b) for a, b in ends)
            torch.testing.assert_close((high - low) / 1e-2, slope[:, k], atol=0.02, rtol=0.02)
    batched = found.log_prob_batched(t.unsqueeze(0), c)
    assert torch.equal(torch.autograd.grad(batched.sum(), t)[0], by_theta)
    by_rows = torch.func.vmap(torch.func.grad(lambda a: found.log_prob(a, x=x[0])))(theta[:4])
    want = torch.autograd.grad(found.log_prob(t, x=x[0]).sum(), t)[0]
    torch.testing.assert_close(by_rows, want, atol=1e-4, rtol=1e-3)


def test_graphs_are_made_where_they_are_asked_for(learned):
    theta, x = pairs()
    t = theta[:3].clone().requires_grad_()
    assert not learned.log_prob(theta, x=x[0]).requires_grad
    assert learned.log_prob(t, x=x[0]).requires_grad
    assert not learned.log_prob(t, x=x[0], track_gradients=False).requires_grad
    with torch.no_grad():
        assert not learned.log_prob(t, x=x[0]).requires_grad
        assert learned.log_prob(t, x=x[0], track_gradients=True, norm_posterior=False).requires_grad
    outside = torch.tensor([[8.0, 0.0], [7.0, 0.0], [0.0, 0.0]], requires_grad=True)
    value = learned.log_prob(outside, x=x[0])
    assert value[0] == -math.inf
    assert torch.autograd.grad(value[1:].sum(), outside)[0].isfinite().all()


def test_copies_are_the_same(learned):
    theta, x = pairs()
    want = learned.log_prob(theta, x=x[0])
    learned.log_prob(theta.clone().requires_grad_(), x=x[0])  # a graph leaves nothing behind
    for again in (copy.deepcopy(learned), pickle.loads(pickle.dumps(learned))):
        assert torch.equal(again.log_prob(theta, x=x[0]), want)
    both = amortized.fit_bidirectional(theta, x, loss="ml", pad_to=4, max_epochs=1, progress=False)
    again = pickle.loads(pickle.dumps(both))
    assert torch.equal(again.predict(theta), both.predict(theta))
    assert both.sample(3, x=x[0].half()).shape == (3, 2)
    assert both.sample((0,), x=x[0]).shape == (0, 2) and both.predict(theta[:0]).shape == (0, 2)


# ---- columns ------------------------------------------------------------------------------------


def test_columns_of_very_different_scale_and_constant_ones():
    """Every column counts in its own unit; one that never changes tells nothing and does no harm."""
    theta, x = pairs(400, torch.float64)
    scale = torch.tensor([1e-12, 1e15], dtype=torch.float64)
    x = torch.cat((x * torch.tensor([1e-20, 1e20]), torch.full((400, 1), 7.0)), 1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = amortized.fit(theta * scale, x, **LONGER)
        draws = found.sample_batched((200,), x[:50]) / scale
    truth = theta[:50]
    assert float((draws.mean(0) - truth).square().mean().sqrt()) < 0.75  # .45 at best, prior 1
    assert found.log_prob(theta * scale, x=x[0]).isfinite().all()


def test_options_of_the_training_are_those_of_its_schedule():
    for train in (amortized.fit, amortized.fit_bidirectional):
        with pytest.raises(
            UsageError, match="no option of the training is called 'epochs': .*'max_epochs'"
        ):
            train(*pairs(), epochs=3)
        with pytest.raises(UsageError, match="patience=0"):
            train(*pairs(), patience=0)
    given = schedule_of(weight_decay=0.5, max_epochs=3)
    assert (given.weight_decay, given.heavy_decay, given.light_decay) == (0.5, None, None)
    assert schedule_of(max_epochs=3) == schedule_of(max_epochs=3, weight_decay=None)
    assert schedule_of().heavy_decay is not None


def test_names_of_ones_own(tmp_path):
    with pytest.raises(UsageError, match="different names"):
        amortized.fit(*pairs(), names=["a", "a"], **QUICK)
    found = amortized.fit(*pairs(), names=["b$$", "<b>量"], **QUICK)
    found.save(tmp_path / "p")
    assert amortized.load(tmp_path / "p").names == ["b$$", "<b>量"]


def test_nothing_of_ones_own_is_accepted_in_silence(learned, tmp_path):
    import json

    learned.save(tmp_path / "p")
    config = tmp_path / "p" / "config.json"
    made = json.loads(config.read_text())
    for key, value in (("dtype", "float16"), ("region", [["ball", 2]]), ("region", 3)):
        config.write_text(json.dumps(made | {key: value}))
        with pytest.raises(InnverseError, match="region"):
            amortized.load(tmp_path / "p")
