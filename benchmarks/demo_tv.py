"""Where the settings of `innverse demo` come from: photographs that the demo does not show.

    .venv/bin/python benchmarks/demo_tv.py [--flow]

For each problem, the mean PSNR of total variation over the tuning photographs at several weights;
with --flow also that of the network by each method. The best weight belongs into
src/innverse/studies/demo/problems.py.
"""

from __future__ import annotations

from dataclasses import replace

import harness

import innverse
from innverse.metrics import psnr
from innverse.report import Table
from innverse.solvers import solve
from innverse.solvers.baselines import tv
from innverse.studies.demo.problems import PROBLEMS, TUNING_PHOTOGRAPHS, make_scene

REGIONS = {
    "coins": (20, 20, 256, 256),
    "motorcycle_left": (120, 250, 256, 256),
    "rocket": (150, 250, 256, 256),
}
WEIGHTS = (3e-5, 1e-4, 2e-4, 4e-4, 6e-4, 8e-4, 1.2e-3, 1.6e-3)


def main() -> None:
    parser = harness.Arguments(__doc__, quick=False, out=False)
    parser.add_argument("--flow", action="store_true", help="also the network by each method")
    args = parser.parse_args()
    table = Table(["problem", *(f"{w:g}" for w in WEIGHTS)], title="TV: mean PSNR by weight")
    flow_table = Table(["problem", "pnp", "latent"], title="network: mean PSNR by method")
    prior = innverse.load("natural-gray") if args.flow else None
    for problem in PROBLEMS:
        scenes = [
            make_scene(replace(problem, photograph=name, region=REGIONS[name], side=128), seed=1)
            for name in TUNING_PHOTOGRAPHS
        ]
        row = [[psnr(tv(s.y, s.physics, w), s.truth) for s in scenes] for w in WEIGHTS]
        table.add(problem.name, *(float(sum(r)) / len(r) for r in row))
        if prior is not None:
            found = [
                [psnr(solve(s.y, s.physics, prior, m).x, s.truth) for s in scenes]
                for m in ("pnp", "latent")
            ]
            flow_table.add(problem.name, *(float(sum(r)) / len(r) for r in found))
    table.print()
    if prior is not None:
        flow_table.print()


if __name__ == "__main__":
    main()
