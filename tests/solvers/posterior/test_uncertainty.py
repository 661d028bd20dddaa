"""What draws say, against what they were drawn from."""

from __future__ import annotations

import pytest
import torch

from innverse.errors import InnverseError
from innverse.physics import Inpainting
from innverse.solvers.posterior.draws.uncertainty import (
    interval,
    level_of_region,
    probability,
    quantiles,
    spread,
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


def test_an_interval_of_few_draws_holds_the_next_one_as_often_as_it_says():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(20, 4000, generator=g)  # 20 draws, and one more
    low, high = interval(x[:19], 0.8)
    held = ((x[19] > low) & (x[19] < high)).double().mean()
    assert abs(held - 0.8) < 4 * (0.16 / 4000) ** 0.5
    low, high = interval(x[:5], 0.99)  # more than five draws can promise
    assert (low == x[:5].min(0).values).all() and (high == x[:5].max(0).values).all()


def test_the_probability_of_an_event():
    found = probability(draws(), lambda x: x[:, 0, 1, 1] > 1.3)
    want = 1 - torch.special.ndtr(torch.tensor([1.0, 0.5]))
    assert (found - want).abs().max() < 0.03


def test_the_level_of_a_region():
    x = draws(50)
    mask = torch.zeros(4, 4)
    mask[1, :2] = 1
    assert torch.allclose(level_of_region(x, mask), x[..., 0, 1, :2].mean(-1))
    assert torch.equal(level_of_region(x, mask.bool(), "max"), x[..., 0, 1, :2].amax(-1))
    each = torch.stack([mask, mask.T])[:, None]  # one per item
    assert torch.equal(level_of_region(x, each, "min")[:, 1], x[:, 1, 0, :2, 1].amin(-1))


def test_the_null_space_keeps_what_no_data_show():
    mask = torch.zeros(4, 4)
    mask[:2] = 1
    seen, unseen = spread(draws(), Inpainting(mask))
    assert (seen[..., 2:, :] == 0).all() and (unseen[..., :2, :].abs() < 1e-6).all()
    total = (seen.square() + unseen.square()).sqrt()
    assert torch.allclose(total, draws().std(0), rtol=1e-4)


@pytest.mark.parametrize(
    "call",
    [
        lambda x: quantiles(x, 1.2),
        lambda x: interval(x, 0.0),
        lambda x: probability(x, lambda images: images > 0),
        lambda x: level_of_region(x, torch.zeros(4, 4)),
        lambda x: level_of_region(x, torch.full((4, 4), 0.5)),
        lambda x: level_of_region(x, torch.ones(3, 4)),
        lambda x: level_of_region(x, torch.ones(4)),
        lambda x: level_of_region(x, torch.ones(5, 1, 1, 4, 4)),
        lambda x: level_of_region(x, torch.ones(4, 4), "median"),
    ],
)
def test_what_makes_no_sense_is_one_line(call):
    with pytest.raises(InnverseError) as caught:
        call(draws(10))
    assert "\n" not in str(caught.value)
