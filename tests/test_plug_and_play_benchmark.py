"""benchmarks/plug_and_play.py, small and short: its tables, and that a second run computes nothing."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
if not (FOLDER / "plug_and_play.py").exists():
    pytest.skip("benchmarks are not here", allow_module_level=True)


def test_both_ways_solve_every_task_and_rows_are_kept(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setattr(sys, "argv", ["plug_and_play.py", "--quick", "--out", str(tmp_path)])
    import plug_and_play

    plug_and_play.main()
    file = tmp_path / "plug_and_play.json"
    rows = json.loads(file.read_text())["rows"]
    cells = {(row["task"], row["side"], row["way"]) for row in rows}
    assert len(cells) == len(rows) == 2 * 2 * len(plug_and_play.PICTURES)
    assert all(10 < value < 60 for row in rows for value in row["psnr"])
    assert "+0.00" in (tmp_path / "plug_and_play.md").read_text()  # against itself
    monkeypatch.setattr(plug_and_play, "row", None)
    plug_and_play.main()
    assert json.loads(file.read_text())["rows"] == rows
