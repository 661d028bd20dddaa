"""The C++ kernels: equal to their formulas, and never in the way."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from innverse.bijections import RationalQuadraticSpline
from innverse.native import Unavailable, build
from innverse.native import spline as native

SHAPES = {"rows of 32": (64, 32), "odd": (7, 5), "images": (3, 2, 5, 7), "one": (1, 1)}


@pytest.fixture
def library():
    try:
        return build.load("spline")
    except Unavailable as why:
        pytest.skip(f"no C++ kernel here: {why}")


def inputs(shape, bins, dtype=torch.float32):
    torch.manual_seed(0)
    x = 2 * torch.randn(shape, dtype=torch.float64)  # some beyond the bound
    p = torch.randn(shape[0], 3 * bins - 1, *shape[1:], dtype=torch.float64)
    return x.to(dtype).requires_grad_(), p.to(dtype).requires_grad_()


def value_and_gradient(function, x, p):
    z, log_derivative = function(x, p)
    weights = torch.linspace(-1, 1, z.numel(), dtype=z.dtype).view_as(z)
    loss = (z * weights).sum() + (log_derivative * weights.cos()).sum()
    return [t.double() for t in (z, log_derivative, *torch.autograd.grad(loss, (x, p)))]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("bins", [2, 8, 13])
@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_the_kernel_is_the_formula(library, shape, bins, direction):
    map = RationalQuadraticSpline(bins, 3.0)
    assert native.applies(*inputs(shape, bins), bins)
    found = value_and_gradient(getattr(map, direction), *inputs(shape, bins))
    formula = getattr(map, f"{direction}_formula")
    exact = value_and_gradient(formula, *inputs(shape, bins, torch.float64))
    torch.testing.assert_close(found, exact, rtol=2e-3, atol=2e-4)


def test_second_derivatives_go_through_the_formula(library):
    map = RationalQuadraticSpline(4, 3.0)

    def second(function):
        x, p = inputs((3, 5), 4)
        z, log_derivative = function(x, p)
        (g,) = torch.autograd.grad(z.square().sum() + log_derivative.sum(), x, create_graph=True)
        return torch.autograd.grad(g.square().sum(), (x, p))

    torch.testing.assert_close(
        second(map.forward), second(map.forward_formula), rtol=1e-3, atol=1e-3
    )


def test_strided_input_and_what_is_not_a_number(library):
    map = RationalQuadraticSpline(4, 3.0)
    x, p = (t.detach() for t in inputs((6, 8), 4))
    expected = map.forward(x, p)
    strided = map.forward(x.T.contiguous().T, p.movedim(1, -1).contiguous().movedim(-1, 1))
    torch.testing.assert_close(strided, expected)
    x[2, 3] = float("nan")
    z, _ = map.forward(x, p)
    assert z.isnan().nonzero().tolist() == [[2, 3]]


def test_a_compiler_that_fails_is_a_reason_and_not_a_crash(monkeypatch, tmp_path):
    build.load.cache_clear()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    try:
        monkeypatch.setenv("CXX", "false")
        with pytest.raises(Unavailable):
            build.load("spline")
        monkeypatch.setenv("CXX", "no-such-compiler")
        with pytest.raises(Unavailable, match="no-such-compiler"):
            build.load("spline")
        monkeypatch.setenv("INNVERSE_NATIVE", "0")
        with pytest.raises(Unavailable, match="turned off"):
            build.load("spline")
        assert not list((tmp_path / "innverse").glob("*.so"))
        (tmp_path / "innverse").chmod(0o777)
        monkeypatch.delenv("INNVERSE_NATIVE")
        with pytest.raises(Unavailable, match="written by others"):
            build.load("spline")
    finally:
        build.load.cache_clear()


def test_without_kernels_the_formula_serves():
    code = (
        "import torch; from innverse import flows; from innverse.native import spline;"
        "assert spline._library() is None;"
        "flow = flows.build('spline', (4,), layers=2, width=8);"
        "assert flow.log_prob(torch.randn(3, 4)).isfinite().all()"
    )
    environment = {**os.environ, "INNVERSE_NATIVE": "0"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
