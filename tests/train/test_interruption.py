"""Signals sent to a real process running the command."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time

import pytest

from innverse.train import load_config, train

# each step takes a little longer, so that a signal meets the loop and not its end
SCRIPT = """
import sys, time
from innverse.train import Trainer
step = Trainer.step
def slow(self, stop=False):
    time.sleep(0.01)
    return step(self, stop)
Trainer.step = slow
from pathlib import Path
from innverse.cli.train import train
sys.exit(train(Path(sys.argv[1]), out=Path(sys.argv[2]), device="cpu"))
"""


@pytest.fixture
def start(tmp_path, images):
    config = tmp_path / "tiny.toml"
    config.write_text(
        f'[data]\npath = "{images}"\nchannels = 1\ncrop = 4\nheld_out = 8\n'
        "[model]\nlevels = 1\nsteps = 1\nhidden = 8\nnoise = [0.02, 0.4]\n"
        "[train]\nsteps = 80\nbatch_size = 4\nlog_every = 1\neval_every = 40\n"
        "checkpoint_every = 7\nthreads = 1\n"
    )

    def launch(out):
        if out == "whole":
            return train(load_config(config), tmp_path / out, device="cpu", quiet=True)
        command = [sys.executable, "-c", SCRIPT, str(config), str(tmp_path / out)]
        return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    return launch


def wait_for_lines(process, path, n):
    limit = time.monotonic() + 120
    while not path.exists() or len(path.read_bytes().splitlines()) < n:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.01)


def test_kill_and_ctrl_c_then_the_same_command(start, tmp_path, curve):
    start("whole")
    parts = start("parts")
    wait_for_lines(parts, tmp_path / "parts/metrics.jsonl", random.randint(1, 35))
    parts.kill()
    parts.communicate()

    parts = start("parts")
    wait_for_lines(parts, tmp_path / "parts/metrics.jsonl", random.randint(37, 60))
    parts.send_signal(signal.SIGINT)
    _, messages = parts.communicate(timeout=120)
    assert parts.returncode == 130
    assert "saved; continue with:" in messages and "Traceback" not in messages

    parts = start("parts")
    output, messages = parts.communicate(timeout=120)
    assert parts.returncode == 0 and "continuing after step" in messages
    assert "model" in output
    assert len(curve(tmp_path / "whole")) == 82
    assert curve(tmp_path / "parts") == curve(tmp_path / "whole")
