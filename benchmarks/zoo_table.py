"""Measure the gray prior on a test set and write the table between the markers of docs/results.md.

.venv/bin/python benchmarks/zoo_table.py restoration_test.tar --subset set12 [--write]
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import harness

from innverse.report import Table

PAGE = Path(__file__).parents[1] / "docs" / "results.md"


def evaluate(task: str, *arguments: str) -> dict:
    command = [sys.executable, "-m", "innverse", "eval", task, *arguments, "--json"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def main() -> None:
    parser = harness.Arguments(__doc__, quick=False, out=False)
    parser.add_argument("data")
    parser.add_argument("--subset")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    data = ["--data", options.data, *(["--subset", options.subset] if options.subset else [])]
    table = Table(["task", "images", "PSNR", "SSIM", "TV PSNR", "TV SSIM"])
    for r in evaluate("denoise", *data, "--sigma", "15", "25", "50")["results"]:
        ssim = f"{r['ssim']:.3f}"
        table.add(f"denoising, sigma {r['sigma']:g}", r["n"], r["psnr"], ssim, None, None)
    r = evaluate("inpaint", *data, "--keep", "0.5", "--compare", "tv")
    tv = r["tv"]
    table.add(
        "half of the pixels missing", r["n"], r["psnr"], f"{r['ssim']:.3f}", tv["psnr"],
        f"{tv['ssim']:.3f}",
    )  # fmt: skip
    name = f"{Path(options.data).name}{' ' + options.subset if options.subset else ''}"
    settings = "seed 0, float32; denoising averages 8 views"
    source = "(printed by `benchmarks/zoo_table.py`)"
    text = f"`natural-gray` on {name}, {settings}\n{source}:\n\n{table.markdown()}"
    print(text)
    if options.write:
        block = f"<!-- results -->\n{text}<!-- /results -->"
        page = PAGE.read_text("utf-8")
        PAGE.write_text(
            re.sub(r"<!-- results -->.*?<!-- /results -->", lambda _: block, page, flags=re.S),
            "utf-8",
        )


if __name__ == "__main__":
    main()
