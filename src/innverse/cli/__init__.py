"""The command line: one file per verb, and torch is imported only when a verb runs."""

from __future__ import annotations

from .entry import main as main
