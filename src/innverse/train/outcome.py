"""How a training ended."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..showing.shown import Shown
from .metrics import read_metrics


@dataclass(frozen=True, repr=False)
class Outcome(Shown):
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

    def plot(self) -> Any:
        """A matplotlib figure of what was held out, by ``metrics.jsonl`` in ``out``.

        Raises:
            UsageError: nothing was judged yet. InnverseError: matplotlib is not installed.
        """
        from ..showing.figures import of_outcome

        return of_outcome(self, read_metrics(self.out / "metrics.jsonl"))

    def _card(self):
        from ..showing.history import outcome

        return outcome(self, read_metrics(self.out / "metrics.jsonl"))
