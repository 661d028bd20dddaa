"""``innverse compress`` and ``decompress`` from the command line."""

from __future__ import annotations

import pytest
import torch

from innverse.data import read_image, write_image


@pytest.fixture
def pictures(tmp_path, monkeypatch):
    """Two of 8x8 in a folder."""
    monkeypatch.chdir(tmp_path)
    x = torch.randint(0, 256, (2, 1, 8, 8), dtype=torch.uint8)
    for i, image in enumerate(x):
        write_image(tmp_path / "in" / f"{i}.png", image.float() / 255)
    return x


def test_there_and_back(run, pictures, tmp_path):
    code, out, _ = run(
        "compress", "in", "--model", "digits", "--out", "code.inn", "--json", "--quiet"
    )
    assert code == 0 and out["shape"] == [2, 1, 8, 8]
    assert out["bytes"] == (tmp_path / "code.inn").stat().st_size
    code, out, _ = run("decompress", "code.inn", "--model", "digits", "--out", "out", "--quiet")
    assert code == 0 and "2 pictures" in out
    for i, image in enumerate(pictures):
        again = read_image(tmp_path / "out" / f"code-{i}.png", "L").tensor
        assert torch.equal((again * 255).round().byte(), image)


def test_what_is_wrong_is_one_line(run, pictures, tmp_path):
    write_image(tmp_path / "in" / "large.png", torch.zeros(1, 8, 12))
    code, _, err = run("compress", "in", "--model", "digits", "--quiet")
    assert code == 4 and "compress each size on its own" in err
    assert not (tmp_path / "pictures.inn").exists()
    (tmp_path / "code.inn").write_bytes(b"inn1" + bytes(50))
    code, _, err = run("decompress", "code.inn", "--model", "digits", "--quiet")
    assert code == 4 and "damaged or cut off" in err
