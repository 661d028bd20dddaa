"""Hand-written gradients under autocast, on whatever device: in the types that were given.

Autocast on GPUs promotes other operations than on processors do (exp, log, softmax and their kin give
float32). Here the same promotions are made to happen on the processor, and on fake tensors that say
they lie on a GPU.
"""

from __future__ import annotations

import contextlib

import pytest
import torch
from torch._subclasses import FakeTensorMode
from torch.overrides import TorchFunctionMode

from innverse import flows
from innverse.bijections import Affine, Coupling, RationalQuadraticSpline, affine, spline
from innverse.nets import MLP, ConvNet, perceptron, set_precision, three_convolutions

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
    for a, e in zip(found, expected, strict=True):
        assert (a.double() - e.double()).norm() < 0.05 * e.double().norm() + 1e-3


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
        monkeypatch.setattr("innverse.native.perceptron._library", lambda: None)
        monkeypatch.setattr("innverse.native.spline._library", lambda: None)
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


class Context:
    """What an `autograd.Function` is given."""

    needs_input_grad = (True,) * 8

    def save_for_backward(self, *tensors):
        self.saved_tensors = tensors


def on_gpu(*shape, dtype=torch.bfloat16):
    return torch.empty(shape, dtype=dtype, device="cuda")


SPLINE = (5, 3.0, 1e-3, 1e-3, False)
NODES = {
    "three convolutions": (
        three_convolutions._ThreeConvolutions,
        lambda d: [
            on_gpu(*s, dtype=d)
            for s in [(2, 3, 5, 7), (6, 3, 3, 3), (6,), (6, 6, 1, 1), (6,), (4, 6, 3, 3), (4,), (4,)]
        ],
    ),
    **{
        f"perceptron, {name}": (
            perceptron._Perceptron,
            lambda d, name=name: [
                name, *(on_gpu(*s, dtype=d) for s in [(5, 3), (7, 3), (7,), (4, 7), (4,)])
            ],
        )
        for name in ("relu", "silu", "gelu")
    },
    "affine": (affine._Affine, lambda d: [on_gpu(3, 4, dtype=d), on_gpu(3, 2, 4, dtype=d), 2.0]),
    "affine inverse": (
        affine._AffineInverse,
        lambda d: [on_gpu(3, 4, dtype=d), on_gpu(3, 2, 4, dtype=d), 2.0],
    ),
    "piece of a spline": (
        spline._Piece,
        lambda d: [on_gpu(3, 14, 4, dtype=d), on_gpu(3, 4, dtype=d), SPLINE],
    ),
}  # fmt: skip


@pytest.fixture
def autocast_on_gpu():
    torch.set_autocast_enabled("cuda", True)
    torch.set_autocast_dtype("cuda", torch.bfloat16)
    yield
    torch.set_autocast_enabled("cuda", False)
    torch.clear_autocast_cache()


@pytest.mark.filterwarnings("ignore")  # that there is no GPU
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", NODES)
def test_on_a_gpu_all_types_agree(autocast_on_gpu, name, dtype):
    node, make = NODES[name]
    with FakeTensorMode(), torch.no_grad():
        assert on_gpu(2).exp().dtype == torch.float32  # autocast is on, as GPUs have it
        inputs, ctx = make(dtype), Context()
        out = node.forward(ctx, *inputs)
        outs = out if isinstance(out, tuple) else (out,)
        found = node.backward(ctx, *(torch.empty_like(o) for o in outs))
    assert {o.dtype for o in outs} == {dtype}
    tensors = [(g, t) for g, t in zip(found, inputs, strict=True) if isinstance(g, torch.Tensor)]
    assert len(tensors) >= 1
    for g, t in tensors:
        assert (g.dtype, g.shape, g.device.type) == (dtype, t.shape, "cuda")


def test_a_reversible_chain_goes_back_in_the_types_in_which_it_came():
    x = torch.randn(6, 4)
    gradients = []
    for memory in ("store", "reversible"):
        torch.manual_seed(0)
        flow = flows.build("maf", (4,), layers=2, width=16, memory=memory)
        for p in flow.parameters():
            p.data.add_(0.1 * torch.randn_like(p))
        with torch.autocast("cpu", torch.bfloat16):
            loss = -flow.log_prob(x).mean()
        gradients.append(torch.autograd.grad(loss, [*flow.parameters()]))
        if memory == "reversible":
            assert flow.bijection.drift < 1e-2
    nearly_the_same(*gradients)
