"""The demonstration: real photographs, damaged, and reconstructed with and without a flow."""

from __future__ import annotations

from .page import make_page as make_page
from .page import make_panel as make_panel
from .problems import PROBLEMS as PROBLEMS
from .problems import Scene as Scene
from .problems import make_scene as make_scene
from .run import Outcome as Outcome
from .run import results_json as results_json
from .run import run_scene as run_scene
