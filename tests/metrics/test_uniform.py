"""Bands and corrections against closed forms and what they promise."""

from __future__ import annotations

import itertools

import pytest
import torch

from innverse.errors import UsageError
from innverse.metrics import calibration


def ranks(n: int, draws: int, seed: int, columns: int = 1) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randint(draws + 1, (n, columns), generator=g)


def test_sbc_band_holds_as_often_as_it_says():
    lower, upper = calibration.ecdf_band(60, 19, 0.9)
    found = calibration.ecdf(ranks(60, 19, 0, 4000), 19)
    inside = ((found >= lower[:, None] - 1e-9) & (found <= upper[:, None] + 1e-9)).all(0)
    # exact up to counts being whole: never below, and the next narrower one would be
    assert 0.89 < float(inside.double().mean()) < 0.93
    p = calibration.ecdf_p(ranks(60, 19, 1, 400), 19)
    for level in (0.05, 0.5):
        assert float((p <= level).double().mean()) == pytest.approx(level, abs=0.06)


def test_probability_of_a_band_against_all_that_can_happen():
    """Three ranks on 0..3: all 64 outcomes."""
    every = torch.tensor(list(itertools.product(range(4), repeat=3))).T  # (3, 64)
    p = calibration.ecdf_p(every, 3)
    for value in p.unique():
        # P(p <= value) = value for each value that p can take
        assert float((p <= value + 1e-12).double().mean()) == pytest.approx(float(value), abs=1e-9)


def test_a_band_narrows_with_more_ranks_and_many_draws_are_thinned():
    few, many = (calibration.ecdf_band(n, 99) for n in (50, 400))
    assert ((many[1] - many[0]) < (few[1] - few[0])).all()
    assert len(calibration.ecdf_band(50, 1000)[0]) == len(calibration.ecdf(ranks(9, 1000, 0), 1000))


def test_counts_agree_with_scipy():
    stats = pytest.importorskip("scipy.stats")
    found = ranks(300, 99, 2, 3)
    want = [stats.chisquare(torch.bincount(c // 5, minlength=20).numpy()).pvalue for c in found.T]
    got = calibration.counts_p(found, 99, 20)
    torch.testing.assert_close(got, torch.tensor(want).double(), rtol=1e-6, atol=1e-9)
    with pytest.raises(UsageError, match="bins=30 does not divide the 100 ranks"):
        calibration.counts_p(found, 99, 30)


def test_holm_by_hand():
    found = calibration.holm([[0.04, 0.01], [0.03, 0.005]])
    assert found.tolist() == [[pytest.approx(0.06), 0.03], [pytest.approx(0.06), 0.02]]


def test_holm_never_accuses_more_often_than_it_says():
    g = torch.Generator().manual_seed(0)
    accused = [float(calibration.holm(torch.rand(20, generator=g)).min()) < 0.1 for _ in range(500)]
    assert 0.065 < sum(accused) / 500 < 0.13
