"""Masks from files, pictures, arrays and tensors."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest
import torch

from innverse.data import read_mask
from innverse.errors import InputError, ShapeError

KNOWN = np.zeros((6, 8), bool)
KNOWN[:, 3:] = True


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "1", "P"])
def test_a_file_of_any_mode(tmp_path, mode):
    path = tmp_path / "mask.png"
    PIL.Image.fromarray(np.where(KNOWN, 250, 3).astype(np.uint8)).convert(mode).save(path)
    mask = read_mask(path, (6, 8))
    assert mask.shape == (1, 6, 8) and mask.dtype == torch.float32
    np.testing.assert_array_equal(mask[0] > 0, KNOWN)
    np.testing.assert_array_equal(read_mask(str(path), invert=True)[0] > 0, ~KNOWN)


@pytest.mark.parametrize("top", [1, 255, 65535])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.int64, np.float32, torch.Tensor])
def test_zeros_and_ones_or_the_range_of_the_type(kind, top):
    if kind is torch.Tensor:
        source = torch.from_numpy(KNOWN).float().expand(3, -1, -1)
    elif np.issubdtype(kind, np.integer):
        source = (KNOWN * np.int64(min(top, np.iinfo(kind).max))).astype(kind)
    else:
        source = KNOWN.astype(kind)
    np.testing.assert_array_equal(read_mask(source)[0] > 0, KNOWN)


def test_a_deep_file_and_a_picture_in_memory(tmp_path):
    deep = KNOWN.astype(np.uint16) * 65535
    PIL.Image.fromarray(deep).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "deep.png")[0] > 0, KNOWN)
    np.testing.assert_array_equal(read_mask(PIL.Image.fromarray(KNOWN))[0] > 0, KNOWN)
    colour = np.repeat(KNOWN[..., None], 3, -1)
    np.testing.assert_array_equal(read_mask(colour)[0] > 0, KNOWN)


def test_what_cannot_be_a_mask_is_said_in_one_line(tmp_path):
    PIL.Image.fromarray(np.zeros((6, 8), np.uint8)).save(tmp_path / "black.png")
    (tmp_path / "text.png").write_text("not a picture")
    bad = [
        (ShapeError, "mask is 8x6 pixels but the image is 9x6", KNOWN, (6, 9)),
        (ShapeError, "expected a picture", np.ones(5), None),
        (InputError, "no such file", tmp_path / "missing.png", None),
        (InputError, "not an image", tmp_path / "text.png", None),
        (InputError, "no measured pixel", tmp_path / "black.png", None),
    ]
    for error, message, source, size in bad:
        with pytest.raises(error, match=message) as caught:
            read_mask(source, size)
        assert "\n" not in str(caught.value)


def _rgba(colour, opaque):
    """(6, 8, 4) uint8."""
    light = np.broadcast_to(colour, KNOWN.shape).astype(np.uint8)
    return np.stack([light] * 3 + [np.where(opaque, 255, 0).astype(np.uint8)], -1)


DRAWN = np.where(np.arange(6)[:, None] < 2, 0, 255)  # black above, white below


@pytest.mark.parametrize(
    ("rgba", "expected"),
    [
        (_rgba(255, KNOWN), KNOWN),  # erased from white
        (_rgba(0, ~KNOWN), KNOWN),  # black strokes on nothing
        (_rgba(np.linspace(0, 255, 48).reshape(6, 8), KNOWN), KNOWN),  # erased from a photograph
        (_rgba(DRAWN, KNOWN), KNOWN & (DRAWN > 0)),
        (_rgba(DRAWN, np.ones_like(KNOWN)), DRAWN.repeat(8, 1) > 0),
    ],
    ids=["white", "strokes", "photograph", "black and white", "opaque"],
)
def test_what_is_transparent_is_missing(tmp_path, rgba, expected):
    picture = PIL.Image.fromarray(rgba, "RGBA")
    picture.save(tmp_path / "mask.png")
    for source in (tmp_path / "mask.png", picture, rgba):
        np.testing.assert_array_equal(read_mask(source)[0] > 0, expected)
    gray = picture.convert("LA")
    gray.save(tmp_path / "gray.png")
    for source in (tmp_path / "gray.png", gray):
        np.testing.assert_array_equal(read_mask(source)[0] > 0, expected)
