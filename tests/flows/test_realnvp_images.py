"""RealNVP for images: the contract, any size, options that fit the shape, training."""

from __future__ import annotations

import pytest
import torch

from innverse import flows
from innverse.bijections import Checkerboard, Coupling, Partial, check_bijection, initialize
from innverse.errors import UsageError


def small(shape=(1, 4, 4), **options):
    torch.manual_seed(0)
    options = {"levels": 2, "hidden": 4, "blocks": 1} | options
    flow = flows.build("realnvp", shape, **options)
    for p in flow.parameters():
        p.data.add_(0.05 * torch.randn_like(p))
    return flow.eval()


def test_contract():
    check_bijection(small().bijection, torch.rand(2, 1, 4, 4))


def test_contract_with_logit_and_a_condition():
    flow = small((1, 2, 4), logit=0.05, condition=2, levels=1)
    x = 0.1 + 0.8 * torch.rand(2, 1, 2, 4)
    check_bijection(flow.bijection, x, torch.randn(2, 2))


def test_architecture_of_the_paper():
    """Three checkerboards and three channel couplings a level, four checkerboards at the last."""
    flow = flows.build("realnvp", (3, 16, 16), levels=3, hidden=4)
    layers = list(flow.modules())
    boards = [m for m in layers if isinstance(m, Checkerboard)]
    assert [m.swap for m in boards] == [False, True, False] * 2 + [False, True, False, True]
    assert [m.channels for m in layers if isinstance(m, Coupling)] == [12] * 3 + [24] * 3
    assert [m.k for m in layers if isinstance(m, Partial)] == [6, 12]


def test_any_size():
    flow = small((3, 8, 8), levels=3)
    for size in ((8, 8), (12, 20)):
        x = torch.rand(2, 3, *size)
        torch.testing.assert_close(flow.decode(flow.encode(x)), x, rtol=1e-4, atol=1e-5)
    assert flow.encode(torch.rand(1, 3, 9, 7)).shape == (1, 3, 12, 8)
    assert flow.sample(2, size=(16, 4)).shape == (2, 3, 16, 4)


def test_training_lowers_the_held_out_bits_per_dim():
    torch.manual_seed(0)
    flow = flows.build("realnvp", (1, 8, 8), levels=2, hidden=16, blocks=1)
    ramp = torch.linspace(0, 1, 8)
    train, held_out = (torch.rand(64, 1, 8, 8) * 0.2 + torch.rand(64, 1, 1, 1) * ramp for _ in "ab")
    initialize(flow, train)
    before = flow.bits_per_dim(held_out).mean().item()
    optimizer = torch.optim.Adam(flow.parameters(), 3e-3)
    for _ in range(30):
        loss = -flow.log_prob(train).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert flow.bits_per_dim(held_out).mean().item() < before - 0.3


def test_options_must_fit_the_shape():
    with pytest.raises(UsageError, match=r"option 'width' is for vectors \(D,\), and the shape is"):
        flows.build("realnvp", (1, 8, 8), width=64)
    with pytest.raises(UsageError, match=r"option 'levels' is for images \(C, H, W\)"):
        flows.build("realnvp", (8,), levels=2)
    with pytest.raises(UsageError, match=r"for vectors \(D,\) or images"):
        flows.build("realnvp", (8, 8))
    with pytest.raises(UsageError, match="levels=0"):
        flows.build("realnvp", (1, 8, 8), levels=0)
    with pytest.raises(UsageError, match="logit=0.5"):
        flows.build("realnvp", (1, 8, 8), logit=0.5)


def test_file_round_trip(tmp_path):
    flow = small(condition=2)
    flow.save_pretrained(tmp_path)
    x, c = torch.rand(2, 1, 4, 4), torch.randn(2, 2)
    again = flows.Flow.from_pretrained(tmp_path)
    torch.testing.assert_close(again.log_prob(x, c), flow.log_prob(x, c))
