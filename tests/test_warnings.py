"""Warnings name the line of the caller, however many of our frames and PyTorch's lie between."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch

import innverse
from innverse import bijections, physics, solvers
from innverse.metrics import calibration


def noise_that_contradicts():
    y = 0.5 + 0.2 * torch.randn(1, 1, 32, 32)
    solvers.solve(y, physics.Denoising(), noise=0.001, method="tv", steps=2)


def least_squares_that_stops():
    y, a = torch.randn(3, 80), torch.randn(60, 80) * torch.logspace(0, -4, 60)[:, None]
    physics.cg.least_squares(lambda x: x @ a, lambda y: y @ a.T, y, max_iter=3)


def spread_out_of_range():
    bijections.initialize(bijections.ActNorm(2), torch.randn(50, 2) * 1e9)


def constant_column():
    bijections.initialize(bijections.ActNorm(2), torch.tensor([[0.0, 1.0], [0.0, 2.0]]))


def few_pairs():
    calibration.recalibrate(torch.randn(99, 30, 2), torch.randn(30, 2))


@pytest.mark.parametrize(
    "cause",
    [
        noise_that_contradicts,
        least_squares_that_stops,
        spread_out_of_range,
        constant_column,
        few_pairs,
    ],
)
def test_a_warning_is_shown_at_the_line_that_called(cause):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        cause()
    assert caught and {w.filename for w in caught} == {__file__}, [str(w) for w in caught]


def test_every_warning_goes_that_way():
    for path in Path(innverse.__file__).parent.rglob("*.py"):
        if path.name != "errors.py":
            assert "warnings.warn(" not in path.read_text(), path
