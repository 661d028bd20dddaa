"""Choose the options of every method of ``innverse reproduce asim2020`` on held-out training faces.

    .venv/bin/python benchmarks/tune_asim2020.py faces64_train.tar [--images 8]
        [--experiments compressed_sensing denoising] [--settings 0.2] [--methods lasso_dct tv]

Every method with a grid tries each entry on the same pictures, which no shipped model was trained
on (split by seed 0 as in training), and the highest mean PSNR wins. What is found is added to
``src/innverse/studies/reproduce/tuned.json`` after each entry, so it can be stopped and continued.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import harness
import torch

import innverse
from innverse.data import open_images, split, write_json
from innverse.metrics import psnr
from innverse.solvers import solve
from innverse.studies.reproduce import protocol
from innverse.studies.reproduce.cells import measurement

FILE = Path(protocol.__file__).with_name("tuned.json")
FAMILIES = ("compressed_sensing", "denoising", "inpainting", "blur", "superresolution", "fourier")
HELD_OUT = 256  # as configs/faces64.toml


def held_out_faces(path: str, count: int) -> torch.Tensor:
    """The first of the faces that training left out, (count, 3, 64, 64)."""
    _, kept = split(open_images(path, channels=3), HELD_OUT, seed=0)
    return torch.stack([kept[i] for i in range(count)]).float() / 255


def main() -> None:
    parser = harness.Arguments(__doc__, threads=1, quick=False, out=False)
    parser.add_argument("data")
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--experiments", nargs="+", default=list(FAMILIES))
    parser.add_argument("--settings", nargs="+")
    parser.add_argument("--methods", nargs="+")
    args = parser.parse_args()
    harness.use(args.threads)
    x = held_out_faces(args.data, args.images)
    shipped = innverse.zoo.names()
    priors = {r: innverse.load(n) for r, n in protocol.PRIORS.items() if n in shipped}
    found = (
        json.loads(FILE.read_text())
        if FILE.is_file()
        else {"chosen": {}, "tried": {}, "images": {}}
    )
    found["data"] = f"of the {HELD_OUT} held-out faces of {Path(args.data).name}"
    found["command"] = "benchmarks/tune_asim2020.py"
    for key in args.experiments:
        experiment = protocol.EXPERIMENTS[key]
        for setting in args.settings or experiment.settings:
            for name in args.methods or experiment.methods:
                method = experiment.methods[name]
                if len(method.grid) == 1 or (method.role and method.role not in priors):
                    continue
                place = (key, setting, name)
                tried = _at(found["tried"], place)
                for entry in method.grid:
                    label = json.dumps(entry, sort_keys=True)
                    if label in tried:
                        continue
                    physics, y = measurement(key, setting, x)
                    prior = priors.get(method.role)
                    r = solve(y, physics, prior, method.method, **{**method.options, **entry})
                    tried[label] = round(float(psnr(r.x, x).mean()), 3)
                    print(*place, label, tried[label], f"{r.seconds:.0f} s", file=sys.stderr)
                    _at(found["images"], place[:2])[name] = args.images
                    best = max(tried, key=lambda label: tried[label])
                    _at(found["chosen"], place[:2])[name] = json.loads(best)
                    write_json(FILE, found)


def _at(tree: dict, path: tuple[str, ...]) -> dict:
    for name in path:
        tree = tree.setdefault(name, {})
    return tree


if __name__ == "__main__":
    main()
