"""Regions give what their formulas give, with gradients of first and second order, and few kernels."""

from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from innverse import flows, nets
from innverse.accelerate import regions
from innverse.accelerate.captured import Captured
from innverse.accelerate.native import affine, spline
from innverse.accelerate.regions import region, repeated_work, why_not
from innverse.train.losses import Objective


@pytest.fixture
def compiled(monkeypatch, request):
    """Regions are compiled on the CPU; the names of those that were.

    The compiler takes seconds for each: quick tests run what it would be given.
    """
    names, compile = [], regions._compile
    slow = request.node.get_closest_marker("slow")

    def counted(function, name):
        names.append(name)
        return compile(function, name) if slow else function

    monkeypatch.setattr(regions, "_on", lambda device: True)
    monkeypatch.setattr(regions, "_lacking", lambda: None)
    monkeypatch.setattr(regions, "_LEAST", 1)
    monkeypatch.setattr(regions, "_BACKEND", "aot_eager")
    monkeypatch.setattr(regions, "_compile", counted)
    for kernel in (affine, spline):  # as on a GPU; the environment is read once a process
        monkeypatch.setattr(kernel, "available", lambda transform: False)
    regions._of.cache_clear()
    yield names
    regions._of.cache_clear()
    broken, regions._broken[:] = [*regions._broken], []
    assert broken == []


def away(module):
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=g).to(p))
    return module


def second_order(flow, x, c):
    """Loss, and its gradient by all parameters, where the score takes part."""
    images = (255 * x.clamp(0, 1)).byte()
    noise = torch.linspace(-1, 1, x.numel(), dtype=x.dtype).view_as(x)
    loss, *_ = Objective(flow)(images, noise, c, 0.5)
    return loss, *torch.autograd.grad(loss, [*flow.parameters()], allow_unused=True)


GLOW = {"levels": 1, "steps": 1, "hidden": 6, "how": "film", "activation": "silu", "mix": "swap"}


SLOW = pytest.param(True, marks=pytest.mark.slow, id="traced by the compiler")


