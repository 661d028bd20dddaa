"""Maps of numbers as colours, and animations."""

from __future__ import annotations

import io
import re

import numpy as np
import PIL.Image
import pytest
import torch

from innverse.errors import UsageError
from innverse.report import Heat, Report, gif, panel


def lightness(picture: PIL.Image.Image) -> np.ndarray:
    """CIE L* of sRGB: what remains to every kind of colour vision, and of a gray print."""
    c = np.asarray(picture.convert("RGB")) / 255
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    y = linear @ [0.2126, 0.7152, 0.0722]
    return np.where(y > 0.008856, 116 * np.cbrt(y) - 16, 903.3 * y)


def test_larger_numbers_are_always_lighter():
    shown = lightness(Heat(torch.linspace(0, 1, 256)[None]).image())[0]
    steps = np.diff(shown[::5])
    assert (steps > 0).all() and shown[0] < 20 and shown[-1] > 88
    assert steps.max() < 2 * steps.mean()  # no edge where the numbers have none


def test_one_scale_serves_two_maps():
    a, b = torch.tensor([[0.0, 0.2]]), torch.tensor([[0.1, 9.0]])
    bar = Heat(a)
    assert bar.ends == ("0", "0.2")
    other = Heat(b, bar.high).image()
    assert other.getpixel((1, 0)) == bar.image().getpixel((1, 0))  # beyond the end: its colour
    assert Heat(torch.zeros(2, 2)).ends == ("0", "0")
    assert Heat(torch.tensor([[torch.nan, 1.0]])).high == 1.0


def test_colours_share_one_map():
    x = torch.rand(3, 4, 5)
    assert torch.allclose(Heat(x).values, x.double().square().mean(0).sqrt())


def test_a_panel_draws_the_scale_below_its_map():
    x = torch.rand(1, 64, 64)
    sheet = np.asarray(panel([("a", "b", x), ("std", "", Heat(x))], cell=256, gap=10))
    below = sheet[10 + 256 :, 10 + 266 : 10 + 266 + 256].reshape(-1, 3)
    for end in ((68, 1, 84), (253, 231, 37)):
        assert (below == end).all(1).any()
    picture = Heat(x).picture("standard deviation")
    assert picture.width > 256 and picture.height > picture.width


def test_a_page_has_the_scale_in_letters():
    page = Report("p").images([("std", "", Heat(torch.full((1, 8, 8), 0.25)))]).html()
    assert re.search(r'class="scale"><span>0</span><i></i><span>0\.25</span>', page)
    assert "linear-gradient" in page and "GRADIENT" not in page


@pytest.mark.parametrize("channels", [1, 3])
def test_an_animation_has_its_frames(channels):
    frames = torch.rand(5, channels, 8, 8)
    with PIL.Image.open(io.BytesIO(gif(frames, cell=16, milliseconds=200))) as film:
        assert film.n_frames == 5 and film.size == (16, 16) and film.info["duration"] == 200
        assert film.info["loop"] == 0
        film.seek(3)
        seen = np.asarray(film.convert("RGB"))[::2, ::2]
    want = (255 * frames[3]).round().expand(3, -1, -1).movedim(0, -1).numpy()
    assert np.abs(seen - want).max() <= (0 if channels == 1 else 40)
    with pytest.raises(UsageError, match="an animation needs images"):
        gif(frames[0])
