"""Compressed sensing at m/n = 0.2 with the prior of faces: seconds and PSNR of a solve.

    .venv/bin/python benchmarks/solve_speed.py [--data faces_test.tar] [--quick] [--out FOLDER]

Our batched L-BFGS, with a line search for each item, beside the optimiser of the published code
(GlowIP): one torch.optim.LBFGS over the whole batch, strong Wolfe, same history and number of
steps. Both from z = 0 with gamma = 0, on the same flow and the same gradient, alone and 16 together.
"""

from __future__ import annotations

from pathlib import Path

import harness

PACKAGES = ("torch", "innverse")
WAYS = ("innverse", "one L-BFGS over the batch")
RATIO = "0.2"


def chosen() -> dict:
    """The options of the study's flow at this ratio: steps and sigma."""
    from innverse.studies.reproduce import protocol

    method = protocol.METHODS["flow"]
    return protocol.options("compressed_sensing", RATIO, "flow", method, {})


def measure(cell: dict) -> dict:
    import torch

    import innverse
    from innverse.metrics import psnr
    from innverse.studies.reproduce.cells import measurement
    from innverse.studies.reproduce.pictures import picture_sets

    harness.use(cell["threads"])
    flow = innverse.load("faces64")
    x = next(iter(picture_sets(cell["data"], cell["batch"]).values())).x
    physics, y = measurement("compressed_sensing", RATIO, x)
    # the check of the operator and first calls of kernels are no part of a solve
    innverse.solve(y[:1], physics, flow, "latent", sigma=cell["sigma"], steps=1)
    found = {}

    def solve() -> None:
        if cell["way"] == WAYS[0]:
            options = {k: cell[k] for k in ("sigma", "steps")}
            r = innverse.solve(y, physics, flow, "latent", **options)
            found["x"], found["evaluations"] = r.x, float(r.evaluations.float().mean())
        else:
            found["x"], found["evaluations"] = _torch_lbfgs(
                flow.at(torch.tensor([cell["sigma"]])), physics, y, cell["steps"]
            )

    timed = harness.seconds(solve, warm_up=0, enough=0.1)
    return {
        **timed,
        "seconds": timed["seconds"] / len(x),
        "psnr": float(psnr(found["x"], x).mean()),
        "evaluations": found["evaluations"],
    }


def _torch_lbfgs(prior, physics, y, steps):
    import torch

    z = torch.zeros(len(y), *prior.shape, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [z], lr=1, max_iter=steps, history_size=20, line_search_fn="strong_wolfe"
    )
    count = 0

    def closure():
        nonlocal count
        count += 1
        optimizer.zero_grad()
        value = (physics.A(prior.decode(z)) - y).square().sum()
        value.backward()
        return value

    optimizer.step(closure)
    with torch.no_grad():
        return prior.decode(z), count


def main() -> None:
    parser = harness.Arguments(__doc__, threads=0)
    parser.add_argument("--data", help="default: the faces inside scikit-image")
    parser.add_argument("--rounds", type=int, default=1)
    args = parser.parse_args()
    shared = {"threads": args.threads, "data": args.data} | chosen()
    shared |= {"steps": 5} if args.quick else {}
    cells = [{"way": w, "batch": b} | shared for b in (1, 16) for w in WAYS]
    results = harness.interleaved(__file__, cells, 1 if args.quick else args.rounds, args.threads)
    rows = harness.summaries(cells, results)
    lines = [
        [
            f"{r['way']}, batch {r['batch']}{'' if r['idle'] else ' (not quiet)'}",
            f"{r['seconds']:.2f}",
            f"{r['evaluations']:.0f}",
            f"{r['psnr']:.2f}",
        ]
        for r in rows
        if "error" not in r
    ]
    info = harness.machine(PACKAGES, args.threads)
    source = f"faces of {Path(args.data).name if args.data else 'scikit-image'}"
    header = ["", "seconds per image", "evaluations", "PSNR, dB"]
    text = "\n".join(
        [
            "# Speed of a latent solve\n",
            harness.machine_text(info, PACKAGES, args.rounds),
            f"{shared['steps']} steps at m/n = {RATIO}, sigma = {shared['sigma']:g}, {source}.\n",
            harness.table(header, lines) + "\n",
        ]
    )
    print(text)
    harness.write("solve_speed", text, {"machine": info, "rows": rows}, args.out)


if __name__ == "__main__":
    harness.start(main, measure)
