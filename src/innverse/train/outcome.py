"""How a training ended."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Outcome"]


@dataclass(frozen=True)
class Outcome:
    """How a run ended: ``complete`` or interrupted after ``step`` steps."""

    complete: bool
    step: int
    skipped: int
    out: Path
    model: Path | None
    held_out: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        return {
            "complete": self.complete,
            "step": self.step,
            "skipped": self.skipped,
            "out": str(self.out),
            "model": str(self.model) if self.model else None,
            "held_out": self.held_out,
        }
