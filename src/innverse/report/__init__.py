"""Figures, tables and the single-file HTML report."""

from .html import Report
from .panel import grid, panel
from .plots import curves
from .table import Table

__all__ = [
    "Report",
    "Table",
    "curves",
    "grid",
    "panel",
]
