"""Hand-written gradients under autocast, on whatever device: in the types that were given.

Autocast on GPUs promotes other operations than on processors do (exp, log, softmax and their kin give
float32). Here the same promotions are made to happen on the processor.
"""

from __future__ import annotations

import contextlib

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from innverse import flows
from innverse.bijections import Affine, Coupling, RationalQuadraticSpline
from innverse.nets import MADE, MLP, ConvNet, set_precision

PROMOTED = {  # of the list "autocast to float32" in PyTorch's documentation for CUDA
    "exp", "log", "log1p", "pow", "rsqrt", "softmax", "log_softmax", "cumsum", "softplus", "sum",
    "prod", "norm", "reciprocal", "expm1", "layer_norm", "gelu", "sigmoid_",
}  # fmt: skip


class LikeCUDA(TorchFunctionMode):
    """Within autocast, `PROMOTED` take and give float32."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func.__name__ in PROMOTED and torch.is_autocast_enabled("cpu"):
            self.used = True
            args = [
                a.float() if isinstance(a, torch.Tensor) and a.dtype == torch.bfloat16 else a
                for a in args
            ]
        return func(*args, **(kwargs or {}))


def nearly_the_same(found, expected):
    """Gradients less so: rounding turns some ReLUs on or off."""
    for i, (a, e) in enumerate(zip(found, expected, strict=True)):
        tolerance = 0.05 if i < 2 else 0.25
        assert (a.double() - e.double()).norm() < tolerance * e.double().norm() + 1e-3


@pytest.mark.parametrize("promoting", [False, True])
@pytest.mark.parametrize("backward_inside", [False, True])
@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda i, o: ConvNet(i, o, 16), (2, 4, 6, 6)),
        (lambda i, o: ConvNet(i, o, 16, activation="silu"), (2, 4, 6, 6)),
        (lambda i, o: MLP(i, o, 16), (8, 4)),
        (lambda i, o: MLP(i, o, 16, activation="gelu"), (8, 4)),
    ],
)
@pytest.mark.parametrize("map", [Affine(), RationalQuadraticSpline(4)], ids=["affine", "spline"])
def test_bf16_networks_have_gradients_under_any_promotion(
    monkeypatch, make, shape, map, native, backward_inside, promoting
):
    if not native:  # as on a GPU
        monkeypatch.setattr("innverse.accelerate.native.perceptron._library", lambda: None)
        monkeypatch.setattr("innverse.accelerate.native.spline._library", lambda: None)
    layer, x = Coupling.build(4, make, map), torch.randn(shape)
    for p in layer.parameters():
        p.data.add_(0.1 * torch.randn_like(p))

    def run(outside, inside):
        with outside, LikeCUDA() if promoting else contextlib.nullcontext():
            z, logdet = layer(x)
            loss = z.square().mean() + logdet.mean()
            if inside:
                return z, logdet, *torch.autograd.grad(loss, [*layer.parameters()])
        return z, logdet, *torch.autograd.grad(loss, [*layer.parameters()])

    exact = run(contextlib.nullcontext(), False)
    nearly_the_same(run(torch.autocast("cpu", torch.bfloat16), backward_inside), exact)
    set_precision(layer, "bf16")
    nearly_the_same(run(contextlib.nullcontext(), False), exact)


class OneType(TorchDispatchMode):
    """Products take factors of one type, as GPUs demand of them."""

    products = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.__name__
        if any(word in name for word in ("conv", "mm", "_backward")):
            types = {a.dtype for a in args if isinstance(a, torch.Tensor) and a.is_floating_point()}
            assert len(types) == 1, (name, types)
            self.products += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize(
    ("net", "shape"),
    [
        (ConvNet(2, 4, 8), (2, 2, 5, 5)),
        (MLP(3, 4, 8, activation="relu"), (5, 3)),
        (MLP(3, 4, 8), (5, 3)),
        (MLP(3, 4, 8, activation="gelu"), (5, 3)),
        (MADE(3, 2, 8), (5, 3)),
    ],
    ids=["three convolutions", "relu", "silu", "gelu", "masked"],
)
def test_products_take_factors_of_one_type(net, shape, frozen):
    net.requires_grad_(not frozen)
    x = torch.randn(shape, requires_grad=True)
    with OneType() as mode:
        with LikeCUDA() as promoting, torch.autocast("cpu", torch.bfloat16):
            torch.zeros(1).bfloat16().exp()
            y = net(x)
        forward = mode.products
        y.sum().backward()
    assert promoting.used and 0 < forward < mode.products


def test_a_reversible_chain_goes_back_in_the_types_in_which_it_came():
    x = torch.randn(6, 4)
    gradients = []
    for memory in ("store", "reversible"):
        torch.manual_seed(0)
        flow = flows.build("maf", (4,), layers=2, width=16).set_memory(memory)
        for p in flow.parameters():
            p.data.add_(0.1 * torch.randn_like(p))
        with torch.autocast("cpu", torch.bfloat16):
            loss = -flow.log_prob(x).mean()
        gradients.append(torch.autograd.grad(loss, [*flow.parameters()]))
        if memory == "reversible":
            assert flow.bijection.drift < 1e-2
    nearly_the_same(*gradients)
