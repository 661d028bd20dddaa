"""Lossless coding: a stack of bits, exact arithmetic, whole-number layers, and pictures through all."""

from __future__ import annotations

import math
import os
import struct
import subprocess
import sys
import warnings

import numpy as np
import pytest
import torch

import innverse
from innverse import flows
from innverse.bijections import initialize
from innverse.coding import IntegerFlow, Network, Stack, compress, decompress, describe
from innverse.coding.exact import BITS, exp, product
from innverse.errors import InputError, ShapeError, UsageError
from innverse.nets import ConvNet, ConvResNet, SingleConv

# ---- the stack ----------------------------------------------------------------------------------


def length(stack: Stack) -> float:
    """Bits on the stack, net of the borrowed."""
    return 32 * len(stack.words) + float(np.log2(stack.heads.astype(float)).sum()) - stack.borrowed


@pytest.mark.parametrize("lanes", [1, 5])
def test_symbols_come_off_in_reverse_and_cost_their_information(lanes):
    g = np.random.default_rng(0)
    n = g.integers(1, 1 << 20, 3001)
    i = g.integers(0, n)
    z = np.rint(g.standard_normal(2000) * 2**BITS).astype(np.int64)
    stack = Stack(lanes)
    begun = length(stack)
    stack.push_below(i, n)
    one = length(stack) - begun
    assert abs(one / np.log2(n).sum() - 1) < 1e-3
    stack.push_normal(z, BITS)
    nats = 0.5 * (z / 2**BITS) ** 2 + 0.5 * math.log(2 * math.pi)
    expected = nats.sum() / math.log(2) + len(z) * BITS
    assert abs((length(stack) - begun - one) / expected - 1) < 1e-3
    assert (stack.pop_normal(len(z), BITS) == z).all()
    assert (stack.pop_below(n) == i).all()
    assert stack.is_as_begun


def test_numbers_far_from_normal_are_kept_too():
    z = np.array([0, 10**9, -(10**12), 32 << BITS, -(32 << BITS), (32 << BITS) - 1, 5])
    stack = Stack(3)
    stack.push_normal(z, BITS)
    assert (stack.pop_normal(len(z), BITS) == z).all()
    assert stack.is_as_begun


def test_scaling_loses_nothing_and_costs_the_log_determinant():
    g = np.random.default_rng(0)
    x = g.integers(-(10**6), 10**6, 5000)
    r, s = g.integers(1, 1 << 16, 5000), np.full(5000, 1 << 16)
    stack = Stack(7)
    begun = length(stack)
    z = stack.scale(x, r, s)
    assert np.abs(z - x * r / s).max() <= 1
    assert abs((length(stack) - begun) / np.log2(s / r).sum() - 1) < 1e-3
    assert (stack.unscale(z, r, s) == x).all()
    assert 31 * stack.lanes + 32 * len(stack.words) == stack.borrowed
    assert stack.is_as_begun


def test_what_is_borrowed_is_found_again_and_else_missed():
    stack = Stack(2)
    taken = stack.pop_below(np.full(100, 1 << 16))
    assert stack.borrowed >= 1600
    again = Stack(2, stack.heads.copy(), list(stack.words))
    again.push_below(taken, np.full(100, 1 << 16))
    assert again.is_as_begun
    other = Stack(2, stack.heads.copy(), list(stack.words))
    other.push_below(taken ^ 1, np.full(100, 1 << 16))
    assert not other.is_as_begun


# ---- arithmetic ---------------------------------------------------------------------------------


def test_exponential():
    x = np.linspace(-40, 40, 4001)
    np.testing.assert_allclose(exp(x), np.exp(x), rtol=4e-15)


def test_products_are_those_of_whole_numbers():
    g = np.random.default_rng(0)
    w, h = g.integers(-(2**20), 2**20, (4, 50)), g.integers(-(2**18), 2**18, (50, 6))
    exact = [
        [sum(int(a) * int(b) for a, b in zip(row, col, strict=True)) for col in h.T] for row in w
    ]
    # round half to even, as float64 does of a number it holds exactly
    expected = [[round(v / 2**18) for v in row] for row in exact]
    assert product(w.astype(float), h).tolist() == expected
    with pytest.raises(InputError, match="unlike"):
        product(w.astype(float), h * 2**20)


