"""What a file of cells is given, and what a row is."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from torch import Tensor

TUNED = Path(__file__).parent / "tuned.json"


class NoData(Exception):
    """Something was not given that a cell needs."""


@dataclass(eq=False)
class Setting:
    """The command line, and what is known already.

    Attributes:
        data: folder of archives; None without.
        work: folder for models that are trained and pictures that are shown.
        tuned: {method: {task: weight}}, found on training pictures.
        done: the rows that are there, by (task, dataset, method).
    """

    work: Path
    data: Path | None = None
    quick: bool = False
    dncnn: Path | None = None
    patches: Path | None = None
    peers: bool = False
    tasks: list[str] = field(default_factory=lambda: ["*"])
    methods: list[str] = field(default_factory=lambda: ["*"])
    datasets: list[str] = field(default_factory=lambda: ["*"])
    tuned: dict[str, dict[str, float]] = field(
        default_factory=lambda: json.loads(TUNED.read_text())["weights"] if TUNED.exists() else {}
    )
    done: set[tuple[str, str, str]] = field(default_factory=set)

    def wants(self, task: str, dataset: str, method: str) -> bool:
        """Whether a cell was asked for and is not there yet."""
        asked = (task, self.tasks), (method, self.methods), (dataset, self.datasets)
        chosen = all(any(fnmatch(name, p) for p in patterns) for name, patterns in asked)
        return chosen and (task, dataset, method) not in self.done

    def archive(self, name: str) -> Path:
        """A file of --data."""
        if self.data is None or not (self.data / name).exists():
            raise NoData(f"needs --data DIR, the folder with {name}")
        return self.data / name


@dataclass
class Score:
    psnr: float
    ssim: float
    seconds: float


def judged(x: Tensor, restore: Callable[[], Tensor]) -> tuple[Score, Tensor]:
    """PSNR and SSIM of what ``restore`` finds of the picture x (1, C, H, W), and processor time."""
    from innverse.metrics import psnr, ssim

    started = time.process_time()
    found = restore()
    seconds = time.process_time() - started
    return Score(float(psnr(found, x)), float(ssim(found, x)), seconds), found


def row(task: str, dataset: str, method: str, scores: Iterable[Score], **more: Any) -> dict:
    """One row: means over pictures, the standard error of PSNR, processor seconds of a picture."""
    scores = list(scores)
    n = len(scores)
    mean = {k: sum(getattr(s, k) for s in scores) / n for k in ("psnr", "ssim", "seconds")}
    off = sum((s.psnr - mean["psnr"]) ** 2 for s in scores) / max(1, n - 1)
    about = {"task": task, "dataset": dataset, "method": method}
    std_err = {"std_err": (off / n) ** 0.5, "n": n}
    return about | mean | std_err | more | {"each": [round(s.psnr, 3) for s in scores]}


Rows = Iterator[dict]
