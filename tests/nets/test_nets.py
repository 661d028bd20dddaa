"""Conditioner networks: conditions reach the output, precision is the network's own."""

from __future__ import annotations

import pytest
import torch

from innverse.nets import MADE, MLP, ConvNet, ConvResNet, concatenate, set_precision


def moved(net):
    torch.manual_seed(0)
    for p in net.parameters():
        p.data.add_(0.3 * torch.randn_like(p))
    return net


@pytest.mark.parametrize("how", ["concat", "film"])
@pytest.mark.parametrize(
    ("make", "x"),
    [
        (lambda **o: MLP(3, 4, 8, **o), torch.randn(2, 3)),
        (lambda **o: MLP(3, 4, 8, 3, residual=True, **o), torch.randn(2, 3)),
        (lambda **o: ConvNet(3, 4, 8, **o), torch.randn(2, 3, 6, 6)),
        (lambda **o: ConvResNet(3, 4, 8, **o), torch.randn(2, 3, 6, 6)),
    ],
)
def test_zero_at_the_start_and_the_condition_counts(how, make, x):
    net = make(condition=2, how=how)
    c = torch.randn(2, 2)
    assert net(x, c).abs().max() == 0
    moved(net)
    assert net(x, c).shape == (2, 4, *x.shape[2:])
    assert not torch.allclose(net(x, c), net(x, c + 1))


def test_maps_of_any_resolution_are_concatenated():
    x = torch.zeros(1, 1, 4, 4)
    for size in (2, 4, 8):
        c = torch.full((1, 3, size, size), 7.0)
        assert concatenate(x, c)[:, 1:].eq(7).all()


def test_bf16_networks_return_nearly_the_same():
    net = moved(ConvNet(3, 4, 8))
    x = torch.randn(2, 3, 6, 6)
    exact = net(x)
    set_precision(net, "bf16")
    assert net(x).dtype == torch.bfloat16
    torch.testing.assert_close(net(x).float(), exact, rtol=0.1, atol=0.3)
    with pytest.raises(ValueError, match="fp32, bf16"):
        set_precision(net, "fp8")


def test_one_condition_for_the_whole_batch_is_folded_into_the_convolutions():
    from innverse.nets.conditioning import is_shared

    net = moved(ConvNet(3, 4, 8, condition=2, how="film", activation="silu")).double()
    x = torch.randn(5, 3, 6, 6, dtype=torch.float64)
    one = torch.randn(1, 2, dtype=torch.float64, requires_grad=True)
    results = []
    for c, shared in ((one.expand(5, -1), True), (one.repeat(5, 1), False)):
        assert is_shared(c) == shared
        out = net(x, c)
        results.append([out, *torch.autograd.grad(out.square().sum(), [one, *net.parameters()])])
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("net", [MLP, ConvNet, ConvResNet, MADE])
def test_an_unknown_activation_is_named_with_those_there_are(net):
    with pytest.raises(ValueError, match="activation='tanh': choose one of relu, silu, gelu"):
        net(2, 4, activation="tanh")
