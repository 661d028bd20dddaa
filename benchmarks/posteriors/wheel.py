"""Observations and reference posteriors of sbibm (Lueckmann et al. 2021), read from its wheel.

sbibm itself needs old libraries, so the wheel is fetched without its dependencies and never
installed.
"""

from __future__ import annotations

import bz2
import csv
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import torch
from torch import Tensor

VERSION = "1.1.0"

# task: (its folder in the wheel, the file of its observations)
PLACES = {
    "slcp_distractors": ("slcp", "observation_distractors.csv"),
    "bernoulli_glm_raw": ("bernoulli_glm", "observation_raw.csv"),
}


def fetch(folder: Path) -> Path:
    """The wheel, downloaded into ``folder`` by pip unless it is there."""
    path = folder / f"sbibm-{VERSION}-py2.py3-none-any.whl"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        subprocess.run([*command, "--dest", str(folder), f"sbibm=={VERSION}"], check=True)
    return path


def observation(wheel: Path, task: str, number: int) -> tuple[Tensor, Tensor]:
    """Observation ``number`` (1..10) of a task, and its reference posterior (10000, D)."""
    place, name = PLACES.get(task, (task, "observation.csv"))
    folder = f"sbibm/tasks/{place}/files/num_observation_{number}"
    with zipfile.ZipFile(wheel) as files:
        x = _table(files.read(f"{folder}/{name}"))
        draws = _table(bz2.decompress(files.read(f"{folder}/reference_posterior_samples.csv.bz2")))
    return x[0], draws


def _table(data: bytes) -> Tensor:
    rows = csv.reader(io.StringIO(data.decode()))
    next(rows)
    return torch.tensor([[float(v) for v in row] for row in rows])