@pytest.mark.parametrize(
    "net",
    [
        lambda: ConvNet(2, 4, hidden=8),
        lambda: ConvNet(2, 4, hidden=8, condition=3, how="film", activation="silu"),
        lambda: ConvNet(2, 4, hidden=8, condition=3),
        lambda: ConvResNet(2, 4, hidden=8, blocks=2, condition=3, activation="silu"),
        lambda: SingleConv(2, 4, condition=3),
    ],
)
def test_exact_networks_are_the_networks(net):
    net = net()
    for p in net.parameters():
        p.data.add_(0.1 * torch.randn_like(p))
    c = torch.rand(1, 3) if net.condition else None
    x = (torch.randn(1, 2, 6, 5) * 2**BITS).round() / 2**BITS
    found = Network(net, None if c is None else c[0].double().numpy())(x.double() * 2**BITS)
    assert bool((found == found.round()).all())
    torch.testing.assert_close((found / 2**BITS).float(), net(x, c).detach(), atol=2e-3, rtol=0)


# ---- flows ----------------------------------------------------------------------------------------

FLOWS = {
    "glow": lambda: flows.build("glow", (3, 8, 8), levels=2, steps=2, hidden=8),
    "faces": lambda: flows.build(
        "glow", (3, 8, 8), levels=2, steps=2, hidden=8, squeeze="haar", mix="swap", how="film",
        activation="silu", noise=(0.01, 0.2), bound=1.5,
    ),
    "mnist": lambda: flows.build("glow", (1, 8, 8), levels=2, steps=2, hidden=8, gaussianize=256),
    "realnvp": lambda: flows.build("realnvp", (3, 8, 8), levels=2, hidden=8, blocks=1, logit=0.05),
    "conv": lambda: flows.build("glow", (1, 8, 8), levels=2, steps=1, hidden=8, split="conv"),
}  # fmt: skip


def made(name: str):
    """A flow of random weights, near the identity, that knows the scale of its pictures."""
    torch.manual_seed(0)
    flow, images = FLOWS[name](), pictures(16, FLOWS[name]().shape)
    for p in flow.parameters():
        p.data.add_(0.02 * torch.randn_like(p))
    initialize(flow, (images + 0.5) / 256, None if flow.noise is None else 0.01)
    return flow.eval()


def pictures(n: int, shape) -> torch.Tensor:
    """Smooth ones, uint8."""
    g = torch.Generator().manual_seed(1)
    coarse = torch.rand(n, shape[0], 4, 4, generator=g)
    x = torch.nn.functional.interpolate(coarse, tuple(shape[1:]), mode="bilinear")
    return (x * 200 + 20 + 6 * torch.randn(x.shape, generator=g)).clamp(0, 255).byte()


@pytest.mark.parametrize("name", FLOWS)
def test_whole_numbers_go_where_the_flow_takes_them(name):
    flow = made(name)
    c = None if flow.noise is None else flow._condition(0.01, torch.zeros(1, 1))
    model = IntegerFlow(flow.bijection, None if c is None else c[0].detach().double().numpy())
    v = pictures(1, flow.shape)[0].long().numpy()
    x = (v << model.begins) + (1 << model.begins - 1)
    stack = Stack(4)
    z = model.forward(x, stack)
    given = [] if c is None else [0.01]
    expected = flow.double().encode(torch.from_numpy(x / 2 ** (8 + model.begins))[None], *given)[0]
    found, expected = torch.from_numpy(z / 2**BITS), expected.detach()
    if name == "faces":  # latents stay in wavelets, which keep lengths
        found, expected = found.norm(), expected.norm()
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0)
    assert (model.inverse(z, stack) == x).all()
    assert stack.is_as_begun


@pytest.mark.parametrize("name", FLOWS)
@pytest.mark.parametrize("size", [(8, 8), (10, 7)])
def test_pictures_return_bit_for_bit(name, size):
    flow = made(name)
    x = pictures(2, (flow.shape[0], *size))
    x = torch.cat([x, torch.zeros_like(x[:1]), torch.randint(0, 256, x[:1].shape).byte()])
    data = compress(flow, x)
    found = decompress(flow, data)
    assert found.dtype == torch.uint8 and torch.equal(found, x)
    assert describe(data).shape == tuple(x.shape)


def test_length_is_what_the_density_says():
    flow = innverse.load("digits")
    torch.manual_seed(0)
    x = (256 * flow.sample(32)).clamp(0, 255).byte()
    code = describe(compress(flow, x))
    bits = float(torch.stack([flow.bits_per_dim(x) for _ in range(8)]).mean())
    overhead = (8 * 32 + 4 * len(x) + 33 * 4) / x.numel()  # header, checks, what the lanes waste
    assert abs(code.bits_per_dim - overhead - bits) < 0.01 * bits
    assert code.gross_bits_per_dim > code.bits_per_dim


