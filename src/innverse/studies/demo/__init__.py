"""The demonstration: real photographs, damaged, and reconstructed with and without a flow."""

from __future__ import annotations

from .error_bar import ErrorBar, sample_cut_out
from .page import make_page, make_panel
from .problems import PROBLEMS, Scene, make_scene
from .run import Outcome, results_json, run_scene

__all__ = [
    "PROBLEMS", "ErrorBar", "Outcome", "Scene", "make_page", "make_panel", "make_scene",
    "results_json", "run_scene", "sample_cut_out",
]  # fmt: skip
