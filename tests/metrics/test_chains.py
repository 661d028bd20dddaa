"""Diagnostics of chains against arviz-stats 0.8.0, whose answers on these draws stand here."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from innverse.errors import ShapeError
from innverse.metrics.chains import effective_size, effective_size_of_tails, r_hat

# autoregression, steps, chains, drift between chains; r_hat, bulk and tail sizes by arviz-stats
CASES = [
    (0.0, 50, 4, 0.0, (0.9944183887767878, 169.73273578030697, 189.71112170104612)),
    (0.5, 101, 4, 0.0, (1.0253825877331908, 161.64377791446108, 238.072320082138)),
    (0.9, 200, 2, 0.0, (1.17286243783996, 17.493670305236186, 62.03223335739393)),
    (-0.5, 60, 3, 0.0, (0.995139273963414, 405.9490509185951, 175.85106382978717)),
    (0.3, 40, 4, 1.0, (1.6296204825483998, 8.16394750101639, 89.1432783721964)),
    (0.95, 300, 4, 0.2, (1.1470351267438452, 23.002304253929555, 100.03325513327822)),
    # few draws: ties about the median, tails that hold all or none
    (-0.9, 4, 3, 0.0, (0.8233982195230872, 12.9501749525715, 12.9501749525715)),
    (0.0, 5, 4, 0.0, (0.8702199239030647, 19.265919722494797, 16.0)),
    (0.0, 7, 2, 0.0, (1.0192184834598306, 12.9501749525715, 12.0)),
    (-0.9, 9, 2, 0.0, (1.7793871763793632, 19.265919722494797, 16.0)),
]


def chains(cases=CASES):
    """The draws that arviz-stats was given: one generator through all cases, in order."""
    rng = np.random.default_rng(0)
    for phi, n, count, drift, *_ in cases:
        x, e = np.zeros((count, n)), rng.standard_normal((count, n))
        for t in range(n):
            x[:, t] = (phi * x[:, t - 1] if t else 0) + e[:, t]
        yield torch.from_numpy(x + drift * np.arange(count)[:, None])


def test_equal_to_arviz():
    for draws, (*_, want) in zip(chains(), CASES, strict=True):
        got = (r_hat(draws), effective_size(draws), effective_size_of_tails(draws))
        assert [float(v) for v in got] == pytest.approx(want, rel=1e-6)


def test_many_quantities_are_one_after_the_other():
    draws = torch.randn(3, 40, 2, 5, generator=torch.Generator().manual_seed(0))
    for f in (r_hat, effective_size, effective_size_of_tails):
        whole = f(draws)
        assert whole.shape == (2, 5)
        assert torch.allclose(whole[1, 3], f(draws[:, :, 1, 3]))


def test_ties_monotone_maps_and_shift():
    draws = torch.randn(4, 100, generator=torch.Generator().manual_seed(0)).double()
    # ranks see no monotone map
    assert torch.allclose(effective_size(draws), effective_size(draws.exp()))
    coarse = draws.round()
    assert torch.isfinite(r_hat(coarse)) and torch.isfinite(effective_size(coarse))
    apart = draws + torch.tensor([0.0, 0.0, 0.0, 3.0])[:, None]
    assert r_hat(apart) > 1.3 and effective_size(apart) < 20
    wide = draws * torch.tensor([1.0, 1.0, 1.0, 6.0])[:, None]
    assert r_hat(wide) > 1.1  # same place, another spread


def test_nan_is_told():
    draws = torch.randn(4, 20, 2, generator=torch.Generator().manual_seed(0))
    draws[1, 3, 1] = torch.nan
    for f in (r_hat, effective_size, effective_size_of_tails):
        assert f(draws).isfinite().tolist() == [True, False]


def test_many_draws_of_many_quantities():
    draws = torch.zeros(2, 2050, 4096)  # more numbers than torch.quantile takes
    assert effective_size_of_tails(draws).shape == (4096,)


def test_what_never_moves_has_no_diagnosis():
    for f in (effective_size, effective_size_of_tails):  # as many as there are, as arviz-stats says
        assert float(f(torch.ones(4, 20))) == 80
    assert math.isnan(float(r_hat(torch.ones(4, 20))))
    with pytest.raises(ShapeError, match="n >= 4"):
        r_hat(torch.randn(4, 3))
