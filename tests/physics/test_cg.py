"""Iterations against closed forms, and that they say when they have stopped before the end."""

from __future__ import annotations

import warnings

import pytest
import torch

from innverse import physics as P
from innverse.errors import NotConvergedWarning
from innverse.physics.cg import conjugate_gradient, default_tol, least_squares


def operator(singular_values, rows, seed=0):
    """A (rows, n) of given singular values, in float64."""
    g = torch.Generator().manual_seed(seed)
    n = len(singular_values)
    u, _ = torch.linalg.qr(torch.randn(rows, n, dtype=torch.float64, generator=g))
    v, _ = torch.linalg.qr(torch.randn(n, n, dtype=torch.float64, generator=g))
    return (u * torch.as_tensor(singular_values, dtype=torch.float64)) @ v.T


def both_ways(a):
    return lambda x: x @ a.T, lambda y: y @ a


@pytest.mark.parametrize("condition", [10.0, 5e3])
def test_least_squares_is_the_pseudo_inverse(condition):
    a = operator(torch.logspace(0, -torch.tensor(condition).log10(), 60), 80)
    y = torch.randn(3, 80, dtype=torch.float64)
    found = least_squares(*both_ways(a), y)
    expected = y @ torch.linalg.pinv(a).T
    assert (found - expected).norm() < 1e-7 * condition * y.norm()
    assert (((found - expected) @ a.T).norm()) < 1e-6 * y.norm()


def test_least_squares_that_stops_early_says_so():
    a = operator(torch.logspace(0, -4, 60), 80)
    y = torch.randn(3, 80, dtype=torch.float64)
    y[1] = 0  # nothing to do for this one
    with pytest.warns(NotConvergedWarning, match=r"least squares stopped .* for 2 of 3 items"):
        found = least_squares(*both_ways(a), y, max_iter=5)
    assert (found @ a.T - y).norm() < y.norm()  # what there is of it is handed out


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_data_that_nothing_explains_are_no_failure(dtype):
    """A^T y is then a small difference of large numbers: to its rounding is far enough."""
    a = operator(torch.linspace(1, 0.1, 30), 200)
    y = torch.randn(2, 200, dtype=torch.float64)
    y = 1e3 * (y - y @ torch.linalg.pinv(a).T @ a.T) + torch.ones(30).double() @ a.T
    found = least_squares(*both_ways(a.to(dtype)), y.to(dtype)).double()
    gradient = (found @ a.T - y) @ a
    assert gradient.norm() < 3 * default_tol(torch.empty(0, dtype=dtype)) * y.norm()


def test_conjugate_gradients_that_stop_early_say_so():
    a = operator(torch.logspace(0, -3, 40), 40)
    m = a.T @ a + 1e-4 * torch.eye(40, dtype=torch.float64)
    rhs = torch.randn(2, 40, dtype=torch.float64)
    found = conjugate_gradient(lambda x: x @ m, rhs)
    assert torch.allclose(found @ m, rhs, atol=1e-9)
    with pytest.warns(NotConvergedWarning, match="conjugate gradients stopped .* for 2 of 2 items"):
        conjugate_gradient(lambda x: x @ m, rhs, max_iter=3)
    rhs[0] = 0
    with pytest.warns(NotConvergedWarning, match="for 1 of 2 items"):
        conjugate_gradient(lambda x: -x, rhs)  # not positive definite


def test_what_is_not_a_number_stays_so_in_its_item_only():
    rhs = torch.ones(3, 4)
    rhs[1, 2] = torch.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = (
            conjugate_gradient(lambda x: 2 * x, rhs),
            least_squares(*both_ways(torch.eye(4)), rhs),
        )
    for x in found:
        assert x.isnan().all(1).tolist() == [False, True, False]


def test_the_operators_hand_the_warning_on():
    """A strong blur cannot be undone, and whoever asks for that is told."""
    physics = P.Blur(P.gaussian_kernel(2.0), "reflect")
    y = physics.A(torch.rand(1, 1, 24, 24)) + 0.01 * torch.randn(1, 1, 24, 24)
    with pytest.warns(NotConvergedWarning, match="badly conditioned"):
        physics.A_dagger(y)
    x = physics.solve_normal(physics.A_adjoint(y), 1e-2)
    assert torch.allclose(physics.A_normal(x) + 1e-2 * x, physics.A_adjoint(y), atol=1e-5)
