"""benchmarks/serve.py: many people at once, on a server of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
FOLDER = Path(__file__).parents[2] / "benchmarks"
if not (FOLDER / "serve.py").exists():
    pytest.skip("benchmarks are not here", allow_module_level=True)
MOST_MB = 400  # more than before, for fifty people: four uploads of 16 MB, results, and a solve


def run(folder: Path, *options: str) -> dict:
    done = subprocess.run(
        [sys.executable, FOLDER / "serve.py", "--out", folder, "--threads", "1", *options],
        capture_output=True, text=True, timeout=1800, cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| repairs of 24x24 pixels |" in done.stdout
    return json.loads((folder / "serve.json").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("people", [6, 50])
def test_of_many_at_once_none_is_lost_and_the_refused_are_told_when_to_come(tmp_path, people):
    found = run(tmp_path, "--quick", "--people", str(people))
    repairs = found["repairs"]
    assert repairs["lost"] == found["photographs"]["lost"] == 0
    assert repairs["accepted"] + repairs["refused"] == people
    assert repairs["refused"] >= people - 6  # a line of two, and few are so quick as to leave it
    assert repairs["came_back"] >= repairs["refused"] and repairs["retry_after"][0] >= 1
    assert repairs["peak_mb"] < repairs["peak_mb_before"] + MOST_MB
