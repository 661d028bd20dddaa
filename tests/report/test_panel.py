from __future__ import annotations

import numpy as np
import PIL.Image
import pytest
import torch

from innverse.errors import UsageError
from innverse.report import grid, panel


def test_panel_shows_every_image_pixel_for_pixel():
    images = [torch.rand(3, 300, 280), torch.rand(1, 300, 280)]
    sheet = np.asarray(panel([("a", "b", image) for image in images], cell=256, gap=10))
    assert sheet.shape[1] == 10 + 2 * 290 and sheet.shape[0] > 320
    for k, image in enumerate(images):
        seen = sheet[10:310, 10 + k * 290 : 290 + k * 290]
        expected = (image.double() * 255).round().expand(3, -1, -1).movedim(0, -1).numpy()
        np.testing.assert_array_equal(seen, expected)


def test_small_images_are_enlarged_by_whole_factors():
    image = torch.rand(1, 20, 30)
    sheet = np.asarray(panel([("", "", image)], cell=100, gap=0))
    assert sheet.shape == (60, 90, 3)
    expected = (image[0].double() * 255).round().numpy().repeat(3, 0).repeat(3, 1)
    np.testing.assert_array_equal(sheet[..., 0], expected)


def test_captions_are_drawn_inside_their_column():
    image = torch.ones(1, 100, 256)
    plain = np.asarray(panel([("", "", image)] * 2, gap=8))
    title = "σ = 25/255, naïve × ∞ 漢字 " * 9
    captioned = np.asarray(panel([(title, "24.3 dB", image), ("", "", image)], gap=8))
    assert (plain == 255).all()
    dark = np.argwhere(captioned.min(axis=2) < 128)
    assert len(dark) > 100
    assert dark[:, 0].min() >= 108 and dark[:, 1].max() < 8 + 256


def test_rows_and_pillow_images():
    picture = PIL.Image.new("L", (256, 50), 0)
    sheet = np.asarray(panel([("", "", picture)] * 5, columns=2, gap=4))
    assert sheet.shape == (4 + 3 * 54, 4 + 2 * 260, 3)
    assert (sheet[112:162, 264:520] == 255).all()  # the last cell is empty
    with pytest.raises(UsageError):
        panel([])


def test_grid_places_images_row_by_row():
    batch = torch.arange(5).view(5, 1, 1, 1).expand(5, 3, 4, 6) / 255
    picture = np.asarray(grid(batch, columns=3, pad=1))
    assert picture.shape == (11, 22, 3)
    corners = [picture[1 + 5 * (i // 3), 1 + 7 * (i % 3), 0] for i in range(5)]
    assert corners == [0, 1, 2, 3, 4]
    assert (picture[0] == 255).all() and (picture[6:, 15:] == 255).all()
    assert grid(batch, columns=3, pad=1, scale=2).size == (44, 22)
    assert grid(batch[:, :1], columns=9).mode == "L"
    with pytest.raises(UsageError):
        grid(batch[0])