@pytest.mark.parametrize("traced", [pytest.param(False, id="as given to the compiler"), SLOW])
def test_a_glow_of_regions_is_the_glow_of_its_formulas(compiled, traced):
    torch.manual_seed(0)
    flow = away(flows.build("glow", (1, 8, 8), noise=(0.01, 0.4), squeeze="haar", **GLOW).double())
    x, c = torch.rand(3, 1, 8, 8).double(), torch.tensor([0.1, 0.2, 0.3]).double()
    right = second_order(flow, x, c)
    assert compiled == []
    with repeated_work():
        found = second_order(flow, x, c)
        z = flow.encode(x, c)
        back = flow.decode(z, c)
    assert {"_map", "_haar", "_haar_back", "_scaled", "modulated"} <= {*compiled}
    assert {"d__map", "d_d__map", "d_modulated", "d_d_modulated"} <= {*compiled}
    torch.testing.assert_close(found, right, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(back, x, rtol=1e-7, atol=1e-7)


def test_couplings_alike_share_what_was_compiled(compiled):
    flow = away(flows.build("nsf", (6,), layers=3, width=8).double())
    x = torch.randn(5, 6).double()
    right = torch.autograd.grad(flow.log_prob(x).sum(), [*flow.parameters()])
    with repeated_work():
        for _ in range(2):
            found = torch.autograd.grad(flow.log_prob(x).sum(), [*flow.parameters()])
    assert compiled == ["_map", "d__map"]
    torch.testing.assert_close(found, right, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("by_height", [False, True])
def test_a_spline_walked_knot_by_knot_is_the_spline(by_height):
    from innverse.accelerate.spline_piece import _formula, _walked

    g = torch.Generator().manual_seed(0)
    p = torch.randn(40, 23, 6, generator=g, dtype=torch.float64, requires_grad=True)
    at = 2.9 * (2 * torch.rand(40, 6, generator=g, dtype=torch.float64) - 1)
    settings = 8, 3.0, 1e-3, 1e-3, by_height
    found, right = _walked(p, at, settings), _formula(p, at, settings)
    torch.testing.assert_close(found, right, rtol=1e-10, atol=1e-10)
    weights = [torch.randn(40, 6, generator=g, dtype=torch.float64) for _ in right]
    pair = [
        torch.autograd.grad([(w * t).sum() for w, t in zip(weights, of, strict=True)], p)
        for of in (found, right)
    ]
    torch.testing.assert_close(*pair, rtol=1e-9, atol=1e-9)


def test_only_repeated_work_with_enough_numbers_is_compiled(compiled, monkeypatch):
    layer = away(flows.build("realnvp", (6,), layers=1, width=8))
    x = torch.randn(5, 6)
    layer.log_prob(x)
    monkeypatch.setattr(regions, "_LEAST", 31)
    with repeated_work():
        layer.log_prob(x)
        assert compiled == []
        layer.log_prob(torch.randn(6, 6))
    assert compiled == ["_map"]
    monkeypatch.setenv("INNVERSE_COMPILE", "0")
    with repeated_work():
        layer.log_prob(torch.randn(9, 6))
    assert compiled == ["_map"] and why_not() == "INNVERSE_COMPILE=0"


def test_a_captured_step_is_repeated_work(compiled):
    flow = away(flows.build("realnvp", (6,), layers=1, width=8))
    Captured(flow.log_prob)(torch.randn(5, 6))
    assert compiled == ["_map"]


def test_networks_in_bfloat16_stay_near_those_in_float32(compiled):
    flow = away(flows.build("glow", (1, 8, 8), noise=(0.01, 0.4), **GLOW))
    x, c = torch.rand(16, 1, 8, 8), torch.full((16,), 0.2)
    right = second_order(flow, x, c)[0]
    nets.set_precision(flow, "bf16")
    with repeated_work():
        found = second_order(flow, x, c)
    assert found[0].item() == pytest.approx(right.item(), rel=2e-2)
    assert all(g is None or g.isfinite().all() for g in found[1:])


def test_a_compiler_that_fails_is_left_alone(compiled, monkeypatch):
    def broken(function, name):
        def run(*tensors):
            raise RuntimeError("no C compiler\nat all")

        return run

    @region
    def twice(x: torch.Tensor) -> torch.Tensor:
        return 2 * x

    monkeypatch.setattr(regions, "_compile", broken)
    with repeated_work():
        for _ in range(2):
            assert torch.equal(twice(torch.ones(3)), torch.full((3,), 2.0))
    assert why_not() == "RuntimeError: no C compiler"
    regions._broken.clear()


class Operations(TorchDispatchMode):
    """Counts them, and lets them be."""

    count = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.count += 1
        return operation(*args, **(kwargs or {}))

    def within(self, function):
        def run(*tensors):
            with self:
                return function(*tensors)

        return run


@pytest.mark.slow
@pytest.mark.timeout(1800)  # the first time the compiler of C++ is asked what it knows
def test_kernels_of_the_compiler_are_few_and_right(compiled, monkeypatch):
    from torch._inductor import metrics

    flow = away(flows.build("nsf", (6,), layers=1, width=8).double())
    x = torch.randn(64, 6).double()

    def gradient():
        return torch.autograd.grad(flow.log_prob(x).sum(), [*flow.parameters()])

    right, operations = gradient(), Operations()
    with repeated_work(), monkeypatch.context() as counting:
        counting.setattr(regions, "_compile", lambda function, name: operations.within(function))
        gradient()
    regions._of.cache_clear()
    monkeypatch.setattr(regions, "_BACKEND", "inductor")
    metrics.reset()
    with repeated_work():
        found = gradient()
    torch.testing.assert_close(found, right, rtol=1e-8, atol=1e-8)
    assert compiled == ["_map", "d__map"]
    # C++ for a processor takes 13 loops for 364 operations (PyTorch 2.13)
    assert 0 < 20 * metrics.generated_kernel_count <= operations.count
    assert torch.distributions.Distribution._validate_args  # which the compiler switches off
