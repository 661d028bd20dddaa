"""One run per folder; what ends a process from outside saves the run first."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from innverse.cli import main
from innverse.data.lock import only_writer
from innverse.errors import InnverseError, InputError
from innverse.fitting.checkpoint import latest_checkpoint
from innverse.fitting.interrupt import stop_requests
from innverse.progress import Progress
from innverse.train import Trainer, train

HOLD = """
import fcntl, os, sys
fcntl.flock(os.open(sys.argv[1], os.O_RDWR | os.O_CREAT), fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_run_on_one_folder_gets_one_line(settings, images, tmp_path, capfd):
    def nested(self, stop=False):
        before = set((tmp_path / "checkpoint").glob("*"))
        flags = ["train", "--data", str(images), "--out", str(tmp_path), "--no-resume"]
        assert main(flags) == 1
        err = capfd.readouterr().err
        assert "another run is writing" in err and err.count("\n") == 1
        assert set((tmp_path / "checkpoint").glob("*")) == before
        return step(self, stop)

    step = Trainer.step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "step", nested)
        assert train(settings(train_steps=2), tmp_path, device="cpu", quiet=True).complete
    assert train(settings(train_steps=2), tmp_path, device="cpu", quiet=True).complete


def test_a_lock_ends_with_its_process(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path / ".lock")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(InnverseError, match="another run"), only_writer(tmp_path):
            pass
        process.kill()  # SIGKILL: it cannot tidy up
    assert os.listdir(tmp_path) == [".lock"]
    with only_writer(tmp_path):
        pass
    assert os.listdir(tmp_path) == []


def test_a_run_of_which_nothing_came_leaves_nothing(settings, tmp_path):
    with pytest.raises(InputError, match="no such file"):
        train(settings(data_path=str(tmp_path / "none")), tmp_path / "run", device="cpu")
    assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be(tmp_path):
    (tmp_path / "file").write_text("")
    for name in ("file", "file/run", "nul\0", "n" * 300):
        with (
            pytest.raises(InputError, match="cannot write to") as error,
            only_writer(tmp_path / name),
        ):
            pass
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_the_run(settings, tmp_path, monkeypatch, number):
    step = Trainer.step

    def struck(self, stop=False):
        if self.step_number == 3 and not stop:
            os.kill(os.getpid(), number)
        return step(self, stop)

    monkeypatch.setattr(Trainer, "step", struck)
    before = signal.getsignal(number)
    outcome = train(settings(), tmp_path, device="cpu", quiet=True)
    assert not outcome.complete and signal.getsignal(number) is before
    assert int(latest_checkpoint(tmp_path / "checkpoint").stem) == outcome.step == 5
    monkeypatch.undo()
    assert train(settings(), tmp_path, device="cpu", quiet=True).complete


def test_an_ignored_signal_stays_ignored():
    """nohup: the closed terminal must not end the run."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_requests() as requests:
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert requests == [] and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_terminal_that_is_gone_ends_nothing(monkeypatch):
    class Gone:
        def write(self, text):
            raise OSError(5, "Input/output error")

        def flush(self):
            raise OSError(5, "Input/output error")

        def isatty(self):
            return False

    monkeypatch.setattr(sys, "stderr", Gone())
    with stop_requests() as requests, Progress("training", 3, every=0) as progress:
        os.kill(os.getpid(), signal.SIGHUP)
        progress(1, note="loss 1")
        progress.say("a line")
    assert requests == [signal.SIGHUP]
