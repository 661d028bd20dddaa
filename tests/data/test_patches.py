"""Patches of photographs: layout, units, seeds, mistakes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from innverse.data import natural_patches, open_images
from innverse.errors import InputError, UsageError


def source(tmp_path, *shapes):
    from PIL import Image

    for i, shape in enumerate(shapes):
        columns = np.broadcast_to(np.arange(shape[1], dtype=np.uint8) * 4, shape)
        Image.fromarray(columns).save(tmp_path / f"{i}.png")
    return open_images(tmp_path, channels=1)


def test_mean_is_subtracted_and_the_last_pixel_dropped(tmp_path):
    """Every patch of an image of columns 4 j is the same ramp, whatever its place."""
    x = natural_patches(source(tmp_path, (20, 30), (12, 40)), 500)
    assert x.shape == (500, 63) and x.dtype == torch.float32
    ramp = ((torch.arange(64) % 8) * 4.0 - 14) / 256
    difference = x - ramp[:-1]
    # what remains is uniform noise of a 256th without its mean
    assert difference.abs().max() < 1 / 256
    assert abs(float(difference.std()) * 256 - (63 / 64 / 12) ** 0.5) < 0.01
    full = torch.cat((x, -x.sum(1, keepdim=True)), 1)
    assert (full - ramp).abs().max() < 1 / 256


def test_every_position_is_equally_likely(tmp_path):
    """The larger image, of 5 times as many positions, gives 5 times as many patches."""
    from PIL import Image

    Image.fromarray(np.zeros((8, 17), np.uint8)).save(tmp_path / "a.png")
    ramp = np.arange(8, dtype=np.uint8)[:, None] * np.ones((1, 57), np.uint8) * 30
    Image.fromarray(ramp).save(tmp_path / "b.png")
    x = natural_patches(open_images(tmp_path, channels=1), 6000)
    share = float((x.abs().max(1).values > 0.1).double().mean())
    assert abs(share - 5 / 6) < 5 * (5 / 36 / 6000) ** 0.5


def test_seeds(tmp_path):
    images = source(tmp_path, (20, 30))
    assert torch.equal(natural_patches(images, 9, seed=3), natural_patches(images, 9, seed=3))
    assert not torch.equal(natural_patches(images, 9, seed=3), natural_patches(images, 9, seed=4))
    assert natural_patches(images, 9, side=4).shape == (9, 15)


def test_mistakes(tmp_path):
    images = source(tmp_path, (20, 30), (7, 30))
    with pytest.raises(InputError, match=r"1\.png is smaller than a patch of 8x8"):
        natural_patches(images, 3)
    with pytest.raises(UsageError, match="n=0, side=8: at least 1 patch"):
        natural_patches(images, 0)
    with pytest.raises(InputError, match="channels=1"):
        natural_patches(open_images(tmp_path, channels=3), 3)
