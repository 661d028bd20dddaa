"""On a GPU everything stays there: no layer, flow or generator makes a tensor on the CPU or waits."""

from __future__ import annotations

import copy

import pytest
import torch

from absent_gpu import GPU, nobody_waits
from flows import every
from innverse import generators
from innverse.accelerate.constant import constant_parameters


def there(module):
    """The module on the GPU, in place."""
    return module.to(GPU)


# their inverse solves an equation to a tolerance, which is read
SOLVED = ("residual", "flow_matching")
LEARNED = [name for name in every.EVERY if not name.startswith(SOLVED)]


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("name", every.EVERY)
def test_no_density_waits(monkeypatch, name, training):
    flow = there(every.build(name)).train(training)
    x = every.items(flow).to(GPU).requires_grad_()
    loss = getattr(flow, "training_loss", None) if training else None
    with nobody_waits(monkeypatch):
        value = flow.log_prob(x) if loss is None else loss(x)
        found = torch.autograd.grad(value.sum(), [*flow.parameters()], allow_unused=True)
    assert value.device == GPU and all(g is None or g.device == GPU for g in found)


@pytest.mark.parametrize("name", LEARNED)
def test_no_code_and_no_draw_waits(monkeypatch, name):
    flow = there(every.build(name))
    x = every.items(flow).to(GPU)
    with constant_parameters(), torch.no_grad():
        flow.encode(x)  # what is made of the parameters is made, and compared
        flow.decode(x)
        with nobody_waits(monkeypatch):
            assert flow.decode(flow.encode(x)).device == GPU
            assert flow.sample(3).device == GPU


@pytest.mark.parametrize("name", generators.names())
def test_no_generator_waits(monkeypatch, name):
    model = there(generators.build(name, (3, 16, 16), latent=3, width=8)).eval()
    z = torch.empty(2, 3, device=GPU, requires_grad=True)
    with nobody_waits(monkeypatch):
        x = model.decode(z)
        assert torch.autograd.grad(x.sum(), z)[0].device == GPU
        assert model.sample(2).device == GPU
        if hasattr(model, "training_loss"):
            loss = copy.copy(model).train().training_loss(x.detach().clamp(0, 1))
            assert loss.device == GPU
