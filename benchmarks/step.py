"""A training step of Glow: seconds, memory, and the round trip after training.

    python benchmarks/step.py [--quick] [--only speed memory roundtrip] [--rounds 5] [--out FOLDER]

1. speed: 3x32x32, L = 3, K = 8, hidden 128, batch 32: log-likelihood, gradient, fused Adam.
2. memory: the same at K = 64, peak of the live tensor bytes.
3. roundtrip: K = 32, 200 training steps, then max |x - decode(encode(x))| in float32.
"""

from __future__ import annotations

import json
import math
import time

import harness

LEVELS, HIDDEN, BATCH = 3, 128, 32
PACKAGES = ("torch", "innverse", "FrEIA", "normflows")

SPEED = [
    {"library": "innverse"},
    {"library": "innverse", "memory": "checkpoint"},
    {"library": "innverse", "memory": "reversible"},
    {"library": "innverse", "memory": "store", "bf16": True},
    {"library": "FrEIA"},
    {"library": "FrEIA", "layout": "channels_last"},
    {"library": "normflows"},
    {"library": "normflows", "layout": "channels_last"},
    {"library": "FrEIA", "layout": "channels_last", "bf16": True},
    {"library": "normflows", "layout": "channels_last", "bf16": True},
]
MEMORY = [
    {"library": "innverse", "memory": "store"},
    {"library": "innverse", "memory": "checkpoint"},
    {"library": "innverse", "memory": "reversible"},
    {"library": "FrEIA"},
    {"library": "normflows"},
]
ROUNDTRIP = [{"library": name} for name in ("innverse", "FrEIA", "normflows")]


# ---- the child: one library in one setting ------------------------------------------------------


class Training:
    """A model of ``cell`` with its optimiser; ``step()`` is one training step."""

    def __init__(self, cell: dict):
        import torch
        from glows import LIBRARIES, textures

        torch.set_num_threads(cell["threads"])
        torch.manual_seed(0)
        ours = cell["library"] == "innverse"
        options = {k: cell[k] for k in ("memory", "bf16") if k in cell and ours}
        self.autocast = cell.get("bf16", False) and not ours
        self.model = LIBRARIES[cell["library"]](LEVELS, cell["steps"], HIDDEN, **options)
        self.channels_last = cell.get("layout") == "channels_last" or ours
        if self.channels_last:  # innverse's Glow sets its own layout
            self.model.to(memory_format=torch.channels_last)
        self.textures = textures
        self.generator = torch.Generator().manual_seed(1)
        self.x = self.batch()
        self.model.prepare(self.x)
        self.lr = cell.get("lr", 1e-4)
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.parameters = sum(p.numel() for p in trained)
        self.optimizer = torch.optim.Adam(trained, lr=self.lr, fused=True)

    def batch(self, n: int = BATCH):
        import torch

        x = self.textures(n, self.generator)
        return x.contiguous(memory_format=torch.channels_last) if self.channels_last else x

    def gradient(self, keep_buffers: bool = False):
        import torch

        with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
            loss = -self.model.log_prob(self.x).mean()
        self.optimizer.zero_grad(set_to_none=not keep_buffers)
        loss.backward()
        return loss.detach()

    def step(self):
        loss = self.gradient()
        self.optimizer.step()
        return loss


def speed(cell: dict) -> dict:
    training = Training(cell)
    timed = harness.seconds(training.step, warm_up=5, enough=cell["enough"])
    return {**timed, "parameters": training.parameters}


def memory(cell: dict) -> dict:
    """The gradients are allocated beforehand, so what is left of the peak is activations."""
    training = Training(cell)
    training.step()
    activations = harness.peak_tensor_bytes(lambda: training.gradient(keep_buffers=True))
    whole = harness.peak_tensor_bytes(training.step)
    timed = harness.seconds(training.step, warm_up=1, enough=cell["enough"])
    return {
        "activation_bytes": activations,
        "step_bytes": whole,
        "parameters": training.parameters,
        **timed,
    }


def roundtrip(cell: dict) -> dict:
    import torch

    training = Training(cell)
    begin = time.perf_counter()
    losses = []
    for i in range(cell["train"]):
        for group in training.optimizer.param_groups:
            group["lr"] = training.lr * min(1.0, (i + 1) / 20)
        training.x = training.batch()
        losses.append(training.step())
    took = time.perf_counter() - begin
    x = training.batch(128)
    model = training.model.eval()
    with torch.no_grad():
        error = (model.decode(model.encode(x)) - x).abs()
        held_out = -model.log_prob(x).mean().item() / x[0].numel() / math.log(2) + 8
    last = torch.stack(losses[-20:]).mean().item() / x[0].numel() / math.log(2) + 8
    return {
        "max_error": error.max().item(),
        "mean_error": error.mean().item(),
        "bits_per_dim": held_out,
        "training_bits_per_dim": last,
        "train_seconds": took,
        "parameters": training.parameters,
    }


# ---- the parent: all of them, and the tables ----------------------------------------------------


def name_of(cell: dict) -> str:
    extra = [cell[k] for k in ("memory", "layout") if k in cell]
    if cell.get("bf16"):
        extra += ["bf16 networks" if cell["library"] == "innverse" else "bf16 autocast"]
    extra = extra or (["store"] if cell["library"] == "innverse" else [])
    return f"{cell['library']} ({', '.join(extra)})" if extra else cell["library"]


