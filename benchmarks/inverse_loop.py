"""The inner loop of an inverse problem: gradient of ||A G(z) - y||^2 with respect to the latent.

    python benchmarks/inverse_loop.py [--quick] [--rounds 5] [--out FOLDER]

Glow 3x64x64, L = 4, K = 16, hidden 64, batch 1 and 16; A keeps half of the pixels. The parameters
are frozen, and innverse is told that they stay constant, both as in `solve`.
"""

from __future__ import annotations

import contextlib

import harness

SHAPE, LEVELS, HIDDEN = (3, 64, 64), 4, 64
PACKAGES = ("torch", "innverse", "FrEIA", "normflows")
CELLS = [
    {"library": "innverse"},
    {"library": "FrEIA"},
    {"library": "FrEIA", "layout": "channels_last"},
    {"library": "normflows"},
    {"library": "normflows", "layout": "channels_last"},
]


def measure(cell: dict) -> dict:
    import glows
    import torch

    harness.use(cell["threads"])
    torch.manual_seed(0)
    model = glows.LIBRARIES[cell["library"]](LEVELS, cell["steps"], HIDDEN, shape=SHAPE)
    generator = torch.Generator().manual_seed(1)
    x = glows.textures(cell["batch"], generator, shape=SHAPE)
    if cell.get("layout") == "channels_last" or cell["library"] == "innverse":
        model.to(memory_format=torch.channels_last)
        x = x.contiguous(memory_format=torch.channels_last)
    model.prepare(x)
    model.eval().requires_grad_(False)
    mask = (torch.rand((1, 1, *SHAPE[1:]), generator=generator) > 0.5).float()
    y = mask * x
    with torch.no_grad():
        z = model.encode(x)
    latents = [t.detach().requires_grad_() for t in (z if isinstance(z, (list, tuple)) else [z])]
    given = latents if isinstance(z, (list, tuple)) else latents[0]

    def gradient():
        loss = (mask * model.decode(given) - y).square().sum()
        return torch.autograd.grad(loss, latents)

    def only_forward():
        with torch.no_grad():
            return model.decode(given)

    constant = contextlib.nullcontext()
    if cell["library"] == "innverse":
        from innverse.accelerate.constant import constant_parameters

        constant = constant_parameters()
    with constant:
        return {
            **harness.seconds(gradient, warm_up=3, enough=cell["enough"]),
            "decode": harness.seconds(only_forward, 1, cell["enough"] / 2)["seconds"],
            "bytes": harness.peak_tensor_bytes(gradient),
            "parameters": sum(p.numel() for p in model.parameters()),
        }


def text_of(rows: list[dict], batch: int, k: int) -> str:
    lines = []
    for r in rows:
        name = r["library"] + (f" ({r['layout']})" if "layout" in r else "")
        if r.get("seconds") is None:
            lines.append([name, f"failed: {r['error'][:60]}", *[""] * 4])
            continue
        lines.append(
            [
                name + ("" if r["idle"] else " (machine was busy)"),
                f"{r['seconds'] * 1e3:.1f}",
                "-".join(f"{t * 1e3:.0f}" for t in r["range"]),
                f"{r['decode'] * 1e3:.1f}",
                f"{r['bytes'] * 1e-6:.0f}",
                f"{r['parameters'] * 1e-6:.2f}",
            ]
        )
    header = ["", "gradient ms", "range of rounds", "decode ms", "MB", "million parameters"]
    ours = rows[0].get("seconds")
    peers = [(r["seconds"], r["library"]) for r in rows[1:] if r.get("seconds")]
    ratio = ""
    if ours and peers:
        fastest, name = min(peers)
        ratio = f"\n\nTime of the best other library ({name}) / innverse's: {fastest / ours:.2f}."
    return f"## Batch {batch}, K = {k}\n\n" + harness.table(header, lines) + ratio + "\n"


def main() -> None:
    parser = harness.Arguments(__doc__, threads=0, rounds=(5, 1))
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16])
    args = parser.parse_args()
    rounds = args.rounds
    k = 4 if args.quick else 16
    common = {"steps": k, "enough": 0.5 if args.quick else 2.0, "threads": args.threads}
    info = harness.machine(PACKAGES, args.threads)
    parts = [
        "# Gradient of ||A G(z) - y||^2\n",
        harness.machine_text(info, PACKAGES, rounds),
        (
            f"Glow {'x'.join(map(str, SHAPE))}, L = {LEVELS}, hidden {HIDDEN}, float32, parameters "
            "frozen (and constant, which innverse makes use of); MB is the peak of the live tensors.\n"
        ),
    ]
    cells = [{**cell, "batch": batch} for batch in args.batches for cell in CELLS]
    found = harness.interleaved(__file__, [c | common for c in cells], rounds, args.threads)
    rows = harness.summaries(cells, found)
    for batch in args.batches:
        parts.append(text_of([r for r in rows if r["batch"] == batch], batch, k))
    text = "\n".join(parts)
    print(text)
    out = args.out
    harness.write("inverse_loop", text, {"machine": info, "rounds": rounds, "cells": rows}, out)


if __name__ == "__main__":
    harness.start(main, measure)
