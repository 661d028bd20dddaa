"""Results that are computed once: every cell is a small JSON file, so a run can stop anywhere."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from harness import write_atomically

from innverse import amortized


@dataclass(frozen=True)
class Setting:
    """What all parts share.

    ``cells`` is the folder of the cells, ``epochs`` and ``minutes`` the most that a training may
    take, ``simulations`` their number (None: that of the published comparison).
    """

    cells: Path
    density: str = "nsf"
    epochs: int = 1000
    minutes: float | None = None
    simulations: int | None = None
    quick: bool = False

    def cell(self, name: str, compute: Callable[[], dict]) -> dict:
        """The result ``name``: from its file, or computed and written there."""
        path = self.cells / f"{name}.json"
        if path.exists():
            return json.loads(path.read_text())
        result = compute()
        write_atomically(path, result)
        print(f"{name}: {json.dumps(result)[:300]}", flush=True)
        return result

    def learn(self, name: str, task, n: int, seed: int = 0, **options):
        """A posterior of ``task`` and the record of its training; both from their files if there.

        Minutes are those of one processor core, so that what else the machine does, and pauses,
        do not count; ``wall_minutes`` is what the clock says.
        """
        folder = self.cells / name
        kept = self.cells / f"{name}/training.json"
        if kept.exists():
            return amortized.load(folder), json.loads(kept.read_text())
        theta, x = task.pairs(self.simulations or n, seeded(seed))
        options = {"bounds": task.bounds, "density": self.density, "seed": seed} | options
        options |= {"max_epochs": self.epochs, "minutes": self.minutes}

        def train() -> dict:
            wall, cpu = time.perf_counter(), time.process_time()
            posterior = amortized.fit(theta, x, checkpoint=folder / "checkpoint", **options)
            posterior.save(folder)
            history = posterior.history
            return {
                "minutes": (time.process_time() - cpu) / 60,
                "wall_minutes": (time.perf_counter() - wall) / 60,
                "threads": torch.get_num_threads(),
                "simulations": len(x),
                "parameters": posterior.n_parameters,
                "held_out_nll": history.best,
                "epochs": history.epochs,
                "ended": history.ended,
            }

        record = self.cell(f"{name}/training", train)
        return amortized.load(folder), record


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mean(values) -> float:
    values = list(values)
    return sum(values) / len(values)
