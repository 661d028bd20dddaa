from __future__ import annotations

import gzip
import io
import struct
import tarfile

import numpy as np
import PIL.Image
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from innverse.data import ImageSource, open_images, split
from innverse.errors import InnverseError, InputError, ShapeError, UsageError

RNG = np.random.default_rng(0)


def picture(height=6, width=8, colour=True):
    return RNG.integers(0, 256, (height, width, 3) if colour else (height, width), dtype=np.uint8)


def png(array):
    buffer = io.BytesIO()
    PIL.Image.fromarray(array).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path):
    """Three good images of two sizes, one broken, one text, one hidden."""
    root = tmp_path / "images"
    (root / "sub").mkdir(parents=True)
    (root / "b.png").write_bytes(png(picture()))
    (root / "a.PNG").write_bytes(png(picture(colour=False)))
    (root / "sub" / "c.bmp").write_bytes(png(picture(9, 5)))
    (root / "broken.png").write_bytes(png(picture())[:60])
    (root / "._b.png").write_bytes(b"resource fork")
    (root / "notes.txt").write_text("no image")
    return root


def tar(path, members, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def test_folder_is_recursive_sorted_and_lists_failures(folder):
    source = open_images(folder)
    assert source.names == ["a.PNG", "b.png", "sub/c.bmp"]
    assert [name for name, _ in source.failures] == ["broken.png"]
    assert "broken.png is damaged" in source.failures[0][1]
    assert len(source) == 3 and source.channels == 3 and source.size is None
    assert source[0].dtype == torch.uint8 and source[0].shape == (3, 6, 8)
    assert (source[0] == source[0][:1]).all()
    expected = np.asarray(PIL.Image.open(folder / "b.png"))
    np.testing.assert_array_equal(source[1].movedim(0, -1), expected)


def test_channels_and_subset_of_a_folder(folder):
    assert open_images(folder, channels=1)[1].shape == (1, 6, 8)
    assert open_images(folder, subset="sub").names == ["sub/c.bmp"]
    with pytest.raises(InputError, match="no folder 'nope'; it has: sub"):
        open_images(folder, subset="nope")
    with pytest.raises(UsageError, match="channels=4"):
        open_images(folder, channels=4)


def test_beyond_the_cache_images_are_read_at_use(folder):
    for name in [f"z{i:03d}.png" for i in range(80)]:
        (folder / name).write_bytes(png(picture()))
    (folder / "z079.png").write_bytes(b"broken")
    whole, lazy = open_images(folder), open_images(folder, cache_bytes=1, channels=3)
    assert len(lazy) == len(whole) + 1  # the broken one is not known yet
    for i in range(len(whole)):
        assert torch.equal(whole[i], lazy[i])
    assert torch.equal(lazy[len(whole)], lazy[0])  # replaced by the next good image
    assert "z079.png" in [name for name, _ in lazy.failures]


def test_link_to_a_parent_does_not_loop(folder):
    (folder / "sub" / "loop").symlink_to(folder, target_is_directory=True)
    assert len(open_images(folder)) == 3


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_tar(tmp_path, mode):
    images = {"./set/b.png": png(picture()), "set/a.png": png(picture()), "other/c.jpg": b"broken"}
    path = tar(tmp_path / "x.tar", images | {"set/readme.md": b"text"}, mode)
    source = open_images(path)
    assert source.names == ["set/a.png", "set/b.png"]
    assert source.failures[0][0] == "other/c.jpg" and source.size == (6, 8)
    assert open_images(path, subset="set/").names == source.names
    with pytest.raises(InputError, match="no folder 'se' with images; it has: other, set"):
        open_images(path, subset="se")
    with pytest.raises(InputError, match="none of 1 images can be read; the first: other/c.jpg"):
        open_images(path, subset="other")


def test_tar_cut_off_gives_what_is_whole(tmp_path):
    path = tar(tmp_path / "x.tar", {f"{i}.png": png(picture(40, 40)) for i in range(4)})
    path.write_bytes(path.read_bytes()[: 512 * 25])
    source = open_images(path)
    assert 1 <= len(source) < 4 and source.failures


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize(
    ("shape", "seen"),
    [((5, 6, 8), (1, 6, 8)), ((5, 6, 8, 3), (3, 6, 8)), ((5, 3, 6, 8), (3, 6, 8)),
     ((5, 6, 8, 1), (1, 6, 8)), ((5, 1, 6, 8), (1, 6, 8))],
)  # fmt: skip
def test_array_layouts(tmp_path, suffix, shape, seen):
    array = RNG.integers(0, 256, shape, dtype=np.uint8)
    path = tmp_path / f"x{suffix}"
    (np.save if suffix == ".npy" else np.savez)(path, array)
    source, lazy = open_images(path), open_images(path, cache_bytes=0)
    expected = array[3]
    if len(shape) == 4 and shape[-1] in (1, 3):
        expected = np.moveaxis(expected, -1, 0)
    assert source[3].shape == seen and len(source) == 5
    np.testing.assert_array_equal(source[3], expected.reshape(seen))
    assert torch.equal(lazy[3], source[3])


def test_array_types_and_channels(tmp_path):
    path = tmp_path / "x.npy"
    u8 = RNG.integers(0, 256, (4, 6, 8, 3), dtype=np.uint8)
    np.save(path, u8)
    luma = np.asarray(PIL.Image.fromarray(u8[1]).convert("L"))
    np.testing.assert_array_equal(open_images(path, channels=1)[1][0], luma)
    np.save(path, u8 / 255)
    np.testing.assert_array_equal(open_images(path)[2].movedim(0, -1), u8[2])
    np.save(path, u8[..., 0] > 99)
    assert open_images(path, channels=3)[0].unique().tolist() == [0, 255]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 6, 8), np.int64), "holds int64; convert it to uint8"),
        (np.full((4, 6, 8), 17.0), "float values from 17 to 17; rescale"),
        (np.full((4, 6, 8), np.nan), "float values from nan"),
        (np.zeros((4, 6, 8, 5), np.uint8), "need 1 or 3 channels"),
        (np.zeros((4, 3, 8, 3), np.uint8), 'say layout="NHWC"'),
        (np.zeros((0, 6, 8), np.uint8), "none of them empty"),
        (np.zeros(7, np.uint8), "images need"),
        (np.array([{}, None]), "not a plain numeric numpy array"),
    ],
)
def test_array_refused(tmp_path, array, message):
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    with pytest.raises(InputError, match=message) as caught:
        open_images(tmp_path / "x.npy")
    assert "\n" not in str(caught.value) and "x.npy" in str(caught.value)


