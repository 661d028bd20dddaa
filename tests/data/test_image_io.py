from __future__ import annotations

import io
import warnings

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from innverse.data import decode_image, read_image, to_pil, write_image
from innverse.errors import InnverseError, InputError, ShapeError, UsageError

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (7, 11, 3), dtype=np.uint8)
GRAY = RGB[..., 0].copy()


def save(path, array_or_image, **options):
    image = array_or_image
    if not isinstance(image, PIL.Image.Image):
        image = PIL.Image.fromarray(image)
    image.save(path, **options)
    return path


def encoded(image, kind, **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def one_line(caught):
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_gray_and_colour_are_exact(tmp_path):
    gray = read_image(save(tmp_path / "g.png", GRAY))
    assert gray.tensor.dtype == torch.float32 and gray.size == (7, 11) and gray.channels == 1
    np.testing.assert_array_equal(gray.tensor[0] * 255, GRAY.astype(np.float32))
    colour = read_image(save(tmp_path / "c.png", RGB))
    np.testing.assert_array_equal(colour.tensor.movedim(0, -1) * 255, RGB.astype(np.float32))
    assert colour.notes == () and colour.bits == 8


def test_modes_convert(tmp_path):
    path = save(tmp_path / "c.png", RGB)
    luma = np.asarray(PIL.Image.fromarray(RGB).convert("L"), np.float32) / 255
    np.testing.assert_array_equal(read_image(path, "L").tensor[0], luma)
    path = save(tmp_path / "g.png", GRAY)
    tensor = read_image(path, "RGB").tensor
    assert tensor.shape == (3, 7, 11) and (tensor == tensor[:1]).all()
    with pytest.raises(UsageError, match="mode 'CMYK'"):
        read_image(path, "CMYK")


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_gray_keeps_its_precision(tmp_path, suffix):
    deep = RNG.integers(0, 65536, (5, 6), dtype=np.uint16)
    image = read_image(save(tmp_path / f"d{suffix}", deep))
    assert image.bits == 16
    np.testing.assert_array_equal(np.rint(image.tensor[0].numpy() * 65535), deep)


def test_float_tiff_in_range_is_taken_and_otherwise_refused(tmp_path):
    values = RNG.random((5, 6), dtype=np.float32)
    assert (read_image(save(tmp_path / "f.tif", values)).tensor[0].numpy() == values).all()
    for bad, message in [(values * 9, "rescale them"), (values * np.nan, "NaN or infinite")]:
        with pytest.raises(InputError, match=message):
            read_image(save(tmp_path / "bad.tif", bad))


def test_transparency_is_shown_over_white(tmp_path):
    rgba = np.dstack([RGB, np.full(GRAY.shape, 255, np.uint8)])
    opaque = read_image(save(tmp_path / "o.png", rgba))
    np.testing.assert_array_equal(opaque.tensor.movedim(0, -1) * 255, RGB.astype(np.float32))
    assert opaque.notes == ()
    rgba[:3, :, 3] = 0
    clear = read_image(save(tmp_path / "t.png", rgba))
    assert (clear.tensor[:, :3] == 1).all() and "alpha" in clear.notes[0]
    la = read_image(save(tmp_path / "la.png", PIL.Image.fromarray(GRAY).convert("LA")))
    assert la.channels == 1
    np.testing.assert_array_equal(la.tensor[0] * 255, GRAY.astype(np.float32))


def test_palette_one_bit_cmyk(tmp_path):
    colour = PIL.Image.fromarray(RGB)
    palette = colour.quantize(16)
    image = read_image(save(tmp_path / "p.png", palette))
    expected = np.asarray(palette.convert("RGB"), np.float32)
    np.testing.assert_array_equal(image.tensor.movedim(0, -1) * 255, expected)
    grays = read_image(save(tmp_path / "g.gif", PIL.Image.fromarray(GRAY)))
    assert grays.channels == 1
    bits = read_image(save(tmp_path / "b.png", PIL.Image.fromarray(GRAY > 99)))
    assert bits.bits == 1
    np.testing.assert_array_equal(bits.tensor[0].numpy(), (GRAY > 99).astype(np.float32))
    cmyk = read_image(save(tmp_path / "c.tif", colour.convert("CMYK")))
    assert cmyk.channels == 3 and "CMYK" in cmyk.notes[0]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(tmp_path, orientation):
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    image = read_image(save(tmp_path / "r.png", RGB, exif=exif))
    turned = {
        1: RGB, 2: RGB[:, ::-1], 3: RGB[::-1, ::-1], 4: RGB[::-1], 5: RGB.swapaxes(0, 1),
        6: np.rot90(RGB, -1), 7: RGB[::-1, ::-1].swapaxes(0, 1), 8: np.rot90(RGB),
    }[orientation]  # fmt: skip
    np.testing.assert_array_equal(image.tensor.movedim(0, -1) * 255, turned.astype(np.float32))
    assert bool(image.notes) == (orientation > 1)


def test_first_frame_of_an_animation(tmp_path):
    frames = [PIL.Image.fromarray(GRAY), PIL.Image.fromarray(255 - GRAY)]
    path = save(tmp_path / "a.gif", frames[0], save_all=True, append_images=frames[1:])
    image = read_image(path)
    np.testing.assert_array_equal(image.tensor[0] * 255, GRAY.astype(np.float32))
    assert image.notes == ("first of 2 frames",)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.png", None, "no such file: .*missing.png"),
        ("empty.png", b"", "empty.png is empty"),
        ("text.png", b"just some notes\n", r"text.png is not an image \(it holds text\)"),
        ("noise.png", bytes(range(256)), "noise.png is not an image; give"),
        ("nul\0.png", None, "cannot read"),
    ],
)
def test_not_an_image(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_image(tmp_path / name)
    one_line(caught)


def test_folder_and_special_file(tmp_path):
    with pytest.raises(InputError, match="is a folder"):
        read_image(tmp_path)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP", "WEBP"])
def test_cut_off(tmp_path, kind):
    data = encoded(PIL.Image.fromarray(RNG.integers(0, 256, (64, 64, 3), dtype=np.uint8)), kind)
    path = tmp_path / "half"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(
        InputError, match="half is damaged or cut off|half is not an image"
    ) as caught:
        read_image(path)
    one_line(caught)


def test_a_decompression_bomb_is_refused_without_being_unpacked():
    import struct
    import zlib

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 0, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99)))
    with pytest.raises(InputError, match="million pixels; crop or shrink it"):
        decode_image(bomb, "bomb.png")


