"""What all tests share: the number of torch threads, fixed seeds, the command line as a fixture."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys

import hypothesis
import numpy as np
import pytest
import torch

hypothesis.settings.register_profile(
    "innverse", deadline=None, derandomize=True, print_blob=True, max_examples=50
)
hypothesis.settings.load_profile("innverse")


# One unless asked: workers share the cores, and small tensors gain nothing by two.
THREADS = os.environ.get("OMP_NUM_THREADS") or "1"


def pytest_configure():
    torch.set_num_threads(int(THREADS))
    # what `nohup make test &` has its children ignore, tests send
    for number, usual in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGHUP, signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)


@pytest.fixture(autouse=True)
def _seeded():
    """The same random numbers for a test, whether it runs alone or after others."""
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - for the libraries that still use it
    torch.manual_seed(0)
    torch.set_num_threads(int(THREADS))  # a test may have set another number
    torch.set_flush_denormal(False)  # a training run in this process may have left it on
    torch.distributions.Distribution.set_default_validate_args(True)  # the compiler turns it off


@pytest.fixture
def cli(tmp_path):
    """``cli("info", "natural-gray", timeout=60)`` runs the command in an empty folder.

    Returns the finished process with ``returncode``, ``stdout`` and ``stderr`` (text). Keyword
    arguments other than ``timeout``, ``cwd`` and ``input`` become environment variables.
    """

    def run(*args, timeout: float = 120, cwd=tmp_path, input=None, **env):
        return subprocess.run(
            [sys.executable, "-m", "innverse", *map(str, args)],
            cwd=cwd,
            env={**os.environ, "OMP_NUM_THREADS": THREADS, "COLUMNS": "100", **env},
            input=input,
            stdin=subprocess.DEVNULL if input is None else None,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return run
