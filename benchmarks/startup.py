"""What a user waits for before anything happens: imports, --help, the first density of a photograph.

    python benchmarks/startup.py [--quick] [--rounds 9] [--out FOLDER]

Whole processes, start included, in turns; files are in the page cache.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import harness
import skimage.data
from PIL import Image

PHOTOGRAPH = Path(tempfile.gettempdir()) / "innverse-startup.png"
DENSITY = f"""
import innverse, torch
x = innverse.data.read_image(r"{PHOTOGRAPH}", "L").tensor[None]
with torch.inference_mode():
    print(float(innverse.load("natural-gray").log_prob(x, 0.05)))
"""
COMMANDS = {
    "import torch": ["-c", "import torch"],
    "import innverse": ["-c", "import innverse"],
    "innverse --help": ["-m", "innverse", "--help"],
    "first log_prob of natural-gray on a 256x256 photograph": ["-c", DENSITY],
}
HELP_WITHOUT_TORCH = """
import sys
from innverse.cli.entry import main
try:
    main(["--help"])
except SystemExit:
    pass
print("torch" in sys.modules, file=sys.stderr)
"""


def seconds(command: list[str]) -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def help_imports_torch() -> bool:
    done = subprocess.run(
        [sys.executable, "-c", HELP_WITHOUT_TORCH], capture_output=True, text=True, check=True
    )
    return done.stderr.strip().endswith("True")


def main() -> None:
    parser = harness.Arguments(__doc__, rounds=(9, 1))
    args = parser.parse_args()
    rounds = args.rounds
    Image.fromarray(skimage.data.camera()[:256, :256]).save(PHOTOGRAPH)
    for command in COMMANDS.values():
        seconds(command)  # fills the page cache
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        for name, command in COMMANDS.items():
            times[name].append(seconds(command))
    base = statistics.median(times["import torch"])
    cells = [
        {"name": n, "seconds": statistics.median(t), "ratio": statistics.median(t) / base}
        for n, t in times.items()
    ]
    lazy = not help_imports_torch()
    info = harness.machine(("torch", "innverse"), os.cpu_count() or 1)
    lines = [[c["name"], f"{c['seconds']:.2f}", f"{c['ratio']:.2f}"] for c in cells]
    text = "\n".join(
        [
            "# Start-up\n",
            harness.machine_text(info, ("torch", "innverse"), rounds),
            harness.table(["process", "seconds", "/ import torch"], lines) + "\n",
            f"`innverse --help` {'does not import' if lazy else 'imports'} torch.\n",
        ]
    )
    print(text)
    data = {"machine": info, "rounds": rounds, "cells": cells, "help_without_torch": lazy}
    harness.write("startup", text, data, args.out)


if __name__ == "__main__":
    main()