def collect(kind: str, cells: list[dict], common: dict, rounds: int, threads: int) -> list[dict]:
    full = [{"kind": kind, **cell, **common, "threads": threads} for cell in cells]
    rows = harness.summaries(cells, harness.interleaved(__file__, full, rounds, threads))
    return [{"name": name_of(cell), **row} for cell, row in zip(cells, rows, strict=True)]


def best(rows: list[dict], library: str, key: str) -> float:
    """The smallest value of a library, over the layouts and modes that keep float32 networks."""
    values = [
        r[key]
        for r in rows
        if r["library"] == library and not r.get("bf16") and r.get(key) is not None
    ]
    return min(values, default=math.nan)


def number(row: dict, key: str, scale: float = 1.0, digits: int = 0) -> str:
    return "failed" if row.get(key) is None else f"{row[key] * scale:.{digits}f}"


def speed_text(rows: list[dict], k: int) -> str:
    ours = best(rows, "innverse", "seconds")
    lines = [
        [
            r["name"] + ("" if r.get("idle", True) else " (machine was busy)"),
            number(r, "seconds", 1e3, 1),
            "-".join(f"{t * 1e3:.0f}" for t in r.get("range", [])),
            number(r, "parameters", 1e-6, 3),
        ]
        for r in rows
    ]
    ratios = ", ".join(
        f"{best(rows, n, 'seconds') / ours:.2f} times {n}'s" for n in ("FrEIA", "normflows")
    )
    return (
        f"## One training step\n\n3x32x32, L = {LEVELS}, K = {k}, hidden {HIDDEN}, batch {BATCH}, "
        "fused Adam. torchflows has no Glow of this form: its levels have three couplings by "
        "checkerboard and three by channels, whose number does not reach the inner levels.\n\n"
        + harness.table(["", "ms", "range of rounds", "million parameters"], lines)
        + f"\n\nSpeed of innverse with float32 networks, each library in its best setting: {ratios}.\n"
    )


def memory_text(rows: list[dict], k: int) -> str:
    peer = best(rows, "FrEIA", "activation_bytes")
    lines = [
        [
            r["name"],
            number(r, "activation_bytes", 1e-6),
            "-" if not r.get("activation_bytes") else f"{peer / r['activation_bytes']:.1f}",
            number(r, "step_bytes", 1e-6),
            number(r, "seconds", 1e3),
            number(r, "parameters", 1e-6, 2),
        ]
        for r in rows
    ]
    header = ["", "activations MB", "FrEIA / this", "whole step MB", "ms", "million parameters"]
    return (
        f"## Memory at K = {k}\n\nPeak of the live tensor bytes. The first column leaves the gradients "
        "of the parameters out, the whole step has them.\n\n" + harness.table(header, lines) + "\n"
    )


def roundtrip_text(rows: list[dict], k: int, train: int, lr: float) -> str:
    lines = [
        [
            r["name"],
            "failed" if r.get("max_error") is None else f"{r['max_error']:.1e}",
            "failed" if r.get("mean_error") is None else f"{r['mean_error']:.1e}",
            number(r, "bits_per_dim", 1, 3),
            number(r, "parameters", 1e-6, 2),
        ]
        for r in rows
    ]
    header = ["", "max error", "mean error", "held-out bits/dim", "million parameters"]
    return (
        f"## Round trip at K = {k}\n\n{train} training steps (Adam {lr:g} after 20 steps of warm-up) "
        "on random 1/f pictures, then |x - decode(encode(x))| of 128 new ones on [0, 1], float32.\n\n"
        + harness.table(header, lines)
        + "\n"
    )


def main() -> None:
    parser = harness.Arguments(__doc__, threads=0, rounds=(5, 1))
    kinds = ["speed", "memory", "roundtrip"]
    parser.add_argument("--only", nargs="+", choices=kinds, default=kinds)
    parser.add_argument("--lr", type=float, default=5e-4, help="of the round trip's training")
    args = parser.parse_args()

    threads, rounds, out = args.threads, args.rounds, args.out
    enough = 0.5 if args.quick else 2.0
    k_speed, k_memory, k_round = (2, 4, 2) if args.quick else (8, 64, 32)
    train = 10 if args.quick else 200

    info = harness.machine(PACKAGES, threads)
    # with --only, the other parts stay as an earlier run on the same machine left them
    old = (out or harness.RESULTS) / "step.json"
    data: dict = json.loads(old.read_text()) if args.only != kinds and old.exists() else {}
    data |= {"machine": info, "rounds": rounds}
    parts = ["# A training step of Glow\n", harness.machine_text(info, PACKAGES, rounds)]
    if "speed" in args.only:
        common = {"steps": k_speed, "enough": enough}
        data["speed"] = collect("speed", SPEED, common, rounds, threads)
    if "speed" in data:
        parts.append(speed_text(data["speed"], k_speed))
    if "memory" in args.only:
        common = {"steps": k_memory, "enough": enough}
        data["memory"] = collect("memory", MEMORY, common, 1, threads)
    if "memory" in data:
        parts.append(memory_text(data["memory"], k_memory))
    if "roundtrip" in args.only:
        common = {"steps": k_round, "train": train, "lr": args.lr}
        data["roundtrip"] = collect("roundtrip", ROUNDTRIP, common, 1, threads)
    if "roundtrip" in data:
        parts.append(roundtrip_text(data["roundtrip"], k_round, train, args.lr))
    text = "\n".join(parts)
    print(text)
    harness.write("step", text, data, out)


def measure(cell: dict) -> dict:
    return {"speed": speed, "memory": memory, "roundtrip": roundtrip}[cell["kind"]](cell)


if __name__ == "__main__":
    harness.start(main, measure)
