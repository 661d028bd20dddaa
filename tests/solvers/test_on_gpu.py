"""Solvers on a GPU: nothing that is done at every step waits, and graphs give what flows give."""

from __future__ import annotations

import copy

import pytest
import torch

import innverse
from absent_gpu import GPU, nobody_waits, on_gpu, recording_on_cpu
from innverse import flows, physics
from innverse.accelerate.constant import constant_parameters
from innverse.flows import flow as flow_module
from innverse.shapes import wide
from innverse.solvers.posterior.target import Target
from innverse.solvers.tiling import denoise_tiled


@pytest.fixture(scope="module")
def prior():
    torch.manual_seed(0)
    options = {
        "levels": 2,
        "steps": 2,
        "hidden": 8,
        "how": "film",
        "squeeze": "haar",
        "mix": "swap",
    }
    flow = flows.build("glow", (1, 16, 16), noise=(0.01, 0.4), **options)
    flow.initialize_(torch.rand(8, 1, 16, 16), 0.1)
    with torch.no_grad():
        for p in flow.parameters():
            p.add_(0.05 * torch.randn(p.shape))
    flow.symmetries = ("mirror", "transpose")
    return flow.eval().requires_grad_(False)


@pytest.fixture
def there(prior):
    return on_gpu(copy.deepcopy(prior))


MASK = (torch.rand(1, 1, 16, 16, generator=torch.Generator().manual_seed(1)) > 0.3).float()
OPERATORS = {
    "denoising": lambda: physics.Denoising(),
    "inpainting": lambda: physics.Inpainting(MASK),
    "blur": lambda: physics.Blur(torch.ones(3, 3) / 9),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_no_step_of_pnp_waits(there, monkeypatch, name):
    operator = on_gpu(OPERATORS[name]())
    y = torch.empty(2, 1, 16, 16, device=GPU)
    level = torch.empty(2, device=GPU)
    with nobody_waits(monkeypatch), constant_parameters(), torch.no_grad():
        v = operator.A_adjoint(y)
        x = operator.solve_normal(v + wide(level, v) * v, level, x0=v)
        for k in range(8):
            assert denoise_tiled(there, x, level, (k,)).device == GPU


def test_no_gradient_of_the_sampler_waits(there, monkeypatch):
    operator = on_gpu(physics.Inpainting(MASK))
    y = torch.empty(2, 1, 16, 16, device=GPU)
    target = Target(there.at(0.1), operator, y, torch.empty(2, device=GPU))
    with nobody_waits(monkeypatch), constant_parameters():
        for _ in range(3):
            assert target.at(y).gradient.shape == y.shape


def test_no_gradient_in_latent_space_waits(there, monkeypatch):
    operator = on_gpu(physics.Inpainting(MASK))
    y = torch.empty(2, 1, 16, 16, device=GPU)
    level = torch.empty(2, device=GPU)
    with nobody_waits(monkeypatch), constant_parameters():
        for _ in range(3):
            z = torch.empty_like(y, requires_grad=True)
            misfit = (operator.A(there.decode(z, level)) - y).square().sum()
            assert torch.autograd.grad(misfit, z)[0].device == GPU


METHODS = {
    "pnp": {"steps": 12},
    "map": {"steps": 12, "sigma": 0.1, "start": "data"},
    "latent": {"steps": 8, "sigma": 0.1},
    "latent adam": {"steps": 8, "sigma": 0.1, "optimizer": "adam"},
    "posterior": {"draws": 8, "warmup": 2, "chains": 2, "sigma": 0.1, "steps": 2},
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", METHODS)
def test_solvers_with_graphs_find_what_they_find_without(prior, monkeypatch, name):
    flow = copy.deepcopy(prior).double()
    x = 0.5 + 0.3 * torch.linspace(-1, 1, 16).sin().expand(2, 1, 16, 16).double()
    operator = physics.Inpainting(MASK, noise=0.05).double()
    y = operator.A(x)

    def solve():
        return innverse.solve(y, operator, flow, method=name.split()[0], **METHODS[name])

    right = solve()
    monkeypatch.setattr(flow_module, "runs_ahead", lambda device: True)
    recorder = recording_on_cpu(monkeypatch)
    found = solve()
    assert recorder.replays > recorder.made > 0
    torch.testing.assert_close(found.x, right.x, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found.log_prob, right.log_prob, rtol=1e-6, atol=1e-6)


def test_a_graph_ends_with_the_promise(prior, monkeypatch):
    """Weights that change between solves are seen, whatever was recorded before."""
    flow = copy.deepcopy(prior)
    monkeypatch.setattr(flow_module, "runs_ahead", lambda device: True)
    recording_on_cpu(monkeypatch)
    x = torch.rand(2, 1, 16, 16)
    for _ in range(2):
        with torch.no_grad():
            for p in flow.parameters():
                p.add_(0.02 * torch.randn(p.shape))
        right = copy.deepcopy(flow).log_prob(x, 0.1)
        with constant_parameters():
            for level in (0.3, 0.2, 0.1, 0.05, 0.1):  # another condition at the same place
                found = flow.log_prob(x, level)
        torch.testing.assert_close(found, right)
