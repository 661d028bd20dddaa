"""Each gradient written by hand equals autograd's of the formula beside it, twice over."""

from __future__ import annotations

import pytest
import torch

from innverse.accelerate import spline_piece as spline
from innverse.bijections.elementwise import RationalQuadraticSpline


def spline_piece(function, by_height):
    settings = RationalQuadraticSpline(bins=5)

    def call(p, at):
        p, at = 3 * p, 2 * at.detach()
        if function is spline.piece:
            return torch.stack(function(p, at, settings, by_height=by_height))
        numbers = (settings.bins, settings.bound, settings.min_bin, settings.min_derivative)
        return torch.stack(function(p, at, (*numbers, by_height)))

    return call


CASES = {
    **{
        f"spline piece, by {'height' if by_height else 'width'}": (
            spline_piece(spline.piece, by_height),
            spline_piece(spline._formula, by_height),
            [(6, 14, 3, 2), (6, 3, 2)],
        )
        for by_height in (False, True)
    },
}


def first_and_second(function, shapes, frozen):
    torch.manual_seed(0)
    made = [torch.randn(s, dtype=torch.float64, requires_grad=True) for s in shapes]
    inputs = [t.detach() if i > 0 and frozen else t for i, t in enumerate(made)]
    wanted = [t for t in inputs if t.requires_grad]
    out = function(*inputs)
    plain = torch.autograd.grad(out.square().sum(), wanted, retain_graph=True, allow_unused=True)
    kept = torch.autograd.grad(out.square().sum(), wanted, create_graph=True, allow_unused=True)
    norm = sum(g.square().sum() for g in kept if g is not None)
    second = torch.autograd.grad(norm, wanted, allow_unused=True)
    found = [out, *plain, *kept, *second]
    assert sum(t is not None for t in found) >= 4
    return [torch.zeros(()) if t is None else t for t in found]


@pytest.mark.parametrize("frozen", [False, True], ids=["all", "input only"])
@pytest.mark.parametrize("case", CASES)
def test_the_gradient_by_hand_is_autograds(case, frozen):
    by_hand, formula, shapes = CASES[case]
    torch.testing.assert_close(
        first_and_second(by_hand, shapes, frozen), first_and_second(formula, shapes, frozen)
    )


@pytest.mark.parametrize("case", CASES)
def test_the_formula_serves_the_transforms(case):
    by_hand, formula, shapes = CASES[case]
    torch.manual_seed(0)
    inputs = [torch.randn(s, dtype=torch.float64) for s in shapes]

    def loss(function):
        return torch.func.grad(lambda x: function(x, *inputs[1:]).square().sum())(inputs[0])

    torch.testing.assert_close(loss(by_hand), loss(formula))
