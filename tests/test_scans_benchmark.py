"""benchmarks/scans.py, small and short: its rows, and that a second run adds only what is missing."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[1] / "benchmarks"
if not (FOLDER / "scans.py").exists():
    pytest.skip("benchmarks are not here", allow_module_level=True)
sys.path.append(str(FOLDER))

from restoration_cells import mri  # noqa: E402
from restoration_cells._setting import Setting  # noqa: E402

from innverse.physics.fourier import as_complex  # noqa: E402
from innverse.physics.mri import MRI, simulated_sensitivities  # noqa: E402


def run(monkeypatch, out: Path, *arguments: str) -> list[dict]:
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setattr(sys, "argv", ["scans.py", "--quick", "--out", str(out), *arguments])
    import scans

    scans.main()
    return json.loads((out / "scans.json").read_text())["rows"]


def test_cells_resume(tmp_path, monkeypatch, capsys):
    plain = ("--only", "ct", "mri", "--methods", "filtered*", "zero*")
    rows = run(monkeypatch, tmp_path, *plain)
    tasks = {"ct-60", "ct-180", "ct-180-low", "ct-limited-120", "mri-4"}
    assert {row["task"] for row in rows} == tasks
    assert {"task", "dataset", "method", "psnr", "ssim", "std_err", "seconds", "n"} <= rows[
        0
    ].keys()
    capsys.readouterr()
    more = run(
        monkeypatch, tmp_path, "--only", "ct", "--tasks", "ct-60", "--methods", "f*", "total*"
    )
    assert len(more) == len(rows) + 1 and capsys.readouterr().out.count("dB") == 1


@pytest.fixture
def head(tmp_path):
    """A head of 8 coils in a file, with little noise."""
    scipy_io = pytest.importorskip("scipy.io")
    size = (48, 64)
    y, x = (torch.linspace(-1, 1, n) for n in size)
    ball = (y[:, None].square() + x.square() < 0.6) * (0.6 + 0.3 * (y[:, None] * x > 0))
    k = as_complex(MRI(simulated_sensitivities(8, size), torch.ones(size)).A(ball[None, None]))[0]
    noise = torch.randn(k.shape, dtype=k.dtype, generator=torch.Generator().manual_seed(0))
    values = (k + 0.003 * noise).permute(1, 2, 0).numpy()
    scipy_io.savemat(tmp_path / "mri_brain_8ch.mat", {"DATA": values})
    return tmp_path


def test_a_head_is_judged_by_one_picture_whichever_the_coils(head, tmp_path, monkeypatch):
    ways = ("--data", str(head), "--only", "mri", "--tasks", "mri-every-2", "--methods", "[zt]*l*")
    rows = run(monkeypatch, tmp_path, *ways)
    found = {(r["dataset"], r["method"]): r["psnr"] for r in rows}
    for coils in mri.COILS:
        assert found[coils, "total variation"] > found[coils, "zero-filled"] > 15
    pictures = [tmp_path / "work/pictures" / d / "mri-every-2/true.png" for d in mri.COILS]
    assert len({picture.read_bytes() for picture in pictures}) == 1


def test_lines_that_were_left_out_judge_the_strength(head, tmp_path):
    setting = Setting(tmp_path, head, quick=True, tasks=["mri-every-2"], methods=["total*"])
    found = {method: foreseen for method, _, foreseen in mri.tune(setting)}
    assert [*found] == [f"total variation, {coils}" for coils in mri.COILS]
    assert all(decibel > 3 for told in found.values() for decibel in told.values())


@pytest.mark.slow
def test_all_of_it_runs(tmp_path, monkeypatch):
    assert len(run(monkeypatch, tmp_path)) == 4 * 4 + 3
    found = json.loads((tmp_path / "scans.json").read_text())
    assert found["speed"][0]["library"] == "innverse"
