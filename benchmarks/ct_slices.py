"""CT slices split by patient, as pictures for `innverse train` and for benchmarks.

    python benchmarks/ct_slices.py ct_slices_hu.npz [--out ct_slices.npz]

The file given has ``hu`` (N, 512, 512) in Hounsfield units and ``patient`` (N,). Written are gray
pictures of 256x256 pixels, uint8, -1000 (air) to 2000 Hounsfield units on 0 to 255, as the arrays
``train``, ``validation`` and ``test``, of which no two share a patient, and ``few``, six of ``train``.

    innverse train configs/ct.toml --data ct_slices.npz --out RUNS/ct
    innverse train configs/texture.toml --data ct_slices.npz --subset few --out RUNS/ct-patches

are the priors of the cells "ct" of benchmarks/restoration.py --work RUNS.
"""

from __future__ import annotations

from pathlib import Path

import harness

FEW = 6


def main() -> None:
    parser = harness.Arguments(__doc__, quick=False, out=False)
    parser.add_argument("slices", type=Path)
    parser.add_argument("--out", type=Path, default=Path("ct_slices.npz"), help="file to write")
    args = parser.parse_args()
    import numpy as np

    from innverse.studies.ct_slices import PARTS, ct_slices

    parts = {part: ct_slices(args.slices, part) for part in PARTS}
    parts["few"] = parts["train"][:: len(parts["train"]) // FEW][:FEW]
    with args.out.open("wb") as file:
        np.savez(file, **{part: (255 * x).round().byte().numpy() for part, x in parts.items()})
    counts = ", ".join(f"{len(x)} {part}" for part, x in parts.items())
    print(f"{args.out}: {counts} slices")


if __name__ == "__main__":
    main()
