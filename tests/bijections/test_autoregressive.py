"""The slow direction of autoregressive layers: exact, and no longer than the dependencies."""

from __future__ import annotations

import pytest
import torch

from innverse.bijections import Additive, Autoregressive, Checkerboard, RationalQuadraticSpline
from innverse.nets import MADE, ConvNet


def awake(layer):
    for p in layer.parameters():
        p.data.add_(0.3 * torch.randn_like(p))
    return layer.double()


@pytest.mark.parametrize(
    ("order", "width", "passes"),
    [(None, 32, 6), ([0, 0, 0, 1, 1, 1], 32, 2), ([0] * 6, 32, 1), ([3, 1, 0, 1, 2, 0], 32, 4),
     (None, 1, 2)],
)  # fmt: skip
def test_inverse_evaluates_the_network_as_often_as_it_must(order, width, passes):
    layer = awake(Autoregressive(MADE(6, 2, width, order=order)))
    x = torch.randn(4, 6, dtype=torch.float64)
    z, logdet = layer(x)
    calls = []
    layer.net.register_forward_hook(lambda *_: calls.append(1))
    back, logdet_back = layer.inverse(z)
    assert len(calls) == passes
    torch.testing.assert_close(back, x, rtol=0, atol=1e-11)
    torch.testing.assert_close(logdet_back, -logdet, rtol=0, atol=1e-11)


def test_one_pass_less_would_be_wrong():
    """The number of passes is not only enough but needed."""
    layer = awake(Autoregressive(MADE(6, 2, 32)))
    x = torch.randn(4, 6, dtype=torch.float64)
    z, _ = layer(x)
    layer.net.passes -= 1
    assert (layer.inverse(z)[0] - x).abs().max() > 1e-4


class _OverflowsAtFirst(Additive):
    """Gives inf for every coordinate that is not solved yet, where 0 * inf would be NaN."""

    calls = 0

    def inverse(self, z, p):
        x, log_derivative = super().inverse(z, p)
        self.calls += 1
        return torch.where(torch.arange(3) >= self.calls, torch.inf, x), log_derivative


def test_unsolved_coordinates_may_overflow():
    layer = awake(Autoregressive(MADE(3, 1, 8), _OverflowsAtFirst()))
    x = torch.randn(2, 3, dtype=torch.float64)
    torch.testing.assert_close(layer.inverse(layer(x)[0])[0], x, rtol=0, atol=1e-11)


def test_map_and_network_must_agree():
    with pytest.raises(ValueError, match="takes 14 parameters per element, the network gives 2"):
        Autoregressive(MADE(3, 2), RationalQuadraticSpline(5))


def test_checkerboard_takes_any_size():
    layer = awake(Checkerboard(ConvNet(1, 2, 8, activation="silu")))
    for size in ((4, 4), (5, 7), (1, 2)):
        x = torch.randn(2, 1, *size, dtype=torch.float64)
        z, _ = layer(x)
        i, j = (torch.arange(n) for n in size)
        kept = (i[:, None] + j) % 2 == 0
        assert torch.equal(z == x, kept.expand_as(x))
        torch.testing.assert_close(layer.inverse(z)[0], x, rtol=0, atol=1e-12)