@settings(max_examples=150, deadline=None)
@given(
    prefix=st.sampled_from(
        [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"II*\0", b"MM\0*", b"BM", b"GIF89a",
         b"RIFF\x10\0\0\0WEBPVP8 ", b"P5 4 4 255\n", b"P6\n9", b"\0\0\0\x0cjP  \r\n\x87\n"]
    ),
    data=st.binary(max_size=200),
)  # fmt: skip
def test_random_bytes_give_nothing_but_input_errors(prefix, data):
    try:
        image = decode_image(prefix + data, "fuzz.png")
    except InputError as error:
        assert "fuzz.png" in str(error) and "\n" not in str(error)
    else:
        assert 0 <= image.tensor.min() <= image.tensor.max() <= 1


_WHOLE = [
    encoded(PIL.Image.fromarray(RGB), "PNG"),
    encoded(PIL.Image.fromarray(RGB), "JPEG"),
    encoded(PIL.Image.fromarray(RGB).quantize(8), "GIF"),
    encoded(PIL.Image.fromarray(RGB).quantize(8), "PNG", transparency=3),
    encoded(PIL.Image.fromarray(RGB), "TIFF", compression="tiff_lzw"),
    encoded(PIL.Image.fromarray(GRAY.astype(np.uint16) * 257), "PNG"),
    encoded(PIL.Image.fromarray(GRAY.astype(np.float32)), "TIFF"),
    encoded(PIL.Image.fromarray(RGB), "WEBP"),
    encoded(PIL.Image.fromarray(RGB), "BMP"),
]


@settings(max_examples=250, deadline=None)
@given(
    data=st.sampled_from(_WHOLE),
    edits=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=6),
    keep=st.floats(0.3, 1.0),
)
def test_damaged_images_give_an_image_or_an_input_error(data, edits, keep):
    damaged = bytearray(data)
    for where, value in edits:
        damaged[int(where * len(damaged))] = value
    damaged = bytes(damaged[: int(keep * len(damaged))])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            image = decode_image(damaged, "fuzz")
        except InputError as error:
            assert "fuzz" in str(error) and "\n" not in str(error)
        else:
            assert 0 <= image.tensor.min() <= image.tensor.max() <= 1


def test_write_and_read_back(tmp_path):
    x = torch.from_numpy(RGB).movedim(-1, 0) / 255
    for name in ["a.png", "a.tif", "a.bmp", "a.webp"]:
        path = write_image(tmp_path / "new" / name, x)
        assert torch.equal(read_image(path).tensor, x)
    jpeg = read_image(write_image(tmp_path / "a.jpg", x)).tensor
    assert (jpeg - x).abs().mean() < 0.02
    deep = torch.linspace(0, 1, 30).reshape(1, 1, 5, 6)
    read = read_image(write_image(tmp_path / "d.png", deep, bits=16)).tensor
    assert (read - deep[0]).abs().max() <= 0.5 / 65535 + 1e-7
    assert [p.name for p in (tmp_path / "new").iterdir() if p.name.startswith(".")] == []


def test_write_clips_and_rounds(tmp_path):
    x = torch.tensor([[-1.0, 0.5, 2.0, 100.4 / 255]])
    assert np.asarray(to_pil(x)).tolist() == [[0, 128, 255, 100]]


def test_write_refuses(tmp_path):
    gray = torch.zeros(1, 4, 4)
    bad = [
        (InputError, "NaN in 16 of 16", "a.png", gray * torch.nan, 8),
        (ShapeError, "not an image", "a.png", torch.zeros(2, 4, 4), 8),
        (ShapeError, "not an image", "a.png", torch.zeros(2, 3, 4, 4), 8),
        (UsageError, "cannot write .xyz", "a.xyz", gray, 8),
        (UsageError, "16 bits are for gray", "a.png", torch.zeros(3, 4, 4), 16),
        (UsageError, "need a .png", "a.jpg", gray, 16),
        (InnverseError, "cannot write", "file/a.png", gray, 8),
    ]
    (tmp_path / "file").write_text("")
    for error, message, name, tensor, bits in bad:
        with pytest.raises(error, match=message) as caught:
            write_image(tmp_path / name, tensor, bits)
        one_line(caught)
