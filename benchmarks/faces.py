"""The shipped models of faces, INN, VAE and GAN, on faces that none of them has seen.

    .venv/bin/python benchmarks/faces.py faces_test.tar [--grid docs/img/faces.png] [--page FOLDER]

Test images are celebahq/ of the archive, other images birds12/ and flowers12/, area-averaged to
64x64. What `innverse compare` puts on its page, with the table as Markdown.
"""

from __future__ import annotations

import time
from pathlib import Path

import harness
import torch

from innverse.data import atomic_path
from innverse.report import grid
from innverse.studies.compare import (
    Contestant,
    Data,
    Settings,
    claims,
    compare,
    images,
    make_page,
    make_table,
    table_of,
)
from innverse.train.allocator import keep_buffers

MODELS = ("faces64", "faces64-vae", "faces64-gan")
TEST, OTHERS = "celebahq", ("birds12", "flowers12")
PACKAGES = ("torch", "innverse")


def read(data: str, subsets: tuple[str, ...], model, each: int | None):
    """The first ``each`` images of every subset, and their names."""
    found = [images.read(data, subset, model)[0][:each] for subset in subsets]
    return torch.cat(found), f"{' and '.join(subsets)} of {Path(data).name}"


def main() -> None:
    parser = harness.Arguments(__doc__, threads=1)
    parser.add_argument("data")
    parser.add_argument("--models", nargs="+", default=MODELS, help="names or folders")
    parser.add_argument("--grid", type=Path, help="PNG for 36 samples of the INN")
    parser.add_argument("--page", type=Path, help="folder for report.html")
    args = parser.parse_args()
    harness.use(args.threads)
    keep_buffers()
    contestants = [Contestant.load(name) for name in args.models]
    model = contestants[0].model
    settings = Settings(draws=36, importance=4, searched=2, restarts=1, steps=5, memory_batch=2)
    settings = settings if args.quick else Settings(importance=64, restarts=2)
    test = read(args.data, (TEST,), model, 8 if args.quick else None)
    other = read(args.data, OTHERS, model, max(1, settings.searched // len(OTHERS)))
    started, spent = time.perf_counter(), time.process_time()

    def progress(done: int, total: int, note: str) -> None:
        print(f"{time.process_time() - spent:6.0f} s  {note}", flush=True)

    found = compare(contestants, Data(*test, *other), settings, progress)
    minutes = (time.process_time() - spent) / 60
    info = harness.machine(PACKAGES, args.threads)
    versions = ", ".join(f"{name} {info[name]}" for name in PACKAGES)
    parts = [
        "# Invertible network, VAE and GAN on faces\n",
        (
            f"{', '.join(args.models)}; test images: {test[1]}, {len(test[0])}; other images: "
            f"{other[1]}, {len(other[0])}; 64x64, area-averaged. {settings.draws} draws, "
            f"{settings.importance} importance samples, {settings.steps} steps of L-BFGS from "
            f"{settings.restarts} starts, seed {settings.seed}. {info['processor']}, {info['threads']} "
            f"threads; {versions}; {minutes:.1f} minutes of processor time.\n"
        ),
    ]
    for claim in claims(found):
        parts += [f"## {claim.title}\n", f"{claim.verdict(found)}\n"]
        parts += [make_table(found, claim).markdown()]
    text = "\n".join(parts)
    results = {"machine": info, "settings": vars(settings), "models": list(args.models)}
    results |= {"test": test[1], "other": other[1], "table": table_of(found)}
    results |= {"bytes_by_depth": found.depth, "frechet_between_halves": found.frechet_floor}
    results |= {"seconds": time.perf_counter() - started}
    print(text)
    harness.write("faces", text, results, args.out)
    if args.grid:
        with atomic_path(args.grid) as temporary:
            grid(found.samples["INN"][:36], 6, scale=2).save(temporary, "PNG", optimize=True)
    if args.page:
        command = f"python benchmarks/faces.py {Path(args.data).name}"
        fair = (
            "The models that ship with innverse, of about the same size, trained on the same faces; "
            "the time of each stands under the cost."
        )
        title = "Invertible network, VAE and GAN on faces"
        make_page(found, title, command, fair).save(args.page / "report.html")


if __name__ == "__main__":
    main()
