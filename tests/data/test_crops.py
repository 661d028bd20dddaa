from __future__ import annotations

import numpy as np
import PIL.Image
import pytest
import torch

from innverse.data import Crops, ImageSource, dequantize, open_images
from innverse.errors import InputError, UsageError


def ramp(n, height, width, channels=1):
    """Images whose neighbouring pixels differ, so that a crop shows where it is from."""
    values = np.arange(n * channels * height * width) % 251
    return values.astype(np.uint8).reshape(n, channels, height, width)


def source(arrays):
    return ImageSource([f"image{i}" for i in range(len(arrays))], arrays)


def test_a_batch_is_a_function_of_seed_and_step():
    images = source(ramp(7, 20, 24))
    one, other = Crops(images, 8, 16, seed=5), Crops(images, 8, 16, seed=5)
    straight = [one.batch(step) for step in range(6)]
    for step in (5, 0, 3):  # any order, a fresh object
        assert torch.equal(other.batch(step), straight[step])
    assert not torch.equal(straight[0], straight[1])
    assert not torch.equal(Crops(images, 8, 16, seed=6).batch(0), straight[0])


@pytest.mark.parametrize("size", [8, (20, 24)])
def test_ranks_share_the_batch_of_one_process(size):
    images = source(ramp(7, 20, 24))
    options = {"flip": True, "seed": 1}
    for step in range(4):
        whole = Crops(images, size, 12, **options).batch(step)
        for world in (2, 3):
            parts = [Crops(images, size, 12, rank=r, world=world, **options) for r in range(world)]
            assert torch.equal(torch.cat([part.batch(step) for part in parts]), whole)


def test_every_image_once_per_epoch():
    images = source(np.arange(10, dtype=np.uint8).repeat(4).reshape(10, 1, 2, 2))
    crops = Crops(images, 2, 4)
    seen = torch.cat([crops.batch(step)[:, 0, 0, 0] for step in range(10)]).tolist()
    epochs = [seen[k : k + 10] for k in range(0, 40, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4


def test_crops_are_parts_of_the_images_and_reach_every_corner():
    image = np.arange(30, dtype=np.uint8).reshape(1, 1, 5, 6)
    crops = Crops(source(image), 4, 64, flip=False)
    batch = crops.batch(0)
    starts = set()
    for crop in batch[:, 0]:
        top, left = divmod(int(crop[0, 0]), 6)
        np.testing.assert_array_equal(crop, image[0, 0, top : top + 4, left : left + 4])
        starts.add((top, left))
    assert starts == {(t, s) for t in range(2) for s in range(3)}


def test_flip_and_transpose_are_each_used_half_of_the_time():
    image = np.arange(16, dtype=np.uint8).reshape(1, 1, 4, 4)
    batch = Crops(source(image), 4, 4000, flip=True, transpose=True).batch(0)[:, 0]
    x = torch.from_numpy(image[0, 0])
    kinds = [x, x.flip(1), x.T, x.flip(1).T]
    counts = [int((batch == kind).flatten(1).all(1).sum()) for kind in kinds]
    assert sum(counts) == 4000 and min(counts) > 880  # 4.4 standard deviations below 1000
    plain = Crops(source(image), 4, 50, flip=False).batch(0)
    assert (plain == x).all()


def test_images_of_several_sizes_and_small_ones_are_reflected():
    arrays = [ramp(1, 6, 20)[0], ramp(1, 20, 20)[0]]
    items = ImageSource(["small", "large"], arrays)
    batch = Crops(items, 8, 16, flip=False).batch(0)
    padded = np.pad(arrays[0], ((0, 0), (0, 2), (0, 0)), "reflect")
    found = [np.array_equal(b, padded[:, :, s : s + 8]) for b in batch for s in range(13)]
    assert sum(found) == 8
    with pytest.raises(InputError, match="small is 20x6 pixels, too small for crops of 8x8"):
        Crops(items, 8, 16, small="error").batch(0)
    with pytest.raises(InputError, match="small is 20x6 pixels, too small for crops of 16x16"):
        Crops(items, 16, 16).batch(0)


def test_too_small_is_said_before_training(tmp_path):
    for name, size in [("a", (40, 40)), ("b", (9, 40))]:
        PIL.Image.new("L", size).save(tmp_path / f"{name}.png")
    with pytest.raises(InputError, match="b.png is 9x40 pixels, too small"):
        Crops(open_images(tmp_path), 32, 4)


@pytest.mark.parametrize(
    "options",
    [{"size": 0}, {"batch_size": 0}, {"world": 3}, {"rank": 1}, {"size": (2, 3), "transpose": True},
     {"small": "crop"}, {"seed": -1}],
)  # fmt: skip
def test_refused_options(options):
    with pytest.raises(UsageError):
        Crops(source(ramp(2, 8, 8)), **({"size": 4, "batch_size": 4} | options))


def test_dequantize_stays_in_its_bin():
    u8 = torch.arange(256, dtype=torch.uint8).repeat(4000)
    x = dequantize(u8, torch.Generator().manual_seed(0))
    assert x.dtype == torch.float32 and x.min() >= 0 and x.max() < 1
    assert torch.equal((x * 256).floor().to(torch.uint8), u8)
    worst = dequantize(u8[:256], noise=torch.full((256,), 1 - 2**-24))
    assert torch.equal((worst * 256).floor().to(torch.uint8), u8[:256])
    u = x * 256 - u8
    assert abs(u.mean() - 0.5) < 0.002 and abs(u.var() - 1 / 12) < 0.001


def test_dequantize_repeats_with_its_generator():
    u8 = torch.zeros(3, 1, 2, 2, dtype=torch.uint8)
    a, b = (dequantize(u8, torch.Generator().manual_seed(7)) for _ in range(2))
    assert torch.equal(a, b) and a.shape == u8.shape
