"""sbi's own diagnostics take a posterior of ours as it is, and agree with ours on the same draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from innverse import amortized
from innverse.metrics import calibration

diagnostics = pytest.importorskip("sbi.diagnostics")


@pytest.fixture(scope="module")
def learned():
    torch.set_num_threads(1)
    theta = torch.randn(1000, 2)
    options = {"density": "realnvp", "size": {"layers": 2, "width": 16}, "progress": False}
    return amortized.fit(theta, theta + torch.randn(1000, 2), max_epochs=10, **options)


@pytest.mark.filterwarnings("ignore")
def test_sbc_and_tarp_of_sbi(learned):
    theta = torch.randn(200, 2)
    x = theta + torch.randn(200, 2)
    torch.manual_seed(1)
    ranks, _ = diagnostics.run_sbc(
        theta, x, learned, num_posterior_samples=100, show_progress_bar=False
    )
    torch.manual_seed(1)
    ours = calibration.sbc(learned, theta, x, draws=100)
    assert torch.equal(ranks.long(), ours.ranks)
    torch.manual_seed(1)
    ecp, alpha = diagnostics.run_tarp(
        theta, x, learned, num_posterior_samples=100, num_bins=20, show_progress_bar=False
    )
    found = calibration.tarp(learned, theta, x, draws=100, bins=20)
    # different random reference points: twice the binomial error of 200 pairs. sbi's levels end at
    # the largest share it has seen, ours at 1.
    at_its_levels = np.interp(alpha.numpy(), found.levels.numpy(), found.ecp.numpy())
    assert alpha.max() > 0.9
    assert abs(ecp.numpy() - at_its_levels).max() < 2 * 0.5 / 200**0.5
    coverage = diagnostics.run_sbc(
        theta, x, learned, reduce_fns=learned.log_prob, num_posterior_samples=50,
        show_progress_bar=False,
    )[0]  # fmt: skip
    assert coverage.shape == (200, 1)
