"""A sample of benchmarks/robust_solves.py with a small random flow."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from innverse import flows

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "robust_solves.py"


@pytest.fixture(scope="module")
def script():
    if not SCRIPT.is_file():  # an installed package without its sources
        pytest.skip("benchmarks are not here")
    spec = importlib.util.spec_from_file_location("robust_solves", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def prior():
    torch.manual_seed(0)
    flow = flows.build("glow", (1, 16, 16), levels=2, steps=1, hidden=8, noise=(0.01, 0.4))
    for p in flow.parameters():
        p.data.add_(0.05 * torch.randn_like(p)).requires_grad_(False)
    return flow.double().eval()


@pytest.mark.parametrize("seed", range(12))
def test_random_searches_are_finite_independent_and_honest(script, prior, seed):
    x = torch.rand(4, 1, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    record = script.run(seed, prior, x, steps=8)
    assert record["not_finite"] == record["unreported"] == 0, record
    assert record["difference_db"] < script.AGREE, record


def test_the_cases_differ(script):
    words = [script.draw(seed, (1, 16, 16))[2] for seed in range(40)]
    assert len(set(words)) == 40
    for kind in ("cs", "denoising", "inpainting", "blur", "superresolution", "fourier"):
        assert any(w.startswith(kind) for w in words), kind
