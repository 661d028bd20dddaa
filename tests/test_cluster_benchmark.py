"""The arithmetic of benchmarks/cluster.py, and that it runs."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def script(monkeypatch):
    if not (FOLDER / "cluster.py").is_file():  # an installed package without its sources
        pytest.skip("benchmarks are not here")
    monkeypatch.syspath_prepend(FOLDER)
    spec = importlib.util.spec_from_file_location("cluster_benchmark", FOLDER / "cluster.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CHUNK = {"there": 1e3, "back": 9e3, "seconds": 1.0, "prior": 10_000_000}


def test_cluster_on_paper(script):
    paper = script.on_paper(CHUNK, overhead=0.004)
    assert paper["hours"] == pytest.approx(1e9 / 32_000 / 3600)
    assert paper["terabytes"] == pytest.approx(10 + 0.32)
    assert paper["seconds_a_chunk"] == 64 and paper["chunks"] == 1e9 / 64
    assert paper["workers_a_scheduler"] == pytest.approx(8000)  # 64 s / 4 ms, half of the time
    assert paper["workers_a_client"] == pytest.approx(25_000)  # 250 MB/s of 10 KB a second each
    assert paper["schedulers"] == 4
    # 50 machines an hour of 1000 lose half a minute of an hour each
    assert paper["done_again"] == pytest.approx(0.05 * 32 / 3600)
    assert paper["dollars"] == pytest.approx(0.04 * 1e9 / 3600 * (1 + paper["done_again"]))


def test_cluster_table_says_when_clusters_differ(script):
    rows = [
        {"workers": 0, "seconds": 4.0, "per_second": 32.0, "digest": "other"},
        *(
            {
                "workers": n, "seconds": 8.0 / n, "per_second": 16.0 * n, "digest": "a",
                "overhead_seconds": 0.005, "scheduler_seconds": 0.004, "start_seconds": 2.0,
            }
            for n in (1, 2)
        ),
    ]  # fmt: skip
    found = {
        "rows": rows, "chunk": CHUNK, "paper": script.on_paper(CHUNK, 0.004), "solves": 128,
        "empty": 20, "same": script._same(rows), "machine": script.harness.machine(script.PACKAGES, 1),
    }  # fmt: skip
    text = script.text_of(found)
    assert "| 2 | 4.0 | 32 | 2.00 | 5.0 | 4.0 | 2.0 |" in text and "the same, bit for bit" in text
    rows[2]["digest"] = "b"
    assert "NOT THE SAME" in script.text_of(found | {"same": script._same(rows)})


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_cluster_benchmark_runs(script, tmp_path):
    pytest.importorskip("distributed")
    command = [sys.executable, FOLDER / "cluster.py", "--quick", "--workers", "1", "2"]
    done = subprocess.run([*command, "--out", tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "cluster.json").read_text())
    assert [row["workers"] for row in found["rows"]] == [0, 1, 2] and found["same"]
    again = subprocess.run([*command, "--out", tmp_path], capture_output=True, text=True)
    assert again.returncode == 0 and "wrote" not in again.stderr  # all of it is there
