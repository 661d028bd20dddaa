from __future__ import annotations

import json

import numpy as np
import PIL.Image
import pytest
import torch

from innverse import flows
from innverse.bijections import initialize
from innverse.cli import main


def _photo(height: int, width: int, channels: int) -> np.ndarray:
    """A smooth picture with an edge, uint8."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [
        128 + 60 * np.sin(x / 5 + k) + 40 * np.cos(y / 7) + 30 * (x > width / 2)
        for k in range(channels)
    ]
    return np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8).squeeze()


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """Folders of small untrained flows: gray, color (noise-conditional), plain, vectors."""
    home = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    small = {"levels": 1, "steps": 1, "hidden": 4}
    noisy = {**small, "noise": (0.01, 0.4)}
    made = {
        "gray": flows.build("glow", (1, 16, 16), **noisy),
        "color": flows.build("glow", (3, 16, 16), **noisy),
        "plain": flows.build("glow", (1, 16, 16), **small),
        "vectors": flows.build("realnvp", (2,), layers=2, width=8),
    }
    for name, flow in made.items():
        c = 0.1 if flow.noise is not None else None
        initialize(flow, torch.rand(8, *flow.shape), c)
        flow.save_pretrained(home / name)
    return home


@pytest.fixture
def photos(tmp_path, monkeypatch):
    """The test runs in a folder with pictures of several kinds."""
    monkeypatch.chdir(tmp_path)
    PIL.Image.fromarray(_photo(24, 32, 1)).save("gray.png")
    PIL.Image.fromarray(_photo(24, 32, 3)).save("color.png")
    PIL.Image.fromarray(_photo(17, 23, 1)).save("odd.png")
    mask = np.full((24, 32), 255, np.uint8)
    mask[8:12] = 0
    PIL.Image.fromarray(mask).save("mask.png")
    return tmp_path


@pytest.fixture
def run(capfd):
    """``code, out, err = run("solve", ...)`` in this process; out is parsed under --json."""

    def call(*argv):
        capfd.readouterr()
        code = main([str(a) for a in argv])
        out, err = capfd.readouterr()
        if "--json" in argv and out:
            out = json.loads(out)
        return code, out, err

    return call
