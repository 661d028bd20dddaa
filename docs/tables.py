"""Writes the tables of options in physics.md and solvers.md from what the code declares.

python docs/tables.py
"""

from __future__ import annotations

import re
from pathlib import Path

from innverse.catalog import METHODS, OPERATORS
from innverse.options import table

HERE = Path(__file__).parent
_PLACE = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.S)


def operators() -> str:
    """A section for every operator."""
    parts = []
    for name, kind in OPERATORS.items():
        kinds = {
            "pictures": kind.operator.measures_images,
            "channels apart": kind.operator.acts_per_channel,
        }
        words = ", ".join(word for word, holds in kinds.items() if holds)
        parts.append(f"**{name}**: {kind.summary()}{f' ({words})' if words else ''}.")
        parts.append(table(kind.declared) if kind.declared else "")
    return "\n\n".join(filter(None, parts))


def methods() -> str:
    """One table of all methods."""
    rows = ["| method | what it does | needs |", "|---|---|---|"]
    for name, kind in METHODS.items():
        summary = kind.summary().replace("|", "\\|")
        rows.append(f'| `"{name}"` | {summary} | {kind.needs} |')
    return "\n".join(rows)


def options() -> str:
    """A section for every method."""
    return "\n\n".join(f'**"{name}"**\n\n{table(kind.declared)}' for name, kind in METHODS.items())


TABLES = {"operators": operators, "methods": methods, "options": options}
PAGES = (HERE / "physics.md", HERE / "solvers.md")


def generated(text: str) -> str:
    """A page with its tables made anew."""
    return _PLACE.sub(lambda m: f"{m[1]}\n{TABLES[m[2]]()}\n\n{m[3]}", text)


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(generated(page.read_text("utf-8")), "utf-8")
