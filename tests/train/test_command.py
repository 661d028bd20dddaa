"""The function behind ``innverse train``."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path

import pytest

from innverse.cli import train as command
from innverse.cli.options import same_command
from innverse.errors import UsageError

TINY = ["model.levels=1", "model.steps=1", "model.hidden=8", "train.threads=1", "data.held_out=8",
        "train.warmup=2"]  # fmt: skip


def test_flags_alone_are_enough(images, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code = command.train(
        data=str(images), channels=1, crop=4, batch_size=4, steps=3, lr=1e-4, seed=5, set=TINY,
        device="cpu", json=True,
    )  # fmt: skip
    printed = capsys.readouterr()
    outcome = json.loads(printed.out)
    assert code == 0 and outcome["complete"] and outcome["step"] == 3
    assert Path(outcome["model"]) == Path("runs/glow/model")
    saved = json.loads(Path("runs/glow/config.json").read_text())
    assert saved["train"]["lr"] == 1e-4 and saved["train"]["seed"] == 5
    assert "8 held-out images" in printed.err


def test_mnist_needs_no_flags_but_its_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pixels = bytes(range(250)) * 4 * 28 * 28
    header = b"\0\0\x08\x03" + b"".join(n.to_bytes(4, "big") for n in (50, 28, 28))
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(
        gzip.compress(header + pixels[: 50 * 28 * 28])
    )
    assert command.train(data=".", batch_size=4, steps=2, set=TINY, device="cpu") == 0
    saved = json.loads(Path("runs/glow/config.json").read_text())["data"]
    assert saved["channels"] == 1 and saved["crop"] == 28
    assert "42 training and 8 held-out" in capsys.readouterr().err


def test_the_folder_is_named_after_the_config(images, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("small.toml").write_text(f'[data]\npath = "{images}"\nchannels = 1\ncrop = 4\n')
    options = {"steps": 2, "batch_size": 4, "set": TINY, "device": "cpu", "quiet": True}
    assert command.train(Path("small.toml"), **options) == 0
    printed = capsys.readouterr()
    assert printed.err == "" and printed.out.startswith("runs/small/model")


def test_mistakes(images):
    with pytest.raises(UsageError, match=r"data\.path is missing in the command line"):
        command.train(steps=3)
    with pytest.raises(UsageError, match=r"did you mean train\.batch_size"):
        command.train(data=str(images), set=["train.batchsize=3"])


def test_the_command_that_continues(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/bin/innverse", "train", "my run.toml", "--no-resume"])
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert same_command() == "innverse train 'my run.toml'"
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert same_command().startswith("torchrun --nproc-per-node 2 -m innverse train")


def test_settings_are_checked_before_torch_is_imported():
    script = (
        "import sys\nfrom innverse.cli.train import train\nfrom innverse.errors import UsageError\n"
        "try:\n    train(steps=3)\nexcept UsageError:\n    sys.exit('torch' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