def test_a_noise_level_stands_in_the_code():
    flow, x = made("faces"), pictures(1, (3, 8, 8))
    low, high = compress(flow, x), compress(flow.at(0.2), x)
    assert low != high and low == compress(flow.at(0.01), x)
    assert torch.equal(decompress(flow, high), x) and torch.equal(decompress(flow.at(0.1), low), x)


# ---- what is wrong ----------------------------------------------------------------------------------


def test_damage_is_noticed_wherever_it_is():
    flow, x = innverse.load("digits"), pictures(2, (1, 8, 8))
    data = compress(flow, x)
    for i in range(0, len(data), 7):
        broken = bytearray(data)
        broken[i] ^= 0x10
        with pytest.raises(InputError):
            decompress(flow, bytes(broken))
    for cut in (0, 3, 20, len(data) - 4, len(data) - 1):
        with pytest.raises(InputError):
            describe(data[:cut])


def test_a_code_that_lies_is_found_out():
    """Words that were changed with their checksum: the bits that were borrowed do not return."""
    import zlib

    flow, x = innverse.load("digits"), pictures(2, (1, 8, 8))
    data = bytearray(compress(flow, x))
    data[-1] ^= 1
    head = struct.calcsize("<4s8sIIBBHHH")
    crc = zlib.crc32(bytes(data[head + 4 :]), zlib.crc32(bytes(data[:head])))
    data[head : head + 4] = struct.pack("<I", crc)
    with pytest.raises(InputError, match="does not decode|not end as it began|unlike"):
        decompress(flow, bytes(data))


def test_another_model_is_refused():
    x = pictures(1, (1, 8, 8))
    flow = innverse.load("digits", trainable=True)
    data = compress(flow, x)
    with torch.no_grad():
        next(flow.parameters()).flatten()[0].add_(1e-3)
    with pytest.raises(InputError, match="another model"):
        decompress(flow, data)


@pytest.mark.parametrize(
    "images, error, says",
    [
        (torch.rand(1, 1, 8, 8), InputError, "whole numbers"),
        (torch.full((1, 1, 8, 8), 256), InputError, "0 to 255"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), ShapeError, r"\(N, 1, H, W\)"),
        (torch.zeros(0, 1, 8, 8, dtype=torch.uint8), ShapeError, r"got \(0, 1, 8, 8\)"),
    ],
)
def test_other_pictures_are_refused(images, error, says):
    with pytest.raises(error, match=says):
        compress(innverse.load("digits"), images)


def test_other_flows_are_refused():
    x = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    with pytest.raises(UsageError, match="flow of images"):
        compress(flows.build("realnvp", (4,)), x)
    with pytest.raises(UsageError, match="Patches|not coded"):
        compress(flows.build("patches", (1, 8, 8)), x)


DECODE = """
import sys, torch, innverse
from innverse import coding
torch.set_num_threads(int(sys.argv[2]))
for name in ("digits", "faces64"):
    data = open(f"{sys.argv[1]}/{name}.inn", "rb").read()
    torch.save(coding.decompress(innverse.load(name), data), f"{sys.argv[1]}/{name}.out")
"""


@pytest.mark.slow
def test_every_machine_decodes_the_same(tmp_path):
    """Other numbers of threads, vector units and kernels than the encoder's."""
    made_of = {}
    for name in ("digits", "faces64"):
        flow = innverse.load(name)
        torch.manual_seed(0)
        given = {} if flow.noise is None else {"c": 0.01}
        made_of[name] = (256 * flow.sample(2, **given)).clamp(0, 255).byte()
        (tmp_path / f"{name}.inn").write_bytes(compress(flow, made_of[name]))
    numpy_plain = {"NPY_DISABLE_CPU_FEATURES": "AVX512F AVX2"}
    variants = [
        (1, {}),
        (2, {}),
        (1, {"ATEN_CPU_CAPABILITY": "default"}),
        (2, {"INNVERSE_NATIVE": "0"} | numpy_plain),
    ]
    for threads, more in variants:
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), **more}
        done = subprocess.run(
            [sys.executable, "-c", DECODE, tmp_path, str(threads)],
            env=environment, capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, (more, done.stderr)
        for name, x in made_of.items():
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                assert torch.equal(torch.load(tmp_path / f"{name}.out"), x), (name, threads, more)
