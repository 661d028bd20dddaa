"""Batched L-BFGS: as economical as torch's, and every item for itself."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from innverse.errors import ShapeError
from innverse.optim import adam, lbfgs


def rosenbrock(z):
    return (100 * (z[:, 1:] - z[:, :-1] ** 2) ** 2 + (1 - z[:, :-1]) ** 2).sum(1)


def quadratic(z):
    curvature = torch.logspace(0, 3, z.shape[1], dtype=z.dtype)
    return 0.5 * (curvature * (z - 1) ** 2).sum(1)


def network(z):
    g = torch.Generator().manual_seed(0)
    w1 = torch.randn(40, z.shape[1], dtype=z.dtype, generator=g) / 6
    w2 = torch.randn(30, 40, dtype=z.dtype, generator=g) / 6
    return (torch.tanh(torch.tanh(z @ w1.T) @ w2.T) - 0.2).square().sum(1)


def softplus(z):
    return (torch.nn.functional.softplus(3 * z) - z + 0.01 * z**2).sum(1)


def start(batch, n, scale=1.0, seed=0, dtype=torch.float64):
    return scale * torch.randn(batch, n, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def torch_evals(fun, z0, tol_grad):
    z, count = z0.clone().requires_grad_(), 0
    optimizer = torch.optim.LBFGS(
        [z], max_iter=2000, max_eval=10**6, tolerance_grad=tol_grad, tolerance_change=0,
        history_size=10, line_search_fn="strong_wolfe",
    )  # fmt: skip

    def closure():
        nonlocal count
        count += 1
        optimizer.zero_grad()
        value = fun(z).sum()
        value.backward()
        return value

    optimizer.step(closure)
    return count


@pytest.mark.parametrize(
    ("fun", "n", "scale"),
    [
        (rosenbrock, 2, 1.0),
        (rosenbrock, 10, 1.0),
        (rosenbrock, 50, 1.0),
        (quadratic, 100, 1.0),
        (network, 60, 0.1),
        (softplus, 100, 5.0),
    ],
)
def test_is_about_as_economical_as_torch(fun, n, scale):
    z0 = start(4, n, scale)
    result = lbfgs.minimize(fun, z0, max_iter=2000, tol_grad=1e-5, tol_change=0)
    expected = sum(torch_evals(fun, z0[i : i + 1], 1e-5) for i in range(4))
    assert bool(result.converged.all()), result.status
    assert float(result.grad_norm.max()) <= 1e-5
    assert int(result.n_evals.sum()) <= 2 * expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_finds_the_minimum_of_images(dtype):
    target = torch.rand(3, 2, 4, 5, dtype=dtype)

    def fun(z, idx):
        return ((z - target[idx]) ** 2).flatten(1).sum(1)

    result = lbfgs.minimize(fun, torch.zeros_like(target))
    assert result.z.shape == target.shape and result.z.dtype == dtype
    assert torch.allclose(result.z, target, atol=1e-5)
    assert [t[-1] for t in result.trace] == pytest.approx(result.value.tolist())
    assert all(b <= a for t in result.trace for a, b in pairwise(t))


def test_gradients_may_be_given():
    target = torch.rand(3, 5)

    def fun(z, idx):
        assert z.shape[0] == idx.shape[0]
        difference = z.detach() - target[idx]
        return 0.5 * difference.square().sum(1), difference

    assert torch.allclose(lbfgs.minimize(fun, torch.zeros(3, 5)).z, target, atol=1e-5)


def test_float32_stops_at_its_rounding():
    result = lbfgs.minimize(rosenbrock, start(6, 10, dtype=torch.float32), tol_grad=0, tol_change=0)
    assert bool(result.converged.all()), result.status
    assert float(result.grad_norm.max()) < 0.05 and int(result.n_evals.max()) < 400


def test_the_inverse_hessian_of_each_item_leads_to_the_minimum_at_once():
    """Quadratics of different items, of which the second finds nothing on the gradient's way alone."""
    curvature = torch.stack([torch.logspace(0, k, 20).double() for k in (1, 4)])

    def fun(z, idx):
        return 0.5 * (curvature[idx] * (z - 1).square()).sum(1)

    result = lbfgs.minimize(fun, start(2, 20), precondition=lambda r, idx: r / curvature[idx])
    torch.testing.assert_close(result.z, torch.ones_like(result.z))
    assert bool(result.converged.all()) and int(result.n_evals.max()) <= 3