def test_array_layout_is_said(tmp_path):
    array = RNG.integers(0, 256, (4, 3, 8, 3), dtype=np.uint8)
    np.save(tmp_path / "x.npy", array)
    assert open_images(tmp_path / "x.npy", layout="NCHW")[0].shape == (3, 8, 3)
    assert open_images(tmp_path / "x.npy", layout="NHWC")[0].shape == (3, 3, 8)
    with pytest.raises(UsageError, match="layout 'CHW'"):
        open_images(tmp_path / "x.npy", layout="CHW")


def test_npz_with_several_arrays(tmp_path):
    a, b = picture(colour=False)[None], picture(colour=False)[None]
    np.savez(tmp_path / "x.npz", first=a, second=b)
    np.testing.assert_array_equal(open_images(tmp_path / "x.npz", subset="second")[0], b)
    with pytest.raises(InputError, match="which array. it has: first, second"):
        open_images(tmp_path / "x.npz")


def idx(array, code=8):
    head = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.tobytes()


def test_idx(tmp_path):
    images = RNG.integers(0, 256, (5, 4, 3), dtype=np.uint8)
    raw, packed = tmp_path / "images-idx3-ubyte", tmp_path / "images.gz"
    raw.write_bytes(idx(images))
    packed.write_bytes(gzip.compress(idx(images)))
    for path in (raw, packed):
        np.testing.assert_array_equal(open_images(path).stack()[:, 0], images)
    bad = {
        "holds labels, not images": idx(images[:, 0, 0]),
        "has 59 pixels where its header says 60": idx(images)[:-1],
        "values of type 0xd": idx(images, 13),
        "has 0 pixels": idx(images)[:5],
    }
    for message, content in bad.items():
        raw.write_bytes(content)
        with pytest.raises(InputError, match=message):
            open_images(raw)
    packed.write_bytes(packed.read_bytes()[:40])
    with pytest.raises(InputError, match="damaged or cut off"):
        open_images(packed)


def test_single_image(tmp_path):
    (tmp_path / "x.png").write_bytes(png(picture()))
    source = open_images(tmp_path / "x.png")
    assert len(source) == 1 and source.names == ["x.png"]
    with pytest.raises(UsageError, match="no subsets"):
        open_images(tmp_path / "x.png", subset="a")


