from __future__ import annotations

import numpy as np
import pytest
import torch

from absent_gpu import GPU, nobody_waits
from innverse.data import Crops, ImageSource
from innverse.data.bank import CropsOnDevice, fits


def source(same: bool, n=7, channels=3):
    rng = np.random.default_rng(0)
    sizes = [(16, 16)] * n if same else [(9 + 3 * k, 30 - 2 * k) for k in range(n)]
    images = [rng.integers(0, 256, (channels, *size), dtype=np.uint8) for size in sizes]
    return ImageSource([f"{k}" for k in range(n)], np.stack(images) if same else images)


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("size", [8, 16])
@pytest.mark.parametrize("turned", [{"flip": False}, {"transpose": True}], ids=["as is", "turned"])
def test_crops_of_a_device_are_those_of_the_cpu(same, size, turned):
    for rank in range(2):
        crops = Crops(source(same), size, 12, seed=3, rank=rank, world=2, **turned)
        there = CropsOnDevice(crops, "cpu")
        for step in (0, 5, 63, 64, 200, 1):
            assert torch.equal(there.batch(step), crops.batch(step))


def test_oblong_crops():
    crops = Crops(source(True), (4, 9), 12)
    assert torch.equal(CropsOnDevice(crops, "cpu").batch(2), crops.batch(2))


def test_between_blocks_of_steps_nobody_waits(monkeypatch):
    crops = CropsOnDevice(Crops(source(False), 8, 12, transpose=True), GPU)
    crops.batch(0)
    with nobody_waits(monkeypatch):
        assert crops.batch(63).shape == (12, 3, 8, 8)


def test_what_is_read_from_disk_stays_there(monkeypatch, tmp_path):
    from innverse.data import open_images, write_image

    for k in range(3):
        write_image(tmp_path / f"{k}.png", torch.rand(1, 20, 20 + k))
    assert fits(Crops(open_images(tmp_path), 8, 2))
    with monkeypatch.context() as m:
        m.setattr("innverse.data.bank.MOST_BYTES", 10)
        assert not fits(Crops(open_images(tmp_path), 8, 2))
    monkeypatch.setattr(ImageSource, "known_sizes", lambda self: {0: (20, 20)})
    assert not fits(Crops(open_images(tmp_path), 8, 2))
