"""benchmarks/gpu.py on the CPU: that it finds what is wrong, and that all of it runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[1] / "benchmarks"
if not (FOLDER / "gpu.py").exists():
    pytest.skip("benchmarks are not here", allow_module_level=True)


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import gpu

    return gpu


def test_right_results_pass_and_wrong_ones_fail(gpu, monkeypatch):
    import registry

    run = gpu.Run("cpu", quick=True)
    make = registry.LAYERS["affine coupling"]
    run.check("right", lambda: gpu.layer_error(run, make), gpu.SLACK)
    assert (run.good, run.bad) == (1, [])

    from innverse.bijections import Coupling

    forward = Coupling.forward

    def wrong(self, x, c=None):
        z, log_det = forward(self, x, c)
        return z, log_det * (1 if x.dtype == torch.float64 else 1.01)

    monkeypatch.setattr(Coupling, "forward", wrong)
    run.check("wrong", lambda: gpu.layer_error(run, make), gpu.SLACK)
    run.check("raises", lambda: torch.zeros(2) @ torch.zeros(3), gpu.SLACK)
    assert (run.good, run.bad) == (1, ["wrong", "raises"])


def test_training_parity_is_checked(gpu):
    run = gpu.Run("cpu", quick=True)
    gpu.parity(run)
    assert (run.good, run.bad) == (4, [])


def test_exact_means_products_too(gpu):
    matmul = torch.backends.cuda.matmul
    before, matmul.allow_tf32 = matmul.allow_tf32, True
    try:
        with gpu.exact():
            assert not matmul.allow_tf32
        assert matmul.allow_tf32
    finally:
        matmul.allow_tf32 = before


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("part", ["checks", "parity", "uses", "steps", "recovery"])
def test_a_quick_run_on_the_pretended_gpu(gpu, monkeypatch, part):
    from pretend_gpu import pretended

    monkeypatch.setattr(gpu, "counted", lambda run, step: {})  # the profiler needs a GPU
    monkeypatch.syspath_prepend(str(FOLDER.parent / "tests" / "flows"))
    import every

    # PyTorch's own vmap of jvp crashes on tensors that only say where they are
    for name in [name for name in every.EVERY if name.startswith("flow_matching")]:
        monkeypatch.delitem(every.EVERY, name)
    with pretended() as graphs:
        run = gpu.Run("cuda", quick=True)
        gpu.PARTS[part](run)
        assert run.bad == [] and graphs.made and graphs.replays
        assert not [row for row in run.rows if "error" in row]


@pytest.mark.slow
def test_a_quick_run_of_all_of_it(tmp_path):
    done = subprocess.run(
        [sys.executable, FOLDER / "gpu.py", "--device", "cpu", "--quick", "--out", "found.json"],
        cwd=tmp_path, capture_output=True, text=True, timeout=900,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["failed"] == [] and f"{found['checks']} of {found['checks']} checks" in done.stdout
    own = [row for row in found["rows"] if "left out" not in row]
    assert {row["what"].split(",")[0] for row in own} >= {
        "Glow 3x32x32",
        "affine D=64",
        "spline D=64",
    }
    assert not [row for row in own if "error" in row]