def test_nothing_to_read(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.png").write_text("hello")
    (tmp_path / "x.npy").write_text("hello")
    (tmp_path / "x.npz").write_bytes(b"")
    tar(tmp_path / "x.tar", {"readme": b"text"})
    for name, message in {
        "empty": "has no image files",
        "bad": "none of 1 images can be read; the first: .*it holds text",
        "x.npy": "damaged or not a numpy file|not a plain numeric",
        "x.npz": "damaged or not a numpy file",
        "x.tar": "has no image files",
        "missing": "no such file or folder.*digits, skimage",
    }.items():
        with pytest.raises(InputError, match=message) as caught:
            open_images(tmp_path / name)
        assert "\n" not in str(caught.value)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    suffix=st.sampled_from(["png", "npy", "npz", "tar", "gz", ""]),
    prefix=st.sampled_from(
        [b"", b"\0\0\x08\x03", b"\x93NUMPY\x01\0", b"PK\x03\x04", b"\x1f\x8b\x08\0", bytes(512)]
    ),
    data=st.binary(max_size=120),
)
def test_random_bytes_give_nothing_but_input_errors(tmp_path, suffix, prefix, data):
    path = tmp_path / f"x.{suffix}"
    path.write_bytes(prefix + data)
    try:
        source = open_images(path)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert source[0].dtype == torch.uint8


def test_digits():
    pytest.importorskip("sklearn")
    source = open_images("digits")
    stack = source.stack()
    assert stack.shape == (1797, 1, 8, 8) and stack.max() == 255 and stack.unique().numel() == 17


def test_skimage_photographs_need_no_network(monkeypatch):
    pytest.importorskip("skimage")
    import socket

    monkeypatch.setattr(socket, "socket", lambda *a, **k: pytest.fail("network"))
    source = open_images("skimage", subset="camera, coffee", channels=1)
    assert source.names == ["camera", "coffee"] and source[0].shape == (1, 512, 512)
    assert {"astronaut", "camera", "chelsea", "coffee"} <= set(open_images("skimage").names)
    with pytest.raises(InputError, match="no photograph 'lena'; it has: astronaut"):
        open_images("skimage", subset="lena")


def test_skimage_missing_names_the_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InnverseError, match=r"innverse\[demo\]"):
        open_images("skimage")


def source_of(n):
    return ImageSource([f"image{i}" for i in range(n)], np.zeros((n, 1, 2, 2), np.uint8))


def test_split_is_a_partition_and_ignores_order():
    source = source_of(50)
    train, held = split(source, 0.2, seed=3)
    assert len(held) == 10 and sorted(train.names + held.names) == sorted(source.names)
    backwards = source.subset(range(49, -1, -1))
    assert set(split(backwards, 0.2, seed=3)[1].names) == set(held.names)
    assert set(split(source, 0.2, seed=4)[1].names) != set(held.names)
    assert len(split(source, 7)[1]) == 7 and len(split(source, 0.001)[1]) == 1


def test_split_moves_few_when_images_are_added():
    before = set(split(source_of(100), 0.2)[1].names)
    after = set(split(source_of(105), 0.2)[1].names)
    assert len(before - after) <= 5


@pytest.mark.parametrize("held_out", [0.0, 1.0, 1.5, 0, -1, 50, 60])
def test_split_refuses(held_out):
    with pytest.raises(UsageError):
        split(source_of(50), held_out)


def test_subset_keeps_pixels_and_names(folder):
    source = open_images(folder)
    part = source.subset([2, 0]).subset([0])
    assert part.names == ["sub/c.bmp"] and torch.equal(part[0], source[2])
    with pytest.raises(ShapeError, match="differ in size"):
        source.stack()


# ---- folders of IDX files -----------------------------------------------------------------------


@pytest.fixture
def mnist(tmp_path):
    """The four files of MNIST, Fashion-MNIST, ..., gzipped as they are distributed."""
    for part, n in (("train", 5), ("t10k", 3)):
        images = RNG.integers(0, 256, (n, 4, 5), dtype=np.uint8)
        (tmp_path / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
        labels = RNG.integers(0, 10, n, dtype=np.uint8)
        (tmp_path / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(labels)))
    return tmp_path


def test_folder_of_mnist(mnist):
    assert len(open_images(mnist)) == len(open_images(mnist, subset="train")) == 5
    test = open_images(mnist, subset="t10k")
    assert len(test) == 3 and test.size == (4, 5) and test.channels == 1
    with pytest.raises(InputError, match="no part 'test'; it has: t10k, train"):
        open_images(mnist, subset="test")


def test_folder_of_mnist_with_other_names(mnist):
    (mnist / "train-images-idx3-ubyte.gz").rename(mnist / "other.gz")
    assert len(open_images(mnist)) == 3  # the only images that are left
    raw = RNG.integers(0, 256, (7, 4, 5), dtype=np.uint8)
    (mnist / "t10k-images.idx3-ubyte").write_bytes(idx(raw))
    assert len(open_images(mnist)) == 7  # unpacked beside its .gz, and spelled as some unpackers do
    for part in ("emnist-letters-train", "emnist-digits-train"):
        (mnist / f"{part}-images-idx3-ubyte").write_bytes(idx(raw))
    with pytest.raises(InputError, match="say which part; it has: emnist-digits-train, emnist-le"):
        open_images(mnist)
