"""Levy processes: how far from the best possible mean, and is the posterior calibrated?

    python benchmarks/levy                  all laws and operators; half an hour or so of one core
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
        (out / "levy.md").write_text(table(cells))
    print(table(cells))


def table(cells: dict) -> str:
    """Rows are cells."""
    columns = (
        "increments",
        "operator",
        "gap of the mean square error, dB",
        "gap, mean over signals",
        "the reference's own error",
        "90 % sets hold: flow",
        "its intervals",
        "reference",
        "effective draws",
    )
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for key, cell in cells.items():
        law, operator = key.split("/")
        lines.append(
            f"| {law} | {operator} | {cell['gap_of_mean_mse_db']:.2f} | {cell['gap_mean_db']:.2f} ± "
            f"{cell['gap_mean_db_se']:.2f} | {cell['reference_error_db']:.2f} | "
            f"{cell['coverage']:.3f} | {cell['coverage_of_intervals']:.3f} | "
            f"{cell['coverage_reference']:.3f} | {cell['effective_draws']:.0f} |"
        )
    return "\n".join(lines) + "\n"


main()
