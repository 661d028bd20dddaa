"""MADE: the Jacobian of the network has exactly the pattern that it claims."""

from __future__ import annotations

import pytest
import torch

from innverse.nets import MADE


def awake(net: MADE) -> MADE:
    for p in net.parameters():
        p.data.add_(0.5 * torch.randn_like(p))
    return net.double()


def pattern(net: MADE, c=None) -> torch.Tensor:
    x = torch.randn(1, net.n, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda x: net(x, c), x)[0, :, 0]
    return jacobian.view(net.n_params, net.n, net.n).abs().sum(0) > 0


@pytest.mark.parametrize("how", ["concat", "film"])
def test_each_output_sees_the_earlier_inputs_and_the_condition(how):
    net = awake(MADE(5, 2, 32, condition=2, how=how))
    c = torch.randn(1, 2, dtype=torch.float64)
    assert torch.equal(pattern(net, c), torch.ones(5, 5).tril(-1).bool())
    x = torch.randn(1, 5, dtype=torch.float64)
    assert bool((net(x, c) - net(x, c + 1)).abs().gt(1e-12).all())


def test_order_and_groups():
    net = awake(MADE(4, 3, 32, order=[2, 0, 2, 1]))
    before = torch.tensor([[0, 1, 0, 1], [0, 0, 0, 0], [0, 1, 0, 1], [0, 1, 0, 0]]).bool()
    assert torch.equal(net.dependency, before) and torch.equal(pattern(net), before)
    assert net.depth_of.tolist() == [2, 0, 2, 1] and net.passes == 3


@pytest.mark.parametrize("width", [1, 2, 3, 5])
def test_narrow_networks_say_what_they_leave_out(width):
    net = awake(MADE(6, 2, width))
    assert torch.equal(pattern(net), net.dependency)
    assert not bool(net.dependency.triu().any())


def test_few_units_need_fewer_passes():
    """One hidden unit sees the first input only: all others follow in one more pass."""
    assert MADE(6, 2, 1).passes == 2
    assert MADE(6, 2, 64).passes == 6
    assert MADE(1, 2, 4).passes == 1


def test_wrong_order():
    with pytest.raises(ValueError, match="order must give 3 ranks"):
        MADE(3, 2, order=[0, 1])
