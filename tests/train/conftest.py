from __future__ import annotations

import numpy as np
import pytest

from innverse.train.config import load_config


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """A .npy of 40 smooth gray pictures of 8x8 pixels."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:8, :8] / 7
    a, b, c = rng.uniform(-1, 1, (3, 40, 1, 1))
    pictures = 127 + 60 * (a * x + b * y + c * x * y) + rng.normal(0, 4, (40, 8, 8))
    path = tmp_path_factory.mktemp("data") / "pictures.npy"
    np.save(path, pictures.clip(0, 255).astype(np.uint8))
    return path


@pytest.fixture
def settings(images):
    """Makes a configuration of a tiny run; keywords like ``train_lr=...`` change it."""

    def make(**changes):
        overrides = {
            "data.path": str(images), "data.channels": 1, "data.crop": 4, "data.held_out": 8,
            "model.levels": 1, "model.steps": 1, "model.hidden": 8,
            "train.steps": 20, "train.batch_size": 8, "train.warmup": 3, "train.log_every": 1,
            "train.eval_every": 10, "train.checkpoint_every": 5, "train.sample_every": 100,
            "train.eval_images": 8, "train.threads": 1,
        }  # fmt: skip
        overrides |= {key.replace("_", ".", 1): value for key, value in changes.items()}
        return load_config(None, overrides)

    return make


@pytest.fixture
def curve():
    """The numbers of a metrics file that must not depend on when a run was interrupted."""
    from innverse.train import read_metrics

    def read(out):
        timing = ("seconds", "processor_seconds", "images_per_s")
        rows = read_metrics(out / "metrics.jsonl")
        return [{k: v for k, v in row.items() if k not in timing} for row in rows]

    return read
