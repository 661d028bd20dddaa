"""Layers and networks take what they were made for, and refuse the rest in one line."""

from __future__ import annotations

import pytest
import torch
from registry import LAYERS, vector

from innverse import bijections as b
from innverse import flows
from innverse.errors import ShapeError
from innverse.nets import MADE, MLP, ConvNet, ConvResNet, SingleConv, UNet, ViT

# what these layers do not know, since they do the same to everything
ANY_CHANNELS = {"logit", "gaussianize", "empty chain"}
ANY_SPACE = (
    "diagonal",
    "standardize",
    "actnorm",
    "standardize",
    "invertible",
    "permute",
    "householder",
    "folded",
    "conditional s",
)


def both_ways(layer, x, c=None):
    return [lambda: layer(x, c), lambda: layer.inverse(x, c)]


def refused(calls):
    for call in calls:
        with pytest.raises(ShapeError) as error:
            call()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_refuses_other_channels(name):
    layer, x, *c = LAYERS[name]()
    c = c[0] if c else None
    for other in (torch.cat((x, x), 1), x[:, :1], x[:, :0]):
        if name in ANY_CHANNELS or other.shape == x.shape:
            layer(other, c)
        elif "partial" not in name or other.shape[1] < x.shape[1]:
            refused(both_ways(layer, other, c))


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_refuses_what_is_no_batch(name):
    layer, x, *c = LAYERS[name]()
    refused(both_ways(layer, x.flatten()[: x.shape[1]], c[0] if c else None))


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_refuses_other_axes(name):
    layer, x, *c = LAYERS[name]()
    c = c[0] if c else None
    other = x[..., None, None] if x.dim() == 2 else x.flatten(2)[..., 0]
    if name in ANY_CHANNELS or name.startswith(ANY_SPACE):
        z, logdet = layer(other, c)  # right for any number of axes
        assert z.shape == other.shape and logdet.shape == x.shape[:1]
    else:
        refused(both_ways(layer, other, c))


@pytest.mark.parametrize("name", [n for n in LAYERS if len(LAYERS[n]()) == 3])
def test_a_layer_refuses_another_condition(name):
    layer, x, c = LAYERS[name]()
    wrong = [None, c[:, :1], torch.cat((c, c), 1), torch.cat((c, c)), c[0], c[:, :, None]]
    for other in wrong:
        refused(both_ways(layer, x, other))


@pytest.mark.parametrize("name", [n for n in LAYERS if len(LAYERS[n]()) == 3])
def test_a_batch_of_one_condition_serves_all_items(name):
    layer, x, c = LAYERS[name]()
    for p in layer.parameters():
        p.data.add_(0.02 * torch.randn_like(p))
    one = c[:1].clone().requires_grad_()
    many = one.expand(len(x), *c.shape[1:])
    results = []
    for given in (one, many):
        z, logdet = layer(x, given)
        loss = z.square().sum() + logdet.sum()
        results.append((z, logdet, *torch.autograd.grad(loss, one), *layer.inverse(x, given)))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", LAYERS)
def test_an_empty_batch_stays_empty(name):
    layer, x, *c = LAYERS[name]()
    c = c[0][:0] if c else None
    for z, logdet in (layer(x[:0], c), layer.inverse(x[:0], c)):
        assert z.shape == x[:0].shape and logdet.shape == (0,)


NETS = {
    "MLP": (lambda **o: MLP(3, 4, 8, **o), (2, 3)),
    "MADE": (lambda **o: MADE(3, 2, 8, **o), (2, 3)),
    "ConvNet": (lambda **o: ConvNet(3, 4, 8, **o), (2, 3, 4, 4)),
    "ConvNet, silu": (lambda **o: ConvNet(3, 4, 8, activation="silu", **o), (2, 3, 4, 4)),
    "ConvResNet": (lambda **o: ConvResNet(3, 4, 8, **o), (2, 3, 4, 4)),
    "SingleConv": (lambda **o: SingleConv(3, 4, **o), (2, 3, 4, 4)),
    "ViT": (lambda **o: ViT(3, 4, 8, 1, 2, **o), (2, 3, 4, 4)),
    "UNet": (lambda **o: UNet(3, 4, 8, **{"condition": 2} | o), (2, 3, 4, 4)),
}


@pytest.mark.parametrize("name", NETS)
def test_a_network_refuses_what_it_does_not_take(name):
    make, shape = NETS[name]
    net, x = make(condition=2), torch.randn(shape)
    c = torch.randn(2, 2)
    net(x, c)
    for channels in (1, 2, 4, 10**5):
        refused([lambda n=channels: net(torch.zeros(2, n, *shape[2:]), c)])
    for k in (0, 1, 3, 10**5):
        refused([lambda n=k: net(x, torch.zeros(2, n))])
    refused([lambda: net(x, torch.zeros(3, 2)), lambda: net(x, None), lambda: net(x[0], c)])


def test_a_condition_much_too_wide_is_refused_and_not_read():
    flow = flows.build("nsf", (4,), layers=2, width=8, condition=2)
    for k in (1, 3, 10**6):
        refused([lambda n=k: flow.log_prob(torch.randn(3, 4), torch.randn(3, n))])


def test_a_network_that_gives_other_numbers_is_refused():
    for n_out in (5, 7, 12):
        layer = b.Coupling(6, MLP(3, n_out, 8))
        refused(both_ways(layer, vector()))
    with pytest.raises(ValueError, match="keep=6"):
        b.Coupling(6, MLP(6, 1, 8), keep=6)
