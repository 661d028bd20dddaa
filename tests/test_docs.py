"""Every python block of the README and of docs/ runs, page by page, with small untrained priors."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from innverse import flows
from innverse.bijections import initialize

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_python_blocks_run(page, tmp_path, monkeypatch):
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text("utf-8"), re.S | re.M)
    if not blocks and page.name == "design.md":
        pytest.skip("no python in this page")
    assert blocks
    monkeypatch.chdir(tmp_path)
    flow = flows.build("glow", (1, 16, 16), levels=1, steps=1, hidden=4, noise=(0.008, 0.4))
    initialize(flow, torch.rand(8, 1, 16, 16), 0.1)
    flow.save_pretrained(tmp_path / "tiny")
    monkeypatch.setattr("innverse.zoo.folder", lambda name: tmp_path / "tiny")
    scope = {"PRIOR": "natural-gray"}
    for block in blocks:
        exec(compile(block, page.name, "exec"), scope)
