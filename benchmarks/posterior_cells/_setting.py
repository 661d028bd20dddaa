"""What a proof is given: its folder of parts, its data, its seed."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

import torch
from harness import write_atomically


class NoData(Exception):
    """A proof that needs --data was started without."""


@dataclass
class Setting:
    work: Path
    data: Path | None
    quick: bool
    seed: int
    tasks: list[str] = field(default_factory=lambda: ["*"])  # of proofs that have several
    pictures: int | None = None  # of each task, all without
    there: dict = field(default_factory=dict)  # what the file has of this proof
    save: Callable[[dict], None] = lambda result: None  # writes what there is so far
    seconds: dict[str, float] = field(default_factory=dict)  # of the processor, of each part

    def part(self, name: str, settings: dict, compute: Callable[[], dict]) -> dict:
        """The result ``name`` of these settings: from its file, or computed and written there."""
        path = self.work / f"{name}.json"
        found = json.loads(path.read_text()) if path.exists() else {}
        settings = settings | {"seed": self.seed}
        if found.get("settings") != json.loads(json.dumps(settings)):
            started = time.process_time()
            result = compute()
            seconds = time.process_time() - started
            found = {"settings": settings, "seconds": seconds, "result": result}
            write_atomically(path, found)
            print(f"{name}: {seconds:.0f} s", flush=True)
        self.seconds[name] = found["seconds"]
        return found["result"]

    def wants(self, task: str) -> bool:
        return any(fnmatch(task, pattern) for pattern in self.tasks)

    def generator(self, *name) -> torch.Generator:
        """Random numbers of one purpose."""
        from innverse.seeding import stream

        return stream(self.seed, 0, "/".join(map(str, name)))

    def archive(self, name: str) -> Path:
        """A file of --data."""
        if self.data is None:
            raise NoData("needs --data DIR, the folder with the archives of pictures")
        if not (self.data / name).exists():
            raise NoData(f"no {name} in {self.data}")
        return self.data / name
