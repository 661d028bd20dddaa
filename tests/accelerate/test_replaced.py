"""What is put in the place of a layer, or between it and its caller, takes part in the result."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch import nn

from innverse import bijections as b
from innverse import flows
from innverse.nets import MADE, MLP, ConvNet


class LoRA(nn.Module):
    """A layer and a learned matrix of rank 2 beside it, without the attributes of either."""

    def __init__(self, base: nn.Linear):
        super().__init__()
        self.base = base
        self.a = nn.Parameter(torch.randn(2, base.in_features))
        self.b = nn.Parameter(torch.randn(base.out_features, 2))

    def forward(self, x):
        return self.base(x) + x @ self.a.T @ self.b.T

    def merged(self) -> nn.Linear:
        linear = copy.deepcopy(self.base)
        linear.weight.data += (self.b @ self.a).detach()
        return linear


def replace(module: nn.Module, kind: type, make) -> nn.Module:
    """A copy in which every layer of this kind is replaced."""
    module = copy.deepcopy(module)
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is kind:
                setattr(parent, name, make(child))
    return module


def moved(module: nn.Module) -> nn.Module:
    for p in module.parameters():
        p.data.add_(0.2 * torch.randn_like(p))
    return module


def couplings():
    return b.Coupling.build(6, lambda i, o: MLP(i, o, 16)), torch.randn(5, 6)


def conditional():
    layer, x = b.Coupling.build(6, lambda i, o: MLP(i, o, 16, condition=2)), torch.randn(5, 6)
    return layer, x, torch.randn(5, 2)


def images(activation):
    net = lambda i, o: ConvNet(i, o, 8, activation=activation)  # noqa: E731
    return b.Coupling.build(4, net), torch.randn(2, 4, 6, 6)


def autoregressive():
    return b.Autoregressive(MADE(5, 2, 12)), torch.randn(4, 5)


@pytest.mark.parametrize("make", [couplings, conditional, autoregressive])
def test_lora_is_the_merged_layer(make):
    layer, *inputs = make()
    wrapped = replace(moved(layer), nn.Linear, LoRA)
    merged = replace(wrapped, LoRA, LoRA.merged)
    for name in ("forward", "inverse"):
        found, expected = (getattr(m, name)(*inputs) for m in (wrapped, merged))
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    z, logdet = wrapped(*inputs)
    (z.square().sum() + logdet.sum()).backward()
    learned = [p.grad for n, p in wrapped.named_parameters() if n.endswith((".a", ".b"))]
    assert learned and all(g.abs().sum() > 0 for g in learned)
    b.check_bijection(wrapped, *inputs)


def test_lora_in_a_made_keeps_it_autoregressive():
    layer, x = autoregressive()
    wrapped = replace(moved(layer), nn.Linear, LoRA)
    jacobian = torch.autograd.functional.jacobian(lambda v: wrapped(v[None])[0][0], x[0])
    assert torch.equal(jacobian, jacobian.tril()) and jacobian.tril(-1).abs().sum() > 0


class Doubled(nn.Module):
    def forward(self, w):
        return 2 * w


def every_layer(net, kinds):
    return [m for m in net.modules() if isinstance(m, kinds)]


@pytest.mark.parametrize(
    "make", [couplings, autoregressive, lambda: images("relu"), lambda: images("silu")]
)
@pytest.mark.parametrize("how", ["parametrize", "hook", "pre-hook", "forward", "of the network"])
def test_what_stands_between_a_layer_and_its_call_counts(make, how):
    layer, x = make()
    expected = moved(layer)
    changed = copy.deepcopy(layer)
    target = every_layer(changed.net, (nn.Linear, nn.Conv2d))[0]
    twin = every_layer(expected.net, (nn.Linear, nn.Conv2d))[0]
    if how == "parametrize":
        nn.utils.parametrize.register_parametrization(target, "weight", Doubled())
        twin.weight.data *= 2
    elif how == "hook":
        target.register_forward_hook(lambda module, given, out: out + 1)
        twin.bias.data += 1
    elif how == "pre-hook":
        target.register_forward_pre_hook(
            lambda module, given: setattr(module.weight, "data", twin.weight.data)
        )
        twin.weight.data *= -1
    elif how == "forward":
        target.forward = lambda h, old=target.forward: old(h) + 1
        twin.bias.data += 1
    else:
        changed.net.register_forward_hook(lambda module, given, out: 0 * out)
        nn.init.zeros_(every_layer(expected.net, (nn.Linear, nn.Conv2d))[-1].weight)
        nn.init.zeros_(every_layer(expected.net, (nn.Linear, nn.Conv2d))[-1].bias)
    for name in ("forward", "inverse"):
        torch.testing.assert_close(
            getattr(changed, name)(x), getattr(expected, name)(x), rtol=1e-3, atol=1e-4
        )


def test_weight_norm_by_hooks_follows_its_parameters():
    layer, x = couplings()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nn.utils.weight_norm(moved(layer).net.first)
    before = layer(x)[0]
    layer.net.first.weight_g.data *= 3
    assert not torch.allclose(layer(x)[0], before)


@pytest.mark.parametrize(
    "change",
    [
        lambda net: setattr(net, "activation", nn.Tanh()),
        lambda net: setattr(net, "activation", nn.GELU(approximate="tanh")),
        lambda net: setattr(net, "first", nn.Linear(3, 16, bias=False)),
    ],
    ids=["tanh", "another gelu", "no bias"],
)
def test_another_activation_or_layer_is_used(change):
    layer, x = couplings()
    net = moved(layer).net
    change(net)
    h = x[:, :3]
    for linear in (net.first, *net.hidden):
        h = net.activation(linear(h))
    torch.testing.assert_close(net(x[:, :3]), net.last(h))
    z, _ = layer(x)
    torch.testing.assert_close(layer.inverse(z)[0], x, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(z, layer.double()(x.double())[0].float(), rtol=1e-4, atol=1e-4)


def test_a_convolution_with_other_borders_is_used():
    layer, x = images("relu")
    net = moved(layer).net
    circular = nn.Conv2d(2, 8, 3, padding=1, padding_mode="circular")
    circular.load_state_dict(net.first.state_dict())
    zeros = net(x[:, :2])
    net.first = circular
    assert not torch.allclose(net(x[:, :2]), zeros)
    # what is shifted around the border comes out shifted, before the last layer's own border
    h, shifted = (net.middle(net.first(v)) for v in (x[:, :2], x[:, :2].roll(1, -1)))
    torch.testing.assert_close(h.roll(1, -1), shifted)


class Halved(MLP):
    def compute(self, x, c):
        return 0.5 * super().compute(x, c)


class Shifted(b.Affine):
    def forward(self, x, p):
        z, log_derivative = super().forward(x, p)
        return z + 1, log_derivative


def test_a_subclass_with_its_own_formula_is_used():
    for net, map in ((Halved, b.Affine()), (MLP, Shifted())):
        layer = moved(b.Coupling.build(6, lambda i, o, net=net: net(i, o, 8), map))
        x = torch.randn(5, 6)
        expected = copy.deepcopy(layer).double()(x.double())  # which no kernel serves
        found = [t.double() for t in layer(x)]
        torch.testing.assert_close(found, [*expected], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["realnvp", "maf"])
def test_a_flow_can_be_quantised(name):
    quantize = getattr(torch.ao.quantization, "quantize_dynamic", None)
    if quantize is None or not torch.backends.quantized.supported_engines[1:]:
        pytest.skip("this PyTorch quantises nothing")
    flow = flows.build(name, (4,), layers=2, width=16).eval()
    x = torch.randn(8, 4)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        for p in flow.parameters():
            p.add_(0.05 * torch.randn_like(p))
        rough = quantize(flow, {nn.Linear})
        exact, found = flow.log_prob(x), rough.log_prob(x)
        assert any("quantized" in type(m).__module__ for m in rough.modules())
    assert not torch.equal(exact, found)
    torch.testing.assert_close(found, exact, rtol=0.1, atol=0.3)
