"""Figures, tables and the single-file HTML report."""

from .animation import gif
from .heat import Heat
from .html import Report
from .panel import grid, panel
from .plots import curves
from .posteriors import pair_plot
from .table import Table

__all__ = [
    "Heat",
    "Report",
    "Table",
    "curves",
    "gif",
    "grid",
    "pair_plot",
    "panel",
]
