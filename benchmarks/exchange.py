"""A hole of 8x8 pixels in a picture of 32x32: plain chains beside chains that swap along noise levels.

    python benchmarks/exchange.py [--only posterior] [--quick]

The picture is a draw of the prior, so that its pixels are a draw of the posterior too. Chains begin
at one reconstruction. Writes results/exchange.json, a row for each method: R-hat and effective sizes
in the hole, swaps and round trips.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import harness
import torch

import innverse
from innverse.physics import Inpainting

SIZE, HOLE, NOISE, SIGMA = 32, 8, 0.02, 0.02
RUNS = {
    "posterior": {"chains": 4, "draws": 480, "warmup": 60, "steps": 15},
    "exchange": {"chains": 2, "draws": 500, "warmup": 80, "steps": 5, "levels": 20, "top": 0.15},
}
OUT = harness.RESULTS / "exchange.json"


def problem() -> tuple[torch.Tensor, Inpainting, torch.Tensor]:
    """The picture, its operator and the measurement."""
    g = torch.Generator().manual_seed(1)
    prior = innverse.load("natural-gray")
    u = prior.sample(1, SIGMA, size=(SIZE, SIZE), generator=g)
    mask, at = torch.ones(SIZE, SIZE), (SIZE - HOLE) // 2
    mask[at : at + HOLE, at : at + HOLE] = 0
    physics = Inpainting(mask, noise=NOISE)
    return u, physics, physics(u, g)


def row(method: str, u: torch.Tensor, physics: Inpainting, y: torch.Tensor, **options) -> dict:
    """What a sampler says of the hole."""
    started = time.process_time()
    prior = innverse.load("natural-gray")
    found = innverse.solve(y, physics, prior, method, sigma=SIGMA, **options)
    inside = physics.mask.expand_as(found.x) == 0
    known = found.diagnostics
    low, high = found.interval(0.9)
    result = {
        "options": options,
        "r_hat_median": float(known["r_hat"][inside].median()),
        "r_hat_largest": float(known["r_hat"][inside].max()),
        "ess_median": float(known["ess_bulk"][inside].median()),
        "ess_least": float(known["ess_bulk"][inside].min()),
        "r_hat_outside": float(known["r_hat"][~inside].max()),
        "coverage_90": float(((low < u) & (u < high))[inside].double().mean()),
        "std": float(found.std[inside].mean()),
        "acceptance": float(known["acceptance"]),
        "evaluations": int(found.evaluations[0]),
        "status": found.status[0],
        "seconds": time.process_time() - started,
    }
    if "levels" in known:
        result |= {
            "levels": [round(v, 4) for v in known["levels"][0].tolist()],
            "swaps": [round(v, 3) for v in known["swaps"][0].tolist()],
            "round_trips": int(known["round_trips"][0]),
        }
    return result


def main() -> None:
    parser = harness.Arguments(__doc__, threads=1, out=False)
    parser.add_argument("--only", choices=RUNS, help="run this row, and keep the others")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = json.loads(OUT.read_text("utf-8")) if OUT.exists() else {}
    for method in [args.only] if args.only else RUNS:
        few = {"draws": 16, "warmup": 4} if args.quick else {}
        rows[method] = row(method, *problem(), **RUNS[method] | few)
        print(method, json.dumps(rows[method]), flush=True)
        if not args.quick:
            harness.write_atomically(OUT, rows)


if __name__ == "__main__":
    main()
