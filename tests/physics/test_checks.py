"""What is wrong with an operator is said in words, and what is right is not accused."""

from __future__ import annotations

import pytest
import torch

from innverse import physics as P
from innverse.errors import InputError
from innverse.physics.checks import check_operator

X = torch.zeros(2, 1, 8, 8)


def _random(x):
    return x + 0.1 * torch.rand_like(x)


def _first_zeroed(x):
    return torch.where(x == 0, torch.nan, x)


class Diagonal(P.LinearPhysics):
    """A user's own operator whose closed form is given."""

    def __init__(self, solve):
        super().__init__()
        self.solve = solve

    def A(self, x):
        return 2 * x

    A_adjoint = A

    def solve_normal(self, rhs, rho, x0=None, *, tol=None, max_iter=500):
        return self.solve(rhs, rho)


WRONG = {
    "nan": ((lambda x: x * torch.nan, lambda y: y), "A of .* returns NaN in 128 of 128 values"),
    "inf": ((lambda x: x / 0, lambda y: y), "A of .* returns (NaN or )?Inf"),
    "nan adjoint": ((lambda x: x, lambda y: y * torch.nan), "A_adjoint of .* returns NaN"),
    "nan at zero": ((_first_zeroed, lambda y: y), "A of .* returns NaN"),
    "affine": ((lambda x: x + 0.5, lambda y: y), r"is affine, not linear: A\(0\) .* up to 0.5"),
    "square": ((lambda x: x * x.abs(), lambda y: y), "is not linear: A"),
    "clipped": ((lambda x: x.clamp(0, 1), lambda y: y), "is not linear: A"),
    "magnitude": ((lambda x: torch.fft.fft2(x).abs(), lambda y: y), "is not linear: A"),
    "random": ((_random, lambda y: y), "is random: A gives different"),
    "random adjoint": ((lambda x: x, _random), "is random: A_adjoint"),
    "scaled": ((lambda x: x, lambda y: 4 * y), "it is 4 times the adjoint, divide it by that"),
    "negative": ((lambda x: x, lambda y: -y), "it is -1 times the adjoint"),
    "inverse": (
        (
            lambda x: x * torch.linspace(1, 2, 8),
            lambda y: y / torch.linspace(1, 2, 8),
        ),
        "it is an inverse of A, not its transpose",
    ),
    "transpose of complex": (
        (lambda x: torch.fft.fft2(x, norm="ortho"), lambda y: torch.fft.fft2(y, norm="ortho").real),
        "it is the transpose, take the complex conjugate",
    ),
    "other shape": ((lambda x: x[..., 1:], lambda y: y), "returns shape"),
    "zero": ((lambda x: 0 * x, lambda y: 0 * y), "measures nothing"),
    "list": ((lambda x: [x], lambda y: y), "returns list"),
    "raises": ((lambda x: x @ torch.ones(3, 3), lambda y: y), "A of .* fails on .*: RuntimeError"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named_in_one_line(case):
    pair, message = WRONG[case]
    with pytest.raises(InputError, match=message) as e:
        check_operator(P.as_physics(pair), X)
    assert "\n" not in str(e.value)


RIGHT = {
    "fft": (lambda x: torch.fft.fft2(x), lambda y: 64 * torch.fft.ifft2(y).real),
    "fft, complex adjoint": (lambda x: torch.fft.fft2(x), lambda y: 64 * torch.fft.ifft2(y)),
    "half precision inside": (
        lambda x: (x.half() * 3).float(),
        lambda y: (y.half() * 3).float(),
    ),
    "tiny": (lambda x: 1e-9 * x, lambda y: 1e-9 * y),
    "huge": (lambda x: 1e9 * x, lambda y: 1e9 * y),
    "numpy": (lambda x: 2 * x.numpy(), lambda y: 2 * y.numpy()),
    "no grad": (torch.no_grad()(lambda x: 2 * x), lambda y: 2 * y),
    "another dtype": (lambda x: 2 * x.double(), lambda y: 2 * y.double()),
}


@pytest.mark.parametrize("case", RIGHT)
def test_what_is_right_is_not_accused(case):
    physics = P.as_physics(RIGHT[case])
    check_operator(physics, X)
    x = torch.rand(2, 1, 8, 8)
    assert physics.A_adjoint(physics.A(x)).dtype == torch.float32


def test_functions_that_write_into_their_input_get_copies():
    buffer = torch.zeros(2, 1, 8, 8)

    def shared(x):
        buffer.copy_(2 * x)
        return buffer

    for pair in ((lambda x: x.mul_(2), lambda y: y.mul_(2)), (shared, lambda y: 2 * y)):
        physics = P.as_physics(pair)
        check_operator(physics, X)
        x = torch.rand(2, 1, 8, 8)
        kept = x.clone()
        y = physics.A(x)
        physics.A(torch.zeros_like(x))
        assert torch.equal(x, kept) and torch.equal(y, 2 * x)


def test_a_closed_form_that_is_wrong_is_named():
    check_operator(Diagonal(lambda rhs, rho: rhs / (4 + rho)), X)
    with pytest.raises(InputError, match="solve_normal of Diagonal returns NaN"):
        check_operator(Diagonal(lambda rhs, rho: rhs * torch.nan), X)
    with pytest.raises(InputError, match="solve_normal of Diagonal is wrong"):
        check_operator(Diagonal(lambda rhs, rho: rhs / (2 + rho)), X)
