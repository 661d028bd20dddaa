"""The baselines through `solve`: they are what their functions are, and report like the others."""

from __future__ import annotations

import pytest
import torch

from innverse import physics as P
from innverse.solvers import solve
from innverse.solvers.baselines import lasso, tv


def measurement():
    generator = torch.Generator().manual_seed(0)
    x = torch.linspace(0, 1, 16).expand(2, 1, 16, 16)
    physics = P.CompressedSensing(120, (1, 16, 16), noise=0.01)
    return physics, physics(x.contiguous(), generator), x


def test_solve_gives_what_the_functions_give():
    physics, y, x = measurement()
    r = solve(y, physics, None, "lasso", lam=0.02, basis="haar", steps=300)
    torch.testing.assert_close(r.x, lasso(y, physics, 0.02, "haar", 300))
    r = solve(y, physics, None, "tv", steps=200)
    torch.testing.assert_close(r.x, tv(y, physics, iters=200))
    assert r.z is None and r.log_prob is None and r.z_norm is None
    assert (r.x - x).square().mean() < 1e-3


@pytest.mark.parametrize(("method", "options"), [("lasso", {"lam": 0.05}), ("tv", {"lam": 0.1})])
def test_iterations_and_convergence_are_reported_per_item(method, options):
    physics, y, _ = measurement()
    physics.noise = P.NoNoise()  # these weights leave more than the noise
    y[1] = 0  # nothing to do: this item settles at the first check
    r = solve(y, physics, None, method, steps=2000, **options)
    assert r.converged.all() and r.status == ["converged"] * 2
    assert r.evaluations[1] < r.evaluations[0] < 2000
    assert len(r.trace[-1]["residual"]) == 2
    short = solve(y, physics, None, method, steps=10, **options)
    assert short.status[0] == "max_iter" and not short.converged[0]
    assert short.evaluations[0] == 10
