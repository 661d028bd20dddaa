"""What draws say, against what they were drawn from."""

from __future__ import annotations

import pytest
import torch

from innverse.errors import InnverseError
from innverse.physics import Inpainting
from innverse.solvers.posterior.uncertainty import (
    interval,
    probability,
    quantiles,
    spread_seen_and_unseen,
)


def draws(n: int = 4000) -> torch.Tensor:
    g = torch.Generator().manual_seed(0)
    return 0.3 + torch.tensor([1.0, 2.0]).view(2, 1, 1, 1) * torch.randn(n, 2, 1, 4, 4, generator=g)


def test_quantiles_and_intervals():
    x = draws()
    assert torch.allclose(quantiles(x, 0.5), x.median(0).values, atol=2e-3)
    assert torch.allclose(
        quantiles(x, torch.tensor([0.1, 0.7])), x.quantile(torch.tensor([0.1, 0.7]), 0)
    )
    low, high = interval(x, 0.9)
    held = ((x > low) & (x < high)).float().mean(0)
    assert (held - 0.9).abs().max() < 2e-3
    assert (
        (high - low).flatten(1).mean(1) - 2 * 1.645 * torch.tensor([1.0, 2.0])
    ).abs().max() < 0.1


def test_the_probability_of_an_event():
    found = probability(draws(), lambda x: x[:, 0, 1, 1] > 1.3)
    want = 1 - torch.special.ndtr(torch.tensor([1.0, 0.5]))
    assert (found - want).abs().max() < 0.03


def test_the_null_space_keeps_what_no_data_show():
    mask = torch.zeros(4, 4)
    mask[:2] = 1
    seen, unseen = spread_seen_and_unseen(draws(), Inpainting(mask))
    assert (seen[..., 2:, :] == 0).all() and (unseen[..., :2, :].abs() < 1e-6).all()
    total = (seen.square() + unseen.square()).sqrt()
    assert torch.allclose(total, draws().std(0), rtol=1e-4)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: quantiles(x, 1.2),
        lambda x: interval(x, 0.0),
        lambda x: probability(x, lambda images: images > 0),
    ],
)
def test_what_makes_no_sense_is_one_line(call):
    with pytest.raises(InnverseError) as caught:
        call(draws(10))
    assert "\n" not in str(caught.value)
