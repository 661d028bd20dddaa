"""What PyTorch's own tools ask of a module, of every architecture."""

from __future__ import annotations

import copy
import math
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch.func import functional_call, grad, jacrev, jvp, vmap
from torch.nn.utils import parameters_to_vector

from flows.every import EVERY, build, items
from innverse import flows, generators
from innverse.bijections import initialize, set_memory

CLOSE = {"rtol": 1e-3, "atol": 1e-4}
# flow matching evaluates a U-Net many times an image: the vectors show the same
QUICK = [case for case in EVERY if case != "flow_matching, images"]

every = pytest.mark.parametrize("case", EVERY)
quick = pytest.mark.parametrize("case", QUICK)


def test_no_flow_is_left_out():
    elsewhere = {"injective"}  # whose latents are fewer: test_injective.py
    assert {name for name, _, _ in EVERY.values()} | elsewhere == set(flows.names())


def assert_real(module):
    assert not any(t.is_meta for t in [*module.parameters(), *module.buffers()])


@every
def test_built_on_the_meta_device_and_loaded(case):
    flow = build(case)
    name, shape, options = EVERY[case]
    with torch.device("meta"):
        empty = flows.build(name, shape, **options).eval()
        assigned = flows.build(name, shape, **options).eval()
    assert all(t.is_meta for t in [*empty.parameters(), *empty.buffers()])
    nothing = torch.empty(2, *shape, device="meta")
    if "residual" not in case:  # whose fixed point and probes need values
        assert empty.log_prob(nothing).shape == (2,)
    empty.to_empty(device="cpu")
    for t in [*empty.parameters(), *empty.buffers()]:  # whatever the memory held
        t.data.fill_(torch.nan if t.is_floating_point() else 0)
    empty.load_state_dict(flow.state_dict())
    assigned.load_state_dict(flow.state_dict(), assign=True)
    x = items(flow)
    with torch.no_grad():
        for other in (empty, assigned):
            assert_real(other)
            torch.testing.assert_close(other.log_prob(x), flow.log_prob(x), **CLOSE)
            torch.testing.assert_close(other.decode(x), flow.decode(x), **CLOSE)


@pytest.mark.parametrize("name", generators.names())
def test_generators_are_built_on_the_meta_device_and_loaded(name):
    options = {"latent": 2, "width": 8}
    model = generators.build(name, (1, 8, 8), **options).eval()
    with torch.device("meta"):
        other = generators.build(name, (1, 8, 8), **options).eval()
    other.to_empty(device="cpu").load_state_dict(model.state_dict())
    z = torch.randn(3, 2)
    torch.testing.assert_close(other(z), model.decode(z))
    parameters_to_vector(model.parameters())


@every
def test_parameters_are_contiguous(case, tmp_path):
    flow = build(case)
    parameters_to_vector(flow.parameters())
    save_file(flow.state_dict(), tmp_path / "flow.safetensors")


@quick
def test_lbfgs_descends(case):
    flow = build(case)
    x = items(flow, 8)
    # a strong Wolfe search ends no higher than it began
    optimizer = torch.optim.LBFGS(flow.parameters(), max_iter=2, line_search_fn="strong_wolfe")
    losses = []

    def loss():
        optimizer.zero_grad()
        value = -flow(x).mean()
        value.backward()
        losses.append(value.item())
        return value

    optimizer.step(loss)
    assert min(losses) < losses[0] and all(map(math.isfinite, losses))


@quick
def test_empty_batches_and_shapes_of_samples(case):
    flow = build(case)
    none = items(flow)[:0]
    for found in (flow.encode(none), flow.decode(none), flow.score(none), flow.sample(0)):
        assert found.shape == none.shape
    assert flow.log_prob(none).shape == flow.bits_per_dim(none).shape == (0,)
    flow.log_prob(none).sum().backward()
    assert flow.sample((2, 1)).shape == (2, 1, *flow.shape)
    assert flow.sample(()).shape == flow.shape
    a, b = (flow.sample(n, generator=torch.Generator().manual_seed(0)) for n in (2, (2, 1)))
    torch.testing.assert_close(a, b[:, 0])


