"""Memory modes of a chain: what they save, and that gradients do not notice."""

from __future__ import annotations

import copy
import logging

import pytest
import torch

from innverse import bijections as b
from innverse.nets import MLP, ConvNet


def deep_chain(depth=24, n=6):
    torch.manual_seed(0)
    layers = []
    for k in range(depth):
        layers += [
            b.ActNorm(n),
            b.Invertible1x1(n),
            b.Coupling.build(n, lambda i, o: MLP(i, o, 8), swap=bool(k % 2)),
        ]
    chain = b.Chain(*layers)
    for p in chain.parameters():
        p.data.add_(0.1 * torch.randn_like(p))
    return chain


def gradients(chain, x, c=None):
    z, logdet = chain(x, c)
    loss = (0.5 * z.square().sum(1) - logdet).sum()
    return torch.autograd.grad(loss, [x, *chain.parameters()])


@pytest.mark.parametrize("mode", ["checkpoint", "reversible"])
@pytest.mark.parametrize("anchor_every", [None, 5])
def test_modes_give_the_gradients_of_store(mode, anchor_every):
    chain = deep_chain().double()
    x = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    expected = gradients(chain, x)
    b.set_memory(chain, mode, anchor_every)
    for g, e in zip(gradients(chain, x), expected, strict=True):
        torch.testing.assert_close(g, e, rtol=1e-7, atol=1e-9)


