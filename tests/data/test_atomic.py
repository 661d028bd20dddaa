from __future__ import annotations

import errno
import json
import os
import sys

import numpy as np
import pytest

from innverse.data.atomic import atomic_path, atomic_write, write_json
from innverse.errors import InnverseError


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_writes_bytes_text_and_callback_and_makes_folders(tmp_path):
    target = tmp_path / "a" / "b" / "file"
    for content, expected in [
        (b"\x00\xff", b"\x00\xff"),
        ("é", "é".encode()),
        (lambda file: file.write(b"x"), b"x"),
    ]:
        assert atomic_write(target, content) == target
        assert target.read_bytes() == expected
    assert names(target.parent) == ["file"]


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), RuntimeError("No space left")])
def test_disk_full_keeps_the_old_file_and_removes_the_temporary_one(tmp_path, error):
    target = tmp_path / "checkpoint"
    atomic_write(target, b"old")

    def fails(file):
        file.write(b"half of the new")
        raise error

    with pytest.raises(InnverseError, match=r"cannot write .*checkpoint: the disk is full; .*"):
        atomic_write(target, fails)
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["checkpoint"]


def test_other_exceptions_pass_and_leave_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), atomic_path(tmp_path / "x") as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    with pytest.raises(ValueError, match="mine"), atomic_path(tmp_path / "x"):
        raise ValueError("mine")
    assert names(tmp_path) == []


def test_a_real_limit_of_the_system_is_reported(tmp_path):
    """The kernel itself refuses to write more than 1000 bytes to a file."""
    resource = pytest.importorskip("resource")
    target = atomic_write(tmp_path / "file", b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(InnverseError, match="cannot write .*larger than the system allows"):
            atomic_write(target, bytes(5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert target.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_unusable_targets_give_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for target in ["file/inside", "folder", "n" * 300, "nul\0", "\ud800"]:
        with pytest.raises(InnverseError) as caught:
            atomic_write(tmp_path / target, b"")
        assert "cannot write" in str(caught.value) and "\n" not in str(caught.value)
    assert names(tmp_path) == ["file", "folder"]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_no_permission(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InnverseError, match="no permission"):
        atomic_write(tmp_path / "x", b"")
    tmp_path.chmod(0o700)


@pytest.mark.skipif(sys.platform == "win32", reason="symbolic links")
def test_writes_through_a_link(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    atomic_write(tmp_path / "link", "new")
    assert (tmp_path / "real").read_text() == "new" and (tmp_path / "link").is_symlink()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_device_is_written_to_and_never_replaced():
    with pytest.raises(InnverseError, match="disk is full"):
        atomic_write("/dev/full", b"x")
    assert not os.path.isfile("/dev/full")


def test_json_is_valid_whatever_it_holds(tmp_path):
    value = {
        "a": float("nan"),
        "b": np.float32(0.5),
        "c": np.arange(2),
        "p": tmp_path,
        3: (1, None),
    }
    text = write_json(tmp_path / "x.json", value).read_text()
    read = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert read == {"a": None, "b": 0.5, "c": [0, 1], "p": str(tmp_path), "3": [1, None]}
