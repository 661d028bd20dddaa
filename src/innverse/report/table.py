"""One table, three ways to show it: terminal, Markdown, HTML (the last in `html`)."""

from __future__ import annotations

import numbers
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TextIO

_WRITTEN = re.compile(r"[<>+-]?\s?\d[\d,.]*(e[+-]?\d+)?( ?%| s)?( ± [\d.]+)?")
_NO_NUMBER = ("none", "–", "inf", "-inf", "nan")


@dataclass
class Table:
    """Headers and rows of plain values; numbers are formatted when shown.

    Attributes:
        headers: one text per column.
        rows: one sequence of values per row.
        title: shown above.
        digits: decimals of floats.
        best: {header: "max" or "min"} of columns in which the best number is set in bold.

    Example:
        >>> table = Table(["method", "dB"], best={"dB": "max"})
        >>> table.add("flow", 31.0)
        >>> table.add("tv", 29.5)
        >>> print(table.markdown().splitlines()[2])
        | flow   | **31.00** |
    """

    headers: Sequence[str]
    rows: list[Sequence[Any]] = field(default_factory=list)
    title: str = ""
    digits: int = 2
    best: dict[str, str] = field(default_factory=dict)

    def add(self, *values: Any) -> None:
        """Append a row."""
        self.rows.append(values)

    def text(self, value: Any) -> str:
        """A value as shown in a cell."""
        if value is None:
            return "–"
        if isinstance(value, bool):
            return "yes" if value else "no"
        if isinstance(value, numbers.Real) and not isinstance(value, numbers.Integral):
            return f"{float(value):.{self.digits}f}"
        return str(value)

    def is_numeric(self, column: int) -> bool:
        """Whether a column holds numbers, also written ones such as "+0.50", and perhaps words that
        stand for one; it is then aligned right."""
        values = [row[column] for row in self.rows if row[column] not in (None, *_NO_NUMBER)]
        return bool(values) and all(_is_number(v) or _WRITTEN.fullmatch(str(v)) for v in values)

    def is_best(self, row: int, column: int) -> bool:
        """Whether this cell holds the best number of its column (ties are all best)."""
        goal = self.best.get(self.headers[column])
        if goal is None or not _is_number(self.rows[row][column]):
            return False
        numbers = [r[column] for r in self.rows if _is_number(r[column]) and r[column] == r[column]]
        extreme = (max if goal == "max" else min)(numbers, default=None)
        return self.rows[row][column] == extreme

    def markdown(self) -> str:
        """The table as GitHub-flavoured Markdown."""
        columns = range(len(self.headers))
        cells = [[_escape(header) for header in self.headers]]
        for r, row in enumerate(self.rows):
            texts = [_escape(self.text(value)) for value in row]
            cells.append([f"**{t}**" if self.is_best(r, c) else t for c, t in enumerate(texts)])
        widths = [max(3, *(len(row[c]) for row in cells)) for c in columns]
        right = [self.is_numeric(c) for c in columns]
        lines = [
            "| " + " | ".join(_pad(row[c], widths[c], right[c]) for c in columns) + " |"
            for row in cells
        ]
        rule = ["-" * (widths[c] - 1) + (":" if right[c] else "-") for c in columns]
        lines.insert(1, "| " + " | ".join(rule) + " |")
        title = f"**{_escape(self.title)}**\n\n" if self.title else ""
        return title + "\n".join(lines) + "\n"

    def print(self, file: TextIO | None = None) -> None:
        """Print the table to the terminal (stdout unless ``file`` is given)."""
        import rich.box
        import rich.console
        import rich.table
        import rich.text

        table = rich.table.Table(
            title=rich.text.Text(self.title, style="bold") if self.title else None,
            title_justify="left",
            box=rich.box.SIMPLE_HEAD,
        )
        for c, header in enumerate(self.headers):
            justify = "right" if self.is_numeric(c) else "left"
            table.add_column(rich.text.Text(str(header)), justify=justify)
        for r, row in enumerate(self.rows):
            table.add_row(
                *(
                    rich.text.Text(self.text(value), style="bold" if self.is_best(r, c) else "")
                    for c, value in enumerate(row)
                )
            )
        console = rich.console.Console(file=file or sys.stdout)
        if not console.is_terminal:
            console.width = 10_000  # a pipe or a file: never cut to a width nobody has
        console.print(table)


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _escape(text: str) -> str:
    return " ".join(str(text).replace("\\", "\\\\").replace("|", "\\|").split())


def _pad(text: str, width: int, right: bool) -> str:
    return text.rjust(width) if right else text.ljust(width)