def saved_bytes(chain, x):
    sizes = {}

    def pack(t):
        sizes[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    parameters = {p.untyped_storage().data_ptr() for p in chain.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        chain(x)
    return sum(n for pointer, n in sizes.items() if pointer not in parameters)


def test_reversible_memory_does_not_grow_with_depth():
    x = torch.randn(256, 6)
    shallow, deep = (b.set_memory(deep_chain(d), "reversible") for d in (4, 32))
    assert saved_bytes(deep, x) == saved_bytes(shallow, x)
    store = saved_bytes(b.set_memory(deep, "store"), x)
    assert store > 10 * saved_bytes(b.set_memory(deep, "reversible"), x)


def test_anchors_bound_the_drift():
    torch.manual_seed(1)
    chain = deep_chain(48)
    for p in chain.parameters():
        p.data.add_(0.15 * torch.randn_like(p))
    x = torch.randn(64, 6, requires_grad=True)
    drift = {}
    for every in (None, 4):
        b.set_memory(chain, "reversible", every)
        gradients(chain, x)
        drift[every] = float(chain.drift)
    assert drift[4] < 0.1 * drift[None]


def test_drift_above_tolerance_is_reported(caplog, monkeypatch):
    monkeypatch.setattr("innverse.accelerate.reversible.DRIFT_TOLERANCE", 1e-12)
    chain = b.set_memory(deep_chain(), "reversible")
    with caplog.at_level(logging.WARNING, logger="innverse"):
        gradients(chain, torch.randn(4, 6, requires_grad=True))
    assert "rebuilt with error" in caplog.text


def test_reversible_condition_gets_its_gradient():
    torch.manual_seed(0)
    layers = [b.Coupling.build(6, lambda i, o: MLP(i, o, 8, condition=2)) for _ in range(3)]
    chain = b.Chain(*layers).double()
    for p in chain.parameters():
        p.data.add_(0.2 * torch.randn_like(p))
    x, c = torch.randn(3, 6).double(), torch.randn(3, 2).double().requires_grad_()
    grads = []
    for mode in ("store", "reversible"):
        z, logdet = b.set_memory(chain, mode)(x, c)
        grads.append(torch.autograd.grad((z.square().sum() + logdet.sum()), c)[0])
    assert grads[0].abs().max() > 0
    torch.testing.assert_close(*grads)


def test_reversible_with_frozen_parameters_and_backward():
    chain = b.set_memory(deep_chain(3), "reversible")
    frozen = next(chain.parameters()).requires_grad_(False)
    z, logdet = chain(torch.randn(4, 6))
    (z.square().sum() - logdet.sum()).backward()
    assert frozen.grad is None
    assert all(p.grad is not None for p in list(chain.parameters())[1:])


def test_reversible_under_autocast_matches_store():
    chain = deep_chain(2)
    x = torch.randn(4, 6, requires_grad=True)
    grads = []
    for mode in ("store", "reversible"):
        b.set_memory(chain, mode)
        with torch.autocast("cpu", torch.bfloat16):
            grads.append(gradients(chain, x)[0])
    assert (grads[0] - grads[1]).norm() < 0.05 * grads[0].norm()


def test_actnorm_before_1x1_costs_one_convolution():
    chain = b.Chain(b.ActNorm(4), b.Invertible1x1(4), b.Permute(4))
    x = torch.randn(2, 4, 8, 8)
    with torch.profiler.profile() as profile:
        z, _ = chain(x)
    calls = {e.key: e.count for e in profile.key_averages()}
    assert calls["aten::conv2d"] == 1
    torch.testing.assert_close(z, chain.layers[2](chain.layers[1](chain.layers[0](x)[0])[0])[0])


def test_cached_matrices_follow_the_weights():
    layer = b.Invertible1x1(4).double().eval().requires_grad_(False)
    x = torch.randn(2, 4, 3, 3, dtype=torch.float64)
    before = layer(x)[0]
    layer.upper.data.add_(0.5)
    with torch.no_grad():
        layer.log_s.add_(0.1)
    fresh = copy.deepcopy(layer).train()
    assert not torch.allclose(layer(x)[0], before)
    torch.testing.assert_close(layer(x)[0], fresh(x)[0])
    torch.testing.assert_close(layer.inverse(layer(x)[0])[0], x)


@pytest.mark.parametrize("fused", [False, True])  # fused steps leave version counters alone
def test_cached_matrices_follow_the_optimiser(fused):
    chain = b.Chain(b.ActNorm(4), b.Invertible1x1(4), b.Partial(b.ActNorm(2), 2)).double().eval()
    optimizer = torch.optim.Adam(chain.parameters(), lr=0.1, fused=fused)
    x = torch.randn(2, 4, 3, 3, dtype=torch.float64)
    for _ in range(2):
        with torch.no_grad():
            z, logdet = chain(x)
            z_fresh, logdet_fresh = copy.deepcopy(chain).train()(x)
            torch.testing.assert_close((z, logdet), (z_fresh, logdet_fresh))
            torch.testing.assert_close(chain.inverse(z)[0], x)
        optimizer.zero_grad()
        chain(x)[0].square().sum().backward()
        optimizer.step()


def test_initialize_normalises_each_channel_once():
    chain = b.Chain(b.ActNorm(3), b.Invertible1x1(3), b.ActNorm(3))
    x = 5 + 3 * torch.randn(64, 3, 4, 4) * torch.tensor([1.0, 0.1, 10.0]).view(1, 3, 1, 1)
    b.initialize(chain, x)
    z, _ = chain(x)
    torch.testing.assert_close(z.mean((0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(z.std((0, 2, 3)), torch.ones(3), atol=1e-2, rtol=0)
    weights = copy.deepcopy(chain.state_dict())
    b.initialize(chain, 2 * x)
    assert all(torch.equal(v, weights[k]) for k, v in chain.state_dict().items())


def test_constant_channel_and_single_item_initialise():
    chain = b.Chain(b.ActNorm(3))
    b.initialize(chain, torch.zeros(1, 3, 4, 4))
    assert torch.isfinite(chain(torch.zeros(1, 3, 4, 4))[0]).all()


@pytest.mark.parametrize("value", [0.0, 1e4, -1e4])
def test_extreme_inputs_stay_finite_and_invertible(value):
    torch.manual_seed(0)
    layer = b.Coupling.build(6, lambda i, o: MLP(i, o, 8), b.RationalQuadraticSpline(6, 3.0))
    layer.net.last.weight.data.normal_()
    x = torch.full((2, 6), value)
    z, logdet = layer(x)
    assert torch.isfinite(z).all() and torch.isfinite(logdet).all()
    torch.testing.assert_close(layer.inverse(z)[0], x, rtol=1e-4, atol=1e-4)


def test_empty_batch():
    net = b.Coupling.build(4, lambda i, o: ConvNet(i, o, 8))
    z, logdet = net(torch.zeros(0, 4, 4, 4))
    assert z.shape == (0, 4, 4, 4) and logdet.shape == (0,)


def test_wrong_options_say_so():
    with pytest.raises(ValueError, match="memory='none'"):
        b.Chain(memory="none")
    with pytest.raises(ValueError, match="at least 2"):
        b.Coupling(1, MLP(1, 1))
    with pytest.raises(ValueError, match="permutation of 0..2"):
        b.Permute(3, [0, 0, 1])
    with pytest.raises(ValueError, match="even height and width"):
        b.Squeezed(b.Chain())(torch.zeros(1, 1, 3, 4))
    with pytest.raises(ValueError, match="only 0"):
        b.MaskedCoupling(torch.tensor([0.5]), MLP(1, 2))


def test_a_layer_put_in_later_counts():
    chain = b.Chain(b.ActNorm(3), b.Permute(3, [2, 0, 1]))
    x = torch.randn(2, 3)
    torch.testing.assert_close(chain(x)[0], x[:, [2, 0, 1]])
    chain.layers[1] = b.Permute(3, [0, 2, 1])
    torch.testing.assert_close(chain(x)[0], x[:, [0, 2, 1]])
    chain.layers.append(b.Permute(3, [1, 0, 2]))
    z, _ = chain(x)
    torch.testing.assert_close(z, x[:, [2, 0, 1]])
    torch.testing.assert_close(chain.inverse(z)[0], x)


@pytest.mark.parametrize(
    ("room", "expected"), [(1e12, "store"), (4e5, "checkpoint"), (100, "reversible")]
)
def test_auto_takes_the_fastest_mode_that_fits(monkeypatch, room, expected):
    from innverse.accelerate import automatic

    monkeypatch.setattr(automatic, "_total_memory", lambda device: room)
    chain = b.set_memory(deep_chain(), "auto")
    x = torch.randn(64, 6)
    with torch.no_grad():
        chain(x)
    assert chain.memory == "auto"  # nothing to choose without a gradient
    z, logdet = chain(x)
    assert chain.memory == expected
    stored = b.set_memory(copy.deepcopy(chain), "store")
    (z.sum() + logdet.sum()).backward()
    w, other = stored(x)
    (w.sum() + other.sum()).backward()
    for p, q in zip(chain.parameters(), stored.parameters(), strict=True):
        assert (p.grad - q.grad).norm() <= 1e-3 * q.grad.norm()


def test_auto_measures_what_store_mode_keeps():
    from innverse.accelerate.automatic import _measure

    chain = deep_chain()
    x = torch.randn(1, 6)
    measured, layers = _measure(chain, x, None)
    assert layers == 72
    assert abs(measured / saved_bytes(chain, x.requires_grad_()) - 1) < 0.2