def test_a_precondition_that_is_wrong_still_leads_to_the_minimum():
    scale = torch.logspace(-1, 1, 6).double()
    options = {"tol_change": 0, "precondition": lambda r, idx: r * scale}
    result = lbfgs.minimize(rosenbrock, start(3, 6), **options)
    assert bool(result.converged.all())
    assert float(result.grad_norm.max()) <= 1e-5


@pytest.mark.parametrize("fun", [rosenbrock, network])
def test_an_item_does_not_see_the_others(fun):
    z0 = start(5, 20, scale=0.5)
    together = lbfgs.minimize(fun, z0, max_iter=40)
    for i in range(5):
        alone = lbfgs.minimize(fun, z0[i : i + 1], max_iter=40)
        assert torch.allclose(together.z[i], alone.z[0], atol=1e-5)


def test_finished_items_leave_the_batch():
    seen = []

    def fun(z, idx):
        seen.append(idx.tolist())
        return torch.stack(
            [
                rosenbrock(row[None])[0] if i else row.square().sum()
                for i, row in zip(idx, z, strict=True)
            ]
        )

    result = lbfgs.minimize(fun, start(3, 6))
    assert seen[0] == [0, 1, 2] and 0 not in seen[10]
    assert [sum(i in s for s in seen) for i in range(3)] == result.n_evals.tolist()


@pytest.mark.parametrize("where", ["value", "gradient"])
def test_nan_beyond_a_wall_makes_only_that_item_backtrack(where):
    z0 = start(4, 8, seed=1)

    def fun(z, idx):
        values = rosenbrock(z)
        (grads,) = torch.autograd.grad(values.sum(), z)
        # item 2 starts inside a ball outside of which nothing is defined; the minimum is inside
        outside = (idx == 2) & ((z - 1).norm(dim=1) > (z0[2] - 1).norm() * 1.0001)
        if where == "value":
            values = torch.where(outside, torch.nan, values)
        else:
            grads = torch.where(outside[:, None], torch.inf, grads)
        return values, grads

    walled = lbfgs.minimize(fun, z0, max_iter=500)
    free = lbfgs.minimize(rosenbrock, z0, max_iter=500)
    assert bool(walled.converged.all()) and bool(torch.isfinite(walled.z).all())
    for i in (0, 1, 3):
        assert torch.allclose(walled.z[i], free.z[i], atol=1e-6)
        assert abs(int(walled.n_evals[i] - free.n_evals[i])) <= 2


@pytest.mark.parametrize("minimize", [lbfgs.minimize, adam.minimize])
def test_an_item_that_fails_for_good_keeps_its_best_point(minimize):
    z0 = start(3, 6)
    calls = 0

    def fun(z, idx):
        nonlocal calls
        calls += 1
        return torch.where((idx == 1) & (calls > 10), torch.nan, rosenbrock(z))

    broken = minimize(fun, z0, max_iter=300)
    whole = minimize(rosenbrock, z0, max_iter=300)
    assert broken.status[1].startswith("failed") and not bool(broken.converged[1])
    assert bool(torch.isfinite(broken.z).all())
    assert rosenbrock(broken.z)[1] < rosenbrock(z0)[1]
    assert float(rosenbrock(broken.z)[1]) == pytest.approx(float(broken.value[1]))
    for i in (0, 2):
        assert torch.allclose(broken.z[i], whole.z[i], atol=1e-6)


@pytest.mark.parametrize("minimize", [lbfgs.minimize, adam.minimize])
def test_nan_at_the_start_fails_one_item(minimize):
    z0 = start(3, 6)
    z0[0] = torch.nan
    result = minimize(quadratic, z0, max_iter=2000)
    assert result.status[0] == "failed: the objective is NaN or Inf at the start"
    assert int(result.n_evals[0]) == 1
    assert torch.allclose(result.z[1:], torch.ones(()).double(), atol=1e-2)


