"""Clusters for tests: in this process, which is quick, and of real processes that can be killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys

import pytest


@pytest.fixture(scope="session")
def inside():
    """A Dask client whose scheduler and two workers are threads of this process."""
    distributed = pytest.importorskip("distributed")
    with distributed.Client(
        processes=False, n_workers=2, threads_per_worker=1, dashboard_address=None
    ) as client:
        yield client


class Machines:
    """A scheduler and workers, each a process of its own, as on a real cluster."""

    def __init__(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.running: list[subprocess.Popen] = []

    def scheduler(self):
        return self._start(
            "scheduler", "--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard"
        )

    def worker(self):
        return self._start(
            "worker", self.address, "--host", "127.0.0.1", "--nthreads", "1", "--no-dashboard"
        )

    def _start(self, *arguments):
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        command = [sys.executable, "-m", "dask", *arguments]
        process = subprocess.Popen(command, start_new_session=True, **quiet)
        self.running.append(process)
        return process

    def kill(self, process):
        """With all its children, and without a word."""
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self.running.remove(process)


@pytest.fixture
def machines():
    pytest.importorskip("distributed")
    found = Machines()
    yield found
    for process in list(found.running):
        found.kill(process)
