"""A long chain is compiled layer by layer, and is what it was."""

from __future__ import annotations

import pytest
import torch

from innverse.bijections import ActNorm, Chain, Coupling, Invertible1x1
from innverse.nets import MLP


class Backend:
    """Runs graphs as they are, and remembers how large they were."""

    def __init__(self):
        self.sizes = []

    def __call__(self, graph, inputs):
        self.sizes.append(len(graph.graph.nodes))
        return graph.forward


def chain(layers):
    torch.manual_seed(0)
    steps = [
        layer
        for _ in range(layers)
        for layer in (ActNorm(4), Invertible1x1(4), Coupling.build(4, lambda i, o: MLP(i, o, 8)))
    ]
    made = Chain(*steps)
    for p in made.parameters():
        p.data.add_(0.1 * torch.randn_like(p))
    return made


@pytest.fixture(autouse=True)
def _forget():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def test_layers_share_a_graph_and_the_chain_is_the_same():
    made, x = chain(6), torch.randn(5, 4)
    backend = Backend()
    run = torch.compile(made, backend=backend)
    back = torch.compile(made.inverse, backend=backend)
    found, expected = run(x), made(x)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    parameters = [*made.parameters()]
    gradients = [
        torch.autograd.grad(z.square().sum() + logdet.sum(), parameters)
        for z, logdet in (found, expected)
    ]
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-3)
    back(expected[0].detach())
    few = len(backend.sizes), max(backend.sizes)
    longer = Backend()
    torch.compiler.reset()
    torch.compile(chain(12), backend=longer)(x)
    torch.compile(chain(12).inverse, backend=longer)(x)
    assert (len(longer.sizes), max(longer.sizes)) <= few  # no more of them, and no larger


def test_one_graph_where_that_is_asked_for():
    made, x = chain(2), torch.randn(5, 4)
    for module in (made, Chain(*made.layers, ActNorm(4))):
        backend = Backend()
        found = torch.compile(module, backend=backend, fullgraph=True)(x)
        torch.testing.assert_close(found, module(x), rtol=1e-4, atol=1e-5)
        assert len(backend.sizes) == 1
    exported = torch.export.export(made, (x,)).module()
    torch.testing.assert_close(exported(x), made(x), rtol=1e-4, atol=1e-5)
