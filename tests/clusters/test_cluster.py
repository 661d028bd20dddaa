"""A cluster of real processes: a scheduler, workers, and what happens when they die."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch

import innverse
from innverse import flows
from innverse.amortized.simulate import pairs
from innverse.clusters import Chunk, Failure, run
from innverse.restoration import restore

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
pytest.importorskip("distributed")


def numbers(n):
    return [Chunk(f"number {k}", lambda k=k: k) for k in range(n)]


def prior():
    torch.manual_seed(0)
    flow = flows.build("glow", (1, 8, 8), levels=1, steps=1, hidden=8, noise=(0.02, 0.5))
    with torch.no_grad():
        for p in flow.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return flow.eval()


def many_things() -> dict[str, torch.Tensor]:
    """Pictures, chains and simulations, by the workers of the cluster around."""
    torch.manual_seed(0)
    pictures = [torch.rand(1, 8, 8 + k % 2) for k in range(130)]
    asked = {"noise": 0.1, "prior": prior(), "seed": 3}
    restored = restore(pictures, "denoising", method="pnp", steps=3, simulate=True, **asked)
    posterior = innverse.solve(
        torch.rand(1, 1, 8, 8), innverse.physics.Denoising(noise=0.2), prior(), "posterior",
        draws=24, chains=6, warmup=10, steps=3,
    )  # fmt: skip
    theta, x = pairs("slcp", 2500, 1)
    return {
        **{f"picture {k}": r.image for k, r in enumerate(restored)},
        "draws": posterior.samples,
        "theta": theta,
        "x": x,
    }


def test_cluster_of_one_and_of_three_workers_gives_the_same_bits():
    with innverse.cluster("local:1"):
        one = many_things()
    with innverse.cluster("local:3"):
        three = many_things()
    assert len(one) == 133
    assert [name for name in one if not torch.equal(one[name], three[name])] == []


def test_cluster_goes_on_when_a_worker_is_killed(tmp_path):
    mark = tmp_path / "killed"

    def work(shared, payload, progress):
        torch.rand(1)
        if payload == 4 and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return {"pid": os.getpid(), "noise": torch.rand(3)}

    with innverse.cluster("local:2", memory="2 GB") as workers:
        told = workers._client.scheduler_info()["workers"].values()
        assert {worker["memory_limit"] for worker in told} == {2 * 10**9}
        found = dict(run(work, numbers(12)))
    assert mark.exists() and sorted(found) == list(range(12))
    assert not any(isinstance(one, Failure) for one in found.values())
    calm = dict(run(work, numbers(12)))
    assert all(torch.equal(found[k]["noise"], calm[k]["noise"]) for k in calm)


def test_cluster_gives_up_a_chunk_that_kills_its_workers_and_does_the_rest():
    def work(shared, payload, progress):
        if payload == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if payload == 2:
            raise ZeroDivisionError("two cannot be divided")
        return shared["factor"] * payload

    with innverse.cluster("local:2", retries=1):
        found = dict(run(work, numbers(8), {"factor": torch.tensor(10)}))
    assert str(found[1].error).startswith("number 1: the workers that did it died")
    words = "number 2: ZeroDivisionError: two cannot be divided (tried 2 times)"
    assert str(found[2].error) == words
    assert {k: int(v) for k, v in found.items() if k not in (1, 2)} == {
        k: 10 * k for k in (0, 3, 4, 5, 6, 7)
    }


def test_cluster_whose_scheduler_is_restarted(machines, tmp_path):
    log, records = tmp_path / "log", tmp_path / "records"

    def work(shared, payload, progress):
        with open(log, "a") as file:
            print(payload, file=file)
        time.sleep(0.05)
        return payload**2

    scheduler, worker = machines.scheduler(), machines.worker()
    with innverse.cluster(machines.address, wait=120):
        found = {}
        for k, value in run(work, numbers(30), records=records):
            found[k] = value
            if len(found) == 5:
                machines.kill(scheduler)
                machines.kill(worker)
                scheduler, worker = machines.scheduler(), machines.worker()
    assert found == {k: k**2 for k in range(30)}
    # whoever comes later finds all of it, with no worker at all
    before = log.read_text()
    assert dict(run(work, numbers(30), records=records)) == found
    assert log.read_text() == before


def test_cluster_without_workers_left_ends_and_the_same_call_goes_on(machines, tmp_path):
    def work(shared, payload, progress):
        return payload

    machines.scheduler()
    worker = machines.worker()
    found = {}
    with (
        pytest.raises(innverse.errors.InnverseError, match="no workers: start some"),
        innverse.cluster(machines.address, wait=60) as workers,
    ):
        workers.wait = 3
        for k, value in run(work, numbers(200), records=tmp_path):
            found[k] = value
            if len(found) == 5:
                machines.kill(worker)
    kept = len(list(tmp_path.iterdir()))
    assert 5 <= kept < 200
    machines.worker()
    with innverse.cluster(machines.address, wait=60):
        found = dict(run(work, numbers(200), records=tmp_path))
    assert found == {k: k for k in range(200)}


def test_cluster_on_this_machine_listens_on_its_loopback_only_and_dies_with_its_user(tmp_path):
    import psutil

    script = tmp_path / "script.py"  # as users write them: no if __name__ == "__main__"
    script.write_text(
        textwrap.dedent("""
        import time, innverse
        from innverse.clusters import Chunk, run
        with innverse.cluster("local:2"):
            def work(shared, payload, progress):
                return payload + shared
            print(sorted(dict(run(work, [Chunk("one", lambda: 1)], 2)).values()), flush=True)
            time.sleep(600)
        """)
    )
    user = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    try:
        assert user.stdout.readline() == "[3]\n"
        ours = [psutil.Process(user.pid), *psutil.Process(user.pid).children(recursive=True)]
        assert len(ours) >= 3
        addresses = {
            c.laddr.ip for p in ours for c in p.net_connections() if c.status == psutil.CONN_LISTEN
        }
        assert addresses == {"127.0.0.1"}
    finally:
        user.kill()
        user.wait()
    _, alive = psutil.wait_procs(ours, timeout=90)
    assert alive == []


@pytest.fixture
def pictures(tmp_path):
    for k in range(3):
        image = torch.rand(1, 1, 16, 16)
        innverse.data.write_image(tmp_path / "photos" / f"{k}.png", image)
    (tmp_path / "photos" / "z.png").write_text("no picture")


def test_cluster_on_the_command_line_restores_a_folder(cli, pictures, tmp_path):
    given = ["--physics", "denoising", "--noise", "0.1", "--method", "tv", "--json"]
    done = cli("solve", "photos", *given, "--out", "out", "--cluster", "local:2", timeout=300)
    assert (
        done.returncode == 4 and "Traceback" not in done.stderr and "distributed" not in done.stderr
    )
    found = json.loads(done.stdout)
    assert [Path(r["file"]).name for r in found["results"]] == ["0.png", "1.png", "2.png"]
    assert "z.png" in found["failures"][0]["file"]
    assert (tmp_path / "out" / "1" / "result.png").is_file()
    assert not (tmp_path / "out" / ".chunks").exists()


def test_cluster_on_the_command_line_is_interrupted_and_goes_on(pictures, tmp_path):
    (tmp_path / "photos" / "z.png").unlink()
    for k in range(3, 6):  # each a chunk of its own
        noise = torch.rand(1, 3, 320, 320)
        innverse.data.write_image(tmp_path / "photos" / f"{k}.png", noise)
    command = [
        sys.executable, "-m", "innverse", "solve", "photos", "--physics", "denoising", "--noise", "0.1",
        "--method", "tv", "--out", "out", "--cluster", "local:1", "--json",
    ]  # fmt: skip
    given = {"cwd": tmp_path, "text": True, "stderr": subprocess.PIPE, "stdout": subprocess.PIPE}
    first = subprocess.Popen(command, start_new_session=True, **given)
    until = time.monotonic() + 300
    while not (tmp_path / "out" / "0" / "result.json").is_file() and time.monotonic() < until:
        time.sleep(0.05)
    os.killpg(first.pid, signal.SIGINT)
    _, said = first.communicate(timeout=120)
    assert first.returncode == 130 and "the same command continues" in said
    assert "Traceback" not in said and "distributed" not in said
    kept = {f.name: f.stat().st_mtime_ns for f in (tmp_path / "out" / ".chunks").iterdir()}
    assert kept and not (tmp_path / "out" / "5" / "result.json").exists()
    again = subprocess.run(command, **given, timeout=400)
    assert again.returncode == 0, again.stderr
    assert len(json.loads(again.stdout)["results"]) == 6


def test_cluster_on_the_command_line_simulates(cli, tmp_path):
    (tmp_path / "c.toml").write_text(
        '[data]\nsimulator = "two_moons"\nbudget = 2500\n[model]\ndensity = "realnvp"\n'
        "size = { layers = 2, width = 16 }\n[train]\nmax_epochs = 1\n[check]\npairs = 0\n"
    )
    done = cli("amortize", "c.toml", "--json", "--cluster", "local:2", timeout=300)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["simulations"] == 2500
    assert len(list((tmp_path / "runs/c/simulations").glob("*.chunk"))) == 3


def test_cluster_on_the_command_line_reproduces(cli, tmp_path):
    given = ["reproduce", "asim2020", "--quick", "--json", "--only", "denoising/*/celebahq/tv"]
    there = cli(*given, "--out", "there", "--cluster", "local:2", timeout=500)
    here = cli(*given, "--out", "here", timeout=500)
    assert there.returncode == here.returncode == 0, there.stderr
    names = [f.relative_to(tmp_path / "here") for f in (tmp_path / "here/cells").rglob("*.json")]
    assert names
    for name in names:
        one, other = (json.loads((tmp_path / d / name).read_text()) for d in ("there", "here"))
        assert one["psnr"] == other["psnr"] and one["mark"] == other["mark"]
