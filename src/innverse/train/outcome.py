"""How a training ended."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Outcome:
    """How a run ended: ``complete`` or interrupted after ``step`` steps.

    Example:
        >>> from pathlib import Path
        >>> Outcome(False, 20, 0, Path("runs/photos"), None, {}).complete
        False
    """

    complete: bool
    step: int
    skipped: int
    out: Path
    model: Path | None
    held_out: dict[str, float]