@quick
def test_transforms_of_functions(case):
    """vmap, jacrev, jvp and gradients of single items agree with the batch and with autograd."""
    flow = build(case)
    x = items(flow)

    def of_one(x):
        return flow.log_prob(x[None])[0]

    score, v = flow.score(x), torch.linspace(-1, 1, x.numel()).view_as(x)
    torch.testing.assert_close(vmap(of_one)(x), flow.log_prob(x), **CLOSE)
    torch.testing.assert_close(vmap(grad(of_one))(x), score, **CLOSE)
    torch.testing.assert_close(vmap(jacrev(of_one))(x), score, **CLOSE)
    torch.testing.assert_close(vmap(lambda x: flow.score(x[None])[0])(x), score, **CLOSE)
    _, slope = jvp(flow.log_prob, (x,), (v,))
    torch.testing.assert_close(slope, (score * v).flatten(1).sum(1), **CLOSE)
    decoded = vmap(lambda z: flow.decode(z[None])[0])(x)
    torch.testing.assert_close(decoded, flow.decode(x), **CLOSE)


@quick
def test_gradients_for_each_item(case):
    flow = build(case)
    x, parameters = items(flow), dict(flow.named_parameters())

    def loss(parameters, x):
        return functional_call(flow, parameters, (x[None],))[0]

    found = vmap(grad(loss), (None, 0))(parameters, x)
    for i in range(len(x)):
        flow.zero_grad()
        flow(x[i : i + 1]).sum().backward()
        for name, p in parameters.items():
            if p.grad is not None:
                torch.testing.assert_close(found[name][i], p.grad, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("memory", ["checkpoint", "reversible"])
@pytest.mark.parametrize("case", ["nsf", "glow"])
def test_transforms_in_other_memory_modes(case, memory):
    flow = build(case)
    x, expected = items(flow), flow.score(items(flow))
    set_memory(flow, memory)
    found = vmap(grad(lambda x: flow.log_prob(x[None])[0]))(x)
    torch.testing.assert_close(found, expected, **CLOSE)


@quick
def test_inference_mode(case):
    """Nothing made in it spoils a gradient after it, and scores exist inside too."""
    flow = build(case)
    x = items(flow)
    expected = flow.score(x)
    with torch.inference_mode():
        flow.decode(flow.encode(x))
        made = x + 0
        torch.testing.assert_close(flow.score(made), expected, **CLOSE)
    flow.log_prob(made).sum().backward()
    torch.testing.assert_close(flow.score(made), expected, **CLOSE)


@quick
@pytest.mark.parametrize("direction", ["encode", "decode", "log_prob"])
def test_gradients_through_a_frozen_flow(case, direction):
    """Against central differences in float64."""
    flow = build(case).requires_grad_(False)
    x = items(flow)
    v = torch.linspace(-1, 1, x.numel()).view_as(x)
    at = x.clone().requires_grad_()
    out = getattr(flow, direction)(at)
    found = torch.autograd.grad(out.sum(), at)[0]
    exact = getattr(copy.deepcopy(flow).double(), direction)
    h = 1e-5
    with torch.no_grad():
        ends = [exact(x.double() + sign * h * v.double()).sum() for sign in (1, -1)]
    slope = (ends[0] - ends[1]) / (2 * h)
    torch.testing.assert_close((found * v).sum().double(), slope, rtol=1e-2, atol=1e-2)


@quick
def test_copies_and_pickles(case):
    flow = build(case)
    x = items(flow)
    flow.decode(x)  # with whatever it keeps
    for other in (copy.deepcopy(flow), pickle.loads(pickle.dumps(flow))):
        torch.testing.assert_close(other.log_prob(x), flow.log_prob(x))


def replica(module):
    """As `nn.DataParallel` makes one: parameters become attributes that gradients flow through."""
    new = module._replicate_for_data_parallel()
    new._former_parameters = {}
    for name, p in module._parameters.items():
        if p is not None:
            new._former_parameters[name] = p.view_as(p)
            setattr(new, name, new._former_parameters[name])
    new._modules = {name: m and replica(m) for name, m in module._modules.items()}
    return new


@pytest.mark.parametrize("memory", ["store", "reversible"])
@pytest.mark.parametrize("case", ["nsf", "maf", "glow"])
def test_replicas_compute_the_same_and_pass_gradients_on(case, memory):
    flow = set_memory(build(case).train(), memory)
    x = items(flow)
    parameters = list(flow.parameters())
    expected = torch.autograd.grad(flow(x).sum(), parameters)
    for found, truth in zip(
        torch.autograd.grad(replica(flow)(x).sum(), parameters), expected, strict=True
    ):
        torch.testing.assert_close(found, truth, **CLOSE)
    assert replica(flow).sample(2).shape == (2, *flow.shape)


class Method(torch.nn.Module):
    def __init__(self, flow, name):
        super().__init__()
        self.flow, self.name = flow, name

    def forward(self, x):
        return getattr(self.flow, self.name)(x)


def check_export(case, directions):
    flow = build(case).requires_grad_(False)
    x = items(flow)
    for direction in directions:
        graph = torch.export.export(Method(flow, direction), (x,)).module()
        # ONNX, for one, solves no equations
        assert not any("solve_triangular" in str(node.target) for node in graph.graph.nodes)
        other = 0.9 * x
        torch.testing.assert_close(graph(other), getattr(flow, direction)(other), **CLOSE)


@pytest.mark.parametrize("case", ["nsf", "glow"])
def test_exported_decoders(case):
    check_export(case, ["decode"])


@pytest.mark.slow
@quick
def test_exported_densities_and_codes(case):
    check_export(case, ["log_prob", "encode", "decode"])


@pytest.mark.filterwarnings("ignore")  # a trace holds for one size, and warns of it
@pytest.mark.parametrize("case", ["nsf", "maf", "glow"])
def test_traces_hold_the_formula(case):
    flow = build(case).requires_grad_(False)
    x = items(flow)
    trace = torch.jit.trace(Method(flow, "log_prob"), (x,), check_trace=False)
    torch.testing.assert_close(trace(0.9 * x), flow.log_prob(0.9 * x), **CLOSE)


@pytest.mark.parametrize("case", [case for case in EVERY if len(EVERY[case][1]) == 1])
def test_columns_of_any_scale(case):
    """The density of s x + m is that of x less log|s|: units change nothing else."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(64, 3, generator=g, dtype=torch.float64)
    scale = torch.tensor([1e9, 1e-9, 1.0], dtype=torch.float64)
    shift = torch.tensor([0.0, 0.0, 1e9], dtype=torch.float64)
    plain, scaled = build(case), build(case)
    initialize(plain, x)
    initialize(scaled, scale * x + shift)
    with torch.no_grad():
        found = scaled.log_prob(scale * x + shift)
        expected = plain.log_prob(x) - scale.log().sum()
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)
        z = scaled.encode(scale * x + shift)
        torch.testing.assert_close(z, plain.encode(x), rtol=1e-3, atol=1e-3)
        columns = scaled.decode(z).double()[:, :2] / scale[:2]
    torch.testing.assert_close(columns, x[:, :2], rtol=1e-2, atol=1e-2)
    loaded = build(case)
    loaded.load_state_dict(scaled.state_dict())
    torch.testing.assert_close(loaded.log_prob(scale * x + shift), found)


@pytest.mark.parametrize("case", ["residual, images", "flow_matching, images"])
def test_estimated_determinants_are_the_same_under_vmap(case):
    flow = build(case, exact_dims=8).double()
    x = torch.rand(3, *flow.shape).double()
    found = vmap(lambda x: flow.log_prob(x[None])[0])(x)
    torch.testing.assert_close(found, flow.log_prob(x), **CLOSE)
