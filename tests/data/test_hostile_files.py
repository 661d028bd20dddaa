"""Files that hang, swell or have odd names: one line instead of a full memory or a broken run."""

from __future__ import annotations

import gzip
import io
import json
import os
import resource
import signal
import socket
import struct
import tarfile
import zipfile
import zlib

import numpy as np
import PIL.Image
import pytest

from innverse.cli import main
from innverse.data import open_images, read_image, read_mask, split, write_json
from innverse.data.columns import read_columns
from innverse.data.npy import load_numpy
from innverse.data.numbers import read_numbers
from innverse.errors import InnverseError, InputError, is_out_of_memory
from innverse.reading import parse_json, parse_toml, read_bytes


@pytest.fixture(autouse=True)
def _no_waiting():
    """A pipe would be waited for without end: fail instead."""
    signal.alarm(60)
    yield
    signal.alarm(0)


@pytest.fixture
def memory():
    """Fails when the test took more than 300 MB."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000


# ---- what is no regular file ----------------------------------------------------------------------


def pipe(path):
    os.mkfifo(path)


def device(path):
    path.symlink_to("/dev/zero")


def bound(path):
    here = os.getcwd()
    os.chdir(path.parent)
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(here)


def circle(path):
    path.symlink_to(path.name)


@pytest.mark.parametrize("make", [pipe, device, bound, circle])
@pytest.mark.parametrize(
    "read",
    [
        (open_images, "a.png"), (open_images, "a.npy"), (open_images, "a.npz"),
        (open_images, "a.tar"), (open_images, "a-images-idx3-ubyte.gz"), (open_images, "a"),
        (read_image, "a.png"), (read_mask, "a.png"), (load_numpy, "a.npz"), (load_numpy, "a.npy"),
        (read_numbers, "a.csv"), (lambda p: read_columns(p, None, "x"), "a.csv"),
        (lambda p: read_columns(p, None, "x"), "a.npz"), (read_bytes, "a.json"),
    ],
)  # fmt: skip
def test_pipes_devices_sockets_and_circles(tmp_path, make, read):
    function, name = read
    make(tmp_path / name)
    with pytest.raises(InputError) as error:
        function(tmp_path / name)
    assert "\n" not in str(error.value) and name in str(error.value)


def test_a_pipe_in_a_folder_is_left_out(tmp_path):
    PIL.Image.new("L", (8, 8)).save(tmp_path / "a.png")
    os.mkfifo(tmp_path / "b.png")
    source = open_images(tmp_path)
    assert source.names == ["a.png"] and "not a regular file" in source.failures[0][1]


# ---- what swells ----------------------------------------------------------------------------------


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def head_of_png(side):
    """The beginning of a black picture, which Pillow would fill up with memory."""
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def zeros(n):
    """n zeros through gzip, in pieces."""
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    block = bytes(1 << 20)
    return b"".join(packer.compress(block) for _ in range(n >> 20)) + packer.flush()


def npy_head(shape, dtype="|u1"):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": dtype, "fortran_order": False, "shape": shape}
    )
    return buffer.getvalue()


def test_pictures_that_declare_gigabytes(tmp_path, memory):
    for side in (9_000, 13_000, 60_000):
        (tmp_path / "bomb.png").write_bytes(head_of_png(side))
        with pytest.raises(InputError, match=r"bomb\.png (would grow|has more than)"):
            read_image(tmp_path / "bomb.png")
    # a TIFF and a GIF by their headers alone
    for kind in ("TIFF", "GIF", "BMP", "PPM"):
        buffer = io.BytesIO()
        PIL.Image.new("L", (77, 99)).save(buffer, kind)
        data = buffer.getvalue()
        order = "<H" if kind in ("TIFF", "GIF") else "<I"
        for old, new in ((77, 13_000), (99, 13_000)):
            if kind == "PPM":
                data = data.replace(str(old).encode(), str(new).encode(), 1)
            else:
                data = data.replace(struct.pack(order, old), struct.pack(order, new))
        (tmp_path / "bomb").write_bytes(data)
        with pytest.raises(InputError, match="would grow|damaged"):
            read_image(tmp_path / "bomb")


def test_a_large_blank_picture_is_no_bomb(tmp_path):
    PIL.Image.new("L", (4000, 3000)).save(tmp_path / "blank.png")  # 12 megapixels in 12 kB
    assert read_image(tmp_path / "blank.png").size == (3000, 4000)


def test_arrays_that_declare_gigabytes(tmp_path, memory):
    path = tmp_path / "a.npz"
    head = npy_head((3000, 1000, 1000))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", head + bytes(5000))
    for read in (open_images, load_numpy, lambda p: read_columns(p, None, "x")):
        with pytest.raises(InputError, match="would grow"):
            read(path)
    (tmp_path / "a.npy").write_bytes(head + bytes(5000))
    for read in (open_images, load_numpy, read_numbers):
        with pytest.raises(InputError, match="would grow"):
            read(tmp_path / "a.npy")
    os.rename(path, tmp_path / "b.npy")  # a .npz under another name
    with zipfile.ZipFile(tmp_path / "b.npy", "w") as archive:
        archive.writestr("x.npy", npy_head((2, 2)) + bytes(4))
    assert read_numbers(tmp_path / "b.npy").tolist() == [[0, 0], [0, 0]]


def test_gzipped_files_that_swell(tmp_path, memory):
    path = tmp_path / "x-images-idx3-ubyte.gz"
    path.write_bytes(gzip.compress(b"\0\0\x08\x03" + struct.pack(">3I", 3000, 1000, 1000)))
    with pytest.raises(InputError, match="would grow"):
        open_images(path)
    # more data than its header says is not unpacked
    path.write_bytes(gzip.compress(b"\0\0\x08\x03" + struct.pack(">3I", 1, 4, 4)) + zeros(1 << 30))
    with pytest.raises(InputError, match="17 pixels where its header says 16"):
        open_images(path)


def test_archives_that_swell(tmp_path, memory):
    info = tarfile.TarInfo("a.bmp")
    info.size = 3 << 30
    path = tmp_path / "a.tar.gz"
    path.write_bytes(gzip.compress(info.tobuf() + bytes(10_000)))
    with pytest.raises(InputError, match="would grow"):
        open_images(path)
    info.name = "notes.txt"  # passing over it would unpack it too
    path.write_bytes(gzip.compress(info.tobuf() + bytes(10_000)))
    with pytest.raises(InputError, match="would grow"):
        open_images(path)


# ---- names, text, memory --------------------------------------------------------------------------


def test_names_that_are_not_utf8(tmp_path, monkeypatch, capfd):
    name = os.fsdecode(b"caf\xe9.png")
    try:
        PIL.Image.new("L", (16, 16), 80).save(tmp_path / "a.png")
        os.rename(tmp_path / "a.png", tmp_path / name)
    except OSError:
        pytest.skip("this file system has only UTF-8 names")
    PIL.Image.new("L", (16, 16), 90).save(tmp_path / "b.png")
    source = open_images(tmp_path)
    assert sorted(source.names) == sorted(["b.png", name])
    assert len(split(source, 1)[1]) == 1
    path = write_json(tmp_path / "x.json", {"file": tmp_path / name})
    assert json.loads(path.read_bytes().decode())["file"] == str(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    for flags in ((), ("--json",)):
        assert main(["logprob", "natural-gray", str(tmp_path), *flags]) == 0
        out = capfd.readouterr().out
        assert "caf" in out and "b.png" in out
    assert len(json.loads(out)["results"]) == 2
    solve = ["solve", ".", "--physics", "denoising", "--noise", "0.1", "--out", "r", "-q"]
    assert main([*solve, "--method", "map", "--prior", "natural-gray"]) in (0, 3)
    assert len(list((tmp_path / "r").glob("*/result.json"))) == 2


@pytest.mark.parametrize(
    "text",
    ["", "{", "[" * 100_000, '{"a": 1, "a": 2}', "NaN", "[-Infinity]", "1e400", "9" * 5000,
     b"\xff", b"\x00", "[1,]"],
)  # fmt: skip
def test_json_that_is_none(text):
    with pytest.raises(ValueError) as error:
        parse_json(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text", ["a = " + "[" * 100_000, "a = 1\na = 2", "a = " + "9" * 5000, "a", "a = {", "\0"]
)
def test_toml_that_is_none(text):
    with pytest.raises(ValueError) as error:
        parse_toml(text)
    assert "\n" not in str(error.value)


def test_digits_survive_json():
    values = [0.1 + 0.2, 1e-300, 2**70, -0.0, 5e-324]
    from innverse.data.atomic import dumps

    assert json.loads(dumps({"v": np.array(values[:2]), "w": values}))["w"] == values
    assert json.loads(dumps([np.float32(0.1)]))[0] == float(np.float32(0.1))


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. "
     "DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes. Error code 12"),
     RuntimeError("std::bad_alloc"), OSError(12, "Cannot allocate memory"),
     type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory."),
     RuntimeError("not enough memory: you tried")],
)  # fmt: skip
def test_out_of_memory_is_one_line(error, monkeypatch, capfd):
    from innverse.cli import entry

    def fail(arguments):
        raise error

    monkeypatch.setattr(entry, "_run", fail)
    assert is_out_of_memory(error) and main(["doctor"]) == 1
    err = capfd.readouterr().err
    assert "out of memory" in err and "unexpected" not in err and err.count("\n") == 1


def test_torch_says_itself_that_memory_is_out():
    import torch

    for size in (10**15, 10**19 // 4):
        with pytest.raises(Exception) as error:
            torch.empty(size).fill_(1)
        assert is_out_of_memory(error.value), error.value
    assert not is_out_of_memory(InnverseError("the image is too dark"))
