"""Steps of a chain as one node, within the promise that parameters stay."""

import pytest
import torch

from innverse import flows
from innverse.accelerate.constant import constant_parameters, varying_inputs
from innverse.accelerate.joined import joined
from innverse.bijections import Chain, Coupling
from innverse.errors import ShapeError
from innverse.nets import MLP

FLOWS = {
    "glow": ("glow", (3, 8, 8), {"levels": 2, "steps": 2, "hidden": 8}),
    "given, by film": (
        "glow",
        (3, 8, 8),
        {"levels": 2, "steps": 2, "hidden": 8, "noise": (0.01, 1.0), "how": "film"},
    ),
    "given, appended": (
        "glow",
        (3, 8, 8),
        {"levels": 2, "steps": 2, "hidden": 8, "noise": (0.01, 1.0), "how": "concat"},
    ),
    "vectors": ("realnvp", (6,), {"width": 8}),
    "spline": ("nsf", (6,), {"width": 8}),
}


def made(name):
    kind, shape, options = FLOWS[name]
    torch.manual_seed(0)
    flow = flows.build(kind, shape, **options)
    with torch.no_grad():
        for p in flow.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return flow.eval(), torch.rand(2, *shape), 0.1 if "noise" in options else None


def nodes(t):
    """Names of the nodes that t was made by."""
    found, left = {}, [t.grad_fn]
    while left:
        node = left.pop()
        if node is not None and node not in found:
            found[node] = node.name()
            left += [n for n, _ in node.next_functions]
    return list(found.values())


def everything(flow, x, c):
    """Values, gradients and second derivatives of both directions."""
    found = []
    for function in (flow.log_prob, flow.decode):
        u = x.clone().requires_grad_()
        value = function(u, c).square().sum()
        (g,) = torch.autograd.grad(value, u, create_graph=True)
        (h,) = torch.autograd.grad(g.square().sum(), u, retain_graph=True)
        (again,) = torch.autograd.grad(function(u, c).square().sum(), u)
        with torch.no_grad():
            found += [value.detach(), g.detach(), h, again, function(x, c)]
    return found


@pytest.mark.parametrize("name", FLOWS)
def test_values_and_derivatives_are_those_of_the_chain_in_float64(name):
    flow, x, c = made(name)
    with constant_parameters():
        found = everything(flow, x, c)
    exact = everything(flow.double(), x.double(), c)
    for a, b in zip(found, exact, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-3, atol=1e-4 * float(b.abs().max()))


@pytest.mark.parametrize("name", ["glow", "given, by film", "vectors"])
def test_few_nodes_are_made(name):
    flow, x, c = made(name)
    couplings = sum(isinstance(m, Coupling) for m in flow.modules())
    value = flow.log_prob(x.requires_grad_(), c)
    if not any("_Node" in n for n in nodes(value)):
        pytest.skip("no kernels here")
    chains = sum(isinstance(m, Chain) for m in flow.modules())
    with constant_parameters():
        for function in (flow.log_prob, flow.decode):
            found = [n for n in nodes(function(x, c)) if "_Node" in n]
            assert 0 < len(found) <= chains < couplings


class Halved(Coupling):
    def forward(self, x, c=None):
        z, logdet = super().forward(x, c)
        return 0.5 * z, logdet


def test_what_is_more_than_the_formula_is_called():
    torch.manual_seed(0)
    make = lambda n, m: MLP(n, m, width=8)  # noqa: E731
    chain = Chain(Coupling.build(4, make), Coupling.build(4, make, swap=True)).eval()
    other = Chain(Halved(4, chain.layers[0].net), chain.layers[1]).eval()
    x, calls = torch.rand(3, 4), []
    with constant_parameters():
        a = chain(x)[0]
        torch.testing.assert_close(other(x)[0], chain.layers[1](0.5 * chain.layers[0](x)[0])[0])
    chain.layers[1].register_forward_hook(lambda *given: calls.append(given))
    with constant_parameters():
        torch.testing.assert_close(chain(x)[0], a)
    assert calls


def test_only_where_nothing_changes():
    flow = made("given, by film")[0]
    chain = next(m for m in flow.modules() if isinstance(m, Chain))
    x = torch.rand(2, chain.layers[0].channels, 4, 4)
    one = torch.rand(1, 32).expand(2, -1)

    def asked(c, x=x):
        steps = chain._steps.given(c)
        return joined(chain, "forward", steps, chain._matrices(steps)[0], x, c)

    assert asked(one) is None
    with constant_parameters():
        found = asked(one)
        if found is None:
            pytest.skip("no kernels here")
        assert asked(one) is found
        assert asked(one.clone()) is not found  # another condition
        assert asked(one.clone().requires_grad_()) is None
        assert asked(one, x.double()) is None
        with pytest.raises(ShapeError, match="takes"):
            chain(x[:, :-1], one)
        with varying_inputs():
            assert asked(one) is None


def test_saved_tensors_are_shown_to_hooks_and_freed():
    flow, x, c = made("glow")
    x.requires_grad_()
    packed = []
    hooks = torch.autograd.graph.saved_tensors_hooks(lambda t: packed.append(t) or t, lambda t: t)
    with constant_parameters():
        with hooks:
            value = flow.log_prob(x, c).sum()
        assert packed
        value.backward()
        with pytest.raises(RuntimeError, match="second time"):
            value.backward()
