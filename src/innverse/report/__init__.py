"""Figures, tables and the single-file HTML report."""

from .html import Report as Report
from .panel import grid as grid
from .panel import panel as panel
from .plots import curves as curves
from .table import Table as Table
