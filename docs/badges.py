"""Draws the badges of the README from what pyproject.toml declares; no other host says them.

python docs/badges.py
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
_LETTER = 6.6  # pixels of a letter, about


def facts() -> dict[str, tuple[str, str]]:
    """{file: (what, its value)}."""
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text("utf-8"))["project"]
    versions = re.findall(r"Python :: (3\.\d+)$", "\n".join(project["classifiers"]), re.M)
    (torch,) = (
        d.removeprefix("torch>=") for d in project["dependencies"] if d.startswith("torch>=")
    )
    return {
        "licence": ("licence", project["license"]),
        "python": ("python", " | ".join(versions)),
        "torch": ("PyTorch", f"≥ {torch}"),
    }


def badge(what: str, value: str) -> str:
    left, right = (round(_LETTER * len(text) + 12) for text in (what, value))
    width = left + right
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="20" role="img" '
        f'aria-label="{what}: {value}"><title>{what}: {value}</title>'
        f'<rect width="{width}" height="20" rx="3" fill="#444"/>'
        f'<path d="M{left} 0h{right - 3}a3 3 0 0 1 3 3v14a3 3 0 0 1-3 3H{left}z" fill="#2a6299"/>'
        '<g fill="#fff" text-anchor="middle" font-family="Verdana,DejaVu Sans,sans-serif" '
        f'font-size="11"><text x="{left / 2}" y="14">{what}</text>'
        f'<text x="{left + right / 2}" y="14">{value}</text></g></svg>\n'
    )


def made() -> dict[Path, str]:
    return {HERE / "img" / f"{name}.svg": badge(*fact) for name, fact in facts().items()}


if __name__ == "__main__":
    for file, text in made().items():
        file.write_text(text, "utf-8")
