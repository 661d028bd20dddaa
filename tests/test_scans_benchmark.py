"""benchmarks/scans.py, small and short: its rows, and that a second run adds only what is missing."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
if not (FOLDER / "scans.py").exists():
    pytest.skip("benchmarks are not here", allow_module_level=True)


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


@pytest.mark.slow
def test_all_of_it_runs(tmp_path, monkeypatch):
    assert len(run(monkeypatch, tmp_path)) == 4 * 4 + 3
    found = json.loads((tmp_path / "scans.json").read_text())
    assert found["speed"][0]["library"] == "innverse"
