"""benchmarks/serve.py: many people at once, on a server of their own."""

from __future__ import annotations

import json
import signal
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
    assert "| wishes, 24x24 pixels |" in done.stdout
    return json.loads((folder / "serve.json").read_text())


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("people", [6, 50])
def test_of_many_at_once_none_is_lost_and_the_refused_are_told_when_to_come(tmp_path, people):
    found = run(tmp_path, "--quick", "--people", str(people))
    wishes = found["wishes"]
    assert wishes["lost"] == found["photographs"]["lost"] == 0
    assert wishes["accepted"] + wishes["refused"] == people
    assert wishes["refused"] >= people - 6  # a line of two, and few are so quick as to leave it
    assert wishes["came_back"] >= wishes["refused"] and wishes["retry_after"][0] >= 1
    assert wishes["peak_mb"] < wishes["peak_mb_before"] + MOST_MB


@pytest.mark.slow
def test_a_server_at_work_stops_when_told_to_and_the_next_takes_its_port(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import serve

    with serve.served(1) as server:
        assert server.ask("api/arm/learn", {})[0] == 202  # which is not stopped on its way
        server.process.terminate()
        _, said = server.process.communicate(timeout=60)
        assert server.process.returncode in (0, -signal.SIGTERM) and "Traceback" not in said
    port = int(server.address.rsplit(":", 1)[1].strip("/"))
    with serve.served(1, port=port) as again:
        assert again.ask("health")[0] == 200
