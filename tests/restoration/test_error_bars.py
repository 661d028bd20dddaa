"""What is said of a posterior, without running a sampler."""

from __future__ import annotations

import io

import PIL.Image
import pytest
import torch

from innverse.restoration.error_bars import animate, coverage, coverage_table, thinned
from innverse.restoration.page import make_page


@pytest.mark.parametrize("sigma", [None, 0.2])
def test_calibration_of_exact_draws_is_found_and_that_of_narrow_ones_too(sigma):
    g = torch.Generator().manual_seed(0)
    n, level = 99, 0.0 if sigma is None else sigma
    clean = 0.3 * torch.randn(1, 1, 64, 64, generator=g)
    # y = x + .3 e, so x | y ~ N(y / 2, .3^2 / 2), and u = x + sigma e
    y = clean + 0.3 * torch.randn(clean.shape, generator=g)
    std = (0.045 + level**2) ** 0.5
    e = torch.randn(n, *clean.shape, generator=g)
    found = coverage(y / 2 + std * e, clean, sigma)
    assert set(found) == ({"x"} if sigma is None else {"x", "u"})
    exact = found["x" if sigma is None else "u"]
    assert list(exact) == ["50 %", "68 %", "90 %", "95 %"]
    for name, share in exact.items():
        promised = float(name.split()[0]) / 100
        assert share == pytest.approx(promised, abs=4 * (promised * (1 - promised) / 4096) ** 0.5)
    if sigma is not None:  # the clean picture lies within more often
        assert found["x"]["90 %"] > exact["90 %"] + 0.02
    narrow = coverage(y / 2 + 0.5 * std * e, clean, sigma)
    assert narrow["x" if sigma is None else "u"]["90 %"] < 0.7
    assert "90 %" in coverage_table(found).markdown()


def test_few_draws_stand_for_all_from_the_first_to_the_last():
    draws = torch.arange(100).view(100, 1, 1, 1).float()
    assert thinned(draws, 4).flatten().tolist() == [0, 33, 66, 99]
    assert len(thinned(draws[:3], 16)) == 3


def test_an_animation_is_bounded():
    with PIL.Image.open(io.BytesIO(animate(torch.rand(40, 1, 400, 400)))) as film:
        assert film.n_frames == 2**21 // 400**2


def told(**more):
    own = {
        "draws": 20, "quantity": "u = x + 0.02 e", "quantity_of_mean": "u = x + 0.02 e",
        "std": {"median": 0.1, "largest": 0.2},
    }  # fmt: skip
    return {
        "file": "a.png", "innverse": "0", "method": "m", "status": "converged", "converged": True,
        "posterior": own | more,
    }  # fmt: skip


def test_a_page_does_not_promise_what_approximate_draws_cannot_keep():
    pictures, unit = [("input", "", torch.rand(1, 8, 8))], torch.rand(6, 1, 8, 8)
    good = {"r_hat": {"99 %": 1.01, "largest": 1.02}, "ess_bulk": {"median": 80.0}}
    page = make_page(told(**good), pictures, unit).html()
    assert "The chains agree" in page and "1.010" in page and "note warn" not in page
    page = make_page(told(approximate="no correction"), pictures, unit).html()
    assert "These draws are approximate (no correction)" in page and "note warn" in page
    assert "The chains agree" not in page