def test_a_wrong_gradient_is_a_failure_not_convergence():
    def fun(z, idx):
        return z.square().sum(1), torch.where((idx == 0)[:, None], -z, 2 * z)

    result = lbfgs.minimize(fun, torch.ones(2, 3))
    assert result.status[0] == "failed: the line search found no decrease"
    assert bool(result.converged[1]) and torch.equal(result.z[0], torch.ones(3))


def test_limits():
    z0 = start(2, 30)
    result = lbfgs.minimize(rosenbrock, z0, max_iter=5)
    assert result.status == ["max_iter"] * 2 and result.iterations.tolist() == [5, 5]
    result = lbfgs.minimize(rosenbrock, z0, max_evals=7)
    assert result.status == ["max_evals"] * 2 and result.n_evals.tolist() == [7, 7]
    assert not bool(result.converged.any())
    assert lbfgs.minimize(rosenbrock, z0, max_iter=0).n_evals.tolist() == [1, 1]


def test_loose_tolerance_on_the_change_stops_early():
    z0 = start(2, 30)
    loose = lbfgs.minimize(rosenbrock, z0, tol_change=1e-2)
    tight = lbfgs.minimize(rosenbrock, z0, tol_change=1e-9)
    assert bool(loose.converged.all()) and bool((loose.n_evals < tight.n_evals).all())


def test_a_scaled_problem_takes_the_same_path():
    z0 = start(1, 10)
    plain = lbfgs.minimize(rosenbrock, z0, tol_grad=0, max_iter=30)
    scaled = lbfgs.minimize(lambda z: 1e-6 * rosenbrock(z), z0, tol_grad=0, max_iter=60)
    assert float(scaled.value) * 1e6 <= float(plain.value) * 1.5 + 1e-12


@pytest.mark.parametrize("minimize", [lbfgs.minimize, adam.minimize])
def test_callback_and_interruption(minimize):
    z0 = start(3, 20)
    seen = []

    def watch(progress):
        seen.append((progress.rounds, progress.active, progress.value.clone()))
        assert progress.z.shape == z0.shape
        return progress.rounds >= 4

    result = minimize(rosenbrock, z0, callback=watch)
    assert result.status == ["stopped"] * 3
    assert [s[0] for s in seen] == [1, 2, 3, 4]
    assert bool((seen[-1][2] <= seen[0][2]).all())

    calls = 0

    def fun(z):
        nonlocal calls
        calls += 1
        if calls > 20:
            raise KeyboardInterrupt
        return rosenbrock(z)

    result = minimize(fun, z0)
    assert result.interrupted and bool((result.value < rosenbrock(z0)).all())
    assert torch.allclose(rosenbrock(result.z), result.value)


def test_history_of_any_length():
    for history in (1, 3, 100):
        result = lbfgs.minimize(quadratic, start(2, 40), history=history, max_iter=3000)
        assert bool(result.converged.all())


def test_one_value_per_item_is_demanded():
    with pytest.raises(ShapeError, match=r"one value per item, shape \(2,\)"):
        lbfgs.minimize(lambda z: z.square().sum(), torch.ones(2, 3))


def test_adam_finds_the_minimum_and_items_are_independent():
    z0 = start(4, 10, scale=0.3)
    result = adam.minimize(rosenbrock, z0, max_iter=2000, lr=0.02)
    assert float(result.value.max()) < 5.0 and float(result.value.min()) < 0.5
    for i in range(2):
        alone = adam.minimize(rosenbrock, z0[i : i + 1], max_iter=2000, lr=0.02)
        assert torch.allclose(alone.z[0], result.z[i], atol=1e-6)
    early = adam.minimize(quadratic, z0, max_iter=2000, tol_change=0.1)
    assert bool(early.converged.all()) and int(early.iterations.max()) < 2000


def test_adam_survives_a_round_in_which_every_item_meets_nan():
    def cliff(z):
        value = (z - 1).square().sum(1)
        return value.masked_fill(z.amax(1) > 0.95, torch.nan)

    result = adam.minimize(cliff, torch.zeros(2, 3), max_iter=400, lr=0.3, decay=False)
    assert (result.n_evals > result.iterations).all()  # it has met the cliff
    assert float(result.value.max()) < 1.0 and bool(torch.isfinite(result.z).all())
