"""``metrics.jsonl``: one JSON object a line, one line per logged step, evaluation or skipped step."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from innverse.data.atomic import atomic_write, write_error

__all__ = ["MetricsFile", "read_metrics"]


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """Rows of a metrics file; a last line cut off by a killed process is left out."""
    rows = []
    path = Path(path)
    if path.exists():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
    return rows


class MetricsFile:
    """Appends rows; opening it at ``step`` first drops what lies beyond, so a curve has no repeats."""

    def __init__(self, path: Path, step: int):
        rows = [row for row in read_metrics(path) if row["step"] <= step]
        atomic_write(path, "".join(json.dumps(row) + "\n" for row in rows).encode())
        self._path = path
        self._file = path.open("a", encoding="utf-8")

    def add(self, **row: Any) -> None:
        try:
            self._file.write(json.dumps(row) + "\n")
            self._file.flush()
        except OSError as e:
            raise write_error(self._path, e) from e

    def close(self) -> None:
        self._file.close()
