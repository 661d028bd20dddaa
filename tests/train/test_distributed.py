"""Two gloo processes under torchrun, on one node or on two, against one process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from innverse.errors import UsageError
from innverse.train import Trainer
from innverse.train.distributed import World, distributed
from innverse.train.sources import TrainingImages

WORKER = Path(__file__).with_name("worker.py")


@pytest.fixture
def config(tmp_path, images):
    path = tmp_path / "tiny.toml"
    path.write_text(
        f'[data]\npath = "{images}"\nchannels = 1\ncrop = 4\nheld_out = 8\n'
        "[model]\nlevels = 2\nsteps = 1\nhidden = 8\nnoise = [0.02, 0.4]\n"
        "[train]\nsteps = 20\nbatch_size = 8\nlog_every = 1\neval_every = 10\nclip = 1e9\n"
        "checkpoint_every = 5\nthreads = 1\nscore_matching = 0.5\n"
    )
    return path


def start(processes, *arguments):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *launcher, str(WORKER), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=240)


def start_nodes(*arguments):
    """Two nodes with a launcher and a process each, which know of each other by a port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = ["--nnodes", "2", "--master-addr", "127.0.0.1", "--master-port", str(port)]
    command = [sys.executable, "-m", "torch.distributed.run", *place, "--nproc-per-node", "1"]
    nodes = [
        subprocess.Popen(
            [*command, "--node-rank", str(k), str(WORKER), *map(str, arguments)],
            env={**os.environ, "GLOO_SOCKET_IFNAME": "lo"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for k in range(2)
    ]
    with ThreadPoolExecutor(2) as pool:
        texts = [*pool.map(lambda node: node.communicate(timeout=240), nodes)]
    return [
        subprocess.CompletedProcess(n.args, n.returncode, *t)
        for n, t in zip(nodes, texts, strict=True)
    ]


def test_two_processes_have_the_gradients_of_one(config, tmp_path):
    result = start(2, "gradients", config, tmp_path / "g")
    assert result.returncode == 0, result.stderr
    compare_gradients(config, tmp_path)


@pytest.mark.slow
def test_two_nodes_have_the_gradients_of_one_process(config, tmp_path):
    for node in start_nodes("gradients", config, tmp_path / "g"):
        assert node.returncode == 0, node.stderr
    compare_gradients(config, tmp_path)


def compare_gradients(config, tmp_path):
    rank0, rank1 = (torch.load(tmp_path / f"g.{r}", weights_only=True) for r in (0, 1))

    from innverse.train import load_config

    settings = load_config(config)
    trainer = Trainer(settings, TrainingImages(settings))
    trainer.initialize()
    row = trainer.step()
    assert rank0["nll"].item() == pytest.approx(row["nll"], rel=1e-5, abs=1e-5)
    for name, p in trainer.model.named_parameters():
        assert torch.equal(rank0[name], rank1[name]), name
        assert torch.equal(rank0[f"after/{name}"], rank1[f"after/{name}"]), name
        torch.testing.assert_close(rank0[name], p.grad, rtol=1e-4, atol=2e-5)
    assert sum(p.grad.abs().sum() for p in trainer.model.parameters()) > 1


@pytest.mark.slow  # test_interruption.py kills a single one
def test_a_killed_process_and_the_same_command_again(config, tmp_path, curve):
    out = tmp_path / "run"
    result = start(2, "die", config, out)
    assert result.returncode != 0
    assert [p.stem for p in (out / "checkpoint").glob("*.json")].count("000000010") == 1
    result = start(2, "run", config, out)
    assert result.returncode == 0, result.stderr
    compare_runs(result, config, out, curve)


@pytest.mark.slow
def test_a_killed_node_ends_the_other_and_the_same_commands_go_on(config, tmp_path, curve):
    out = tmp_path / "run"
    assert all(node.returncode != 0 for node in start_nodes("die", config, out))
    nodes = start_nodes("run", config, out)
    for node in nodes:
        assert node.returncode == 0, node.stderr
    compare_runs(nodes[0], config, out, curve)


def compare_runs(result, config, out, curve):
    """That of two processes, killed in between, with that of one."""
    assert "continuing after step 10" in result.stderr
    assert result.stdout.count("held_out") <= 1 and (out / "model/model.safetensors").exists()

    from innverse.train import load_config, train

    alone = out.with_name("one")
    train(load_config(config), alone, device="cpu", quiet=True)
    two, one = curve(out), curve(alone)
    assert [(r["kind"], r["step"]) for r in two] == [(r["kind"], r["step"]) for r in one]
    for a, b in zip(two, one, strict=True):
        assert a["gap"] == pytest.approx(b["gap"], abs=1e-2)


def test_a_share_is_a_slice_of_the_global_batch():
    batch = torch.arange(12).view(6, 2)
    parts = [World(r, 3).share(batch) for r in range(3)]
    assert torch.equal(torch.cat(parts), batch)


def test_mistakes_in_the_set_up(settings, monkeypatch):
    config = settings(train_batch_size=9)
    with pytest.raises(UsageError, match="multiple of the 2 processes"):
        Trainer(config, TrainingImages(config), World(0, 2))
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(UsageError, match="torchrun"), distributed(torch.device("cpu")):
        pass
