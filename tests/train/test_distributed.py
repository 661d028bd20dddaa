"""Two gloo processes under torchrun against one process."""

from __future__ import annotations

import subprocess
import sys
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


def test_two_processes_have_the_gradients_of_one(config, tmp_path):
    result = start(2, "gradients", config, tmp_path / "g")
    assert result.returncode == 0, result.stderr
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
    assert "continuing after step 10" in result.stderr
    assert result.stdout.count("held_out") <= 1 and (out / "model/model.safetensors").exists()

    from innverse.train import load_config, train

    train(load_config(config), tmp_path / "one", device="cpu", quiet=True)
    two, one = curve(out), curve(tmp_path / "one")
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
