"""Levy processes: how far from the best possible mean, and is the posterior calibrated?

    python benchmarks/levy                  all laws and operators; some twenty minutes of one core
    python benchmarks/levy --quick          that it all runs
    python benchmarks/levy --laws cauchy    some of them, put among the others of the table

Every cell is kept in runs/levy and not computed again; results/levy.json and levy.md hold all that are
there.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
import harness

from levy.laws import LAWS
from levy.operators import operators
from levy.page import page
from levy.study import run


def main() -> None:
    parser = harness.Arguments(__doc__)
    parser.add_argument("--laws", nargs="+", choices=LAWS, default=list(LAWS))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    out = args.out or harness.RESULTS
    out.mkdir(parents=True, exist_ok=True)
    kept = out / "levy.json"
    cells = json.loads(kept.read_text()) if kept.exists() else {}
    for law in args.laws:
        cells |= run(args.quick, args.seed, [law])
        order = [f"{law}/{a}" for law in LAWS for a in operators()]
        cells = {key: cells[key] for key in order if key in cells}
        kept.write_text(json.dumps(cells, indent=1) + "\n")
        (out / "levy.md").write_text(page(cells))
    print(page(cells))


main()
