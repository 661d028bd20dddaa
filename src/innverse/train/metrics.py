"""``metrics.jsonl``: one JSON object a line, one line per logged step, evaluation or skipped step.

What is not finite is null, and no digit of the rest is lost.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ..data.atomic import atomic_write, dumps, write_error
from ..reading import read_bytes


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """Rows of a metrics file; a last line cut off by a killed process is left out.

    Raises:
        InputError: there is something, but no file that can be read.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> file = Path(tempfile.mkdtemp()) / "metrics.jsonl"
        >>> _ = file.write_text('{"step": 1, "loss": 0.5}')
        >>> read_metrics(file)
        [{'step': 1, 'loss': 0.5}]
    """
    rows = []
    path = Path(path)
    if os.path.lexists(path):
        for line in read_bytes(path).decode(errors="replace").splitlines():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                break
            if not isinstance(row, dict) or not isinstance(row.get("step"), int):
                break
            rows.append(row)
    return rows


class MetricsFile:
    """Appends rows; opening it at ``step`` first drops what lies beyond, so a curve has no repeats."""

    def __init__(self, path: Path, step: int):
        rows = [row for row in read_metrics(path) if row["step"] <= step]
        atomic_write(path, "".join(dumps(row) + "\n" for row in rows))
        self._path = path
        try:
            self._file = path.open("a", encoding="utf-8")
        except OSError as e:
            raise write_error(path, e) from e

    def add(self, **row: Any) -> None:
        try:
            self._file.write(dumps(row) + "\n")
            self._file.flush()
        except OSError as e:
            raise write_error(self._path, e) from e

    def close(self) -> None:
        self._file.close()
