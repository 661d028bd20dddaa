"""benchmarks/coding.py and injective.py, small and short, on pictures made here; equal parameters."""

from __future__ import annotations

import gzip
import io
import json
import struct
import sys
import tarfile
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from innverse import flows, generators
from innverse.bijections import initialize

ROOT = Path(__file__).parents[1]
if not (ROOT / "benchmarks" / "coding.py").exists():
    pytest.skip("benchmarks are not here", allow_module_level=True)


def picture(seed: int, side: int, channels: int) -> np.ndarray:
    """Waves, which a smooth prior finds as likely as a face at least."""
    y, x = np.mgrid[:side, :side] / side
    waves = [np.sin(9 * x + seed + c) * np.cos(7 * y - c) for c in range(channels)]
    return (128 + 60 * np.stack(waves, -1)).astype(np.uint8)


def pack(path: Path, folder: str, n: int) -> None:
    with tarfile.open(path, "w") as tar:
        for k in range(n):
            buffer = io.BytesIO()
            Image.fromarray(picture(k, 64, 3)).save(buffer, "PNG")
            info = tarfile.TarInfo(f"{folder}/{k}.png")
            info.size = len(buffer.getvalue())
            buffer.seek(0)
            tar.addfile(info, buffer)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder as `--data` takes it, with a model of digits."""
    home = tmp_path_factory.mktemp("data")
    pack(home / "faces_test.tar", "celebahq", 2)
    pack(home / "faces64_train.tar", "celeba", 4)
    (home / "mnist").mkdir()
    digits = np.concatenate([picture(k, 28, 1).transpose(2, 0, 1) for k in range(4)])
    for part in ("t10k", "train"):
        with gzip.open(home / "mnist" / f"{part}-images-idx3-ubyte.gz", "wb") as file:
            file.write(struct.pack(">IIII", 2051, len(digits), 28, 28) + digits.tobytes())
    torch.manual_seed(0)
    model = flows.build("realnvp", (1, 28, 28), levels=2, hidden=4, blocks=1, gaussianize=16)
    initialize(model, torch.from_numpy(digits)[:, None] / 256 + 1 / 512)
    model.save_pretrained(home / "model")
    return home


@pytest.fixture
def run(tmp_path, monkeypatch):
    def run(name: str, *arguments) -> dict:
        monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
        given = [f"{name}.py", "--quick", "--out", str(tmp_path), *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", given)
        __import__(name).main()
        return json.loads((tmp_path / f"{name}.json").read_text())

    return run


@pytest.mark.slow
def test_coding(run, data, capsys):
    found = run("coding", "--data", data, "--mnist", data / "model")
    for name, n in (("mnist", 28**2), ("faces", 3 * 64**2)):
        assert found[f"lossless-{name}"]["exact"]
        cell = found[f"progressive-{name}"]
        kept = [row["kept"] for row in cell["scales"]]
        assert kept == sorted(kept) and kept[-1] == n
        assert cell["scales"][-1]["psnr_mode"] > 40  # all of it is the picture
        assert {"psnr_latents", "psnr_pca", "psnr_wavelet", "psnr_dct"} <= cell["largest"][0].keys()
        bits = [row["bits_per_dim"] for row in cell["scales"]]
        assert bits == sorted(bits) and min(bits) > 0
    capsys.readouterr()
    assert run("coding", "--data", data) == found and not capsys.readouterr().out  # resumed


def test_the_peers_of_the_codes(run, data, monkeypatch):
    """All coefficients give the picture back, and fewer a worse one; orthonormal, so Parseval holds."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import coding

    x = torch.rand(2, 3, 16, 24)
    for transform in (coding.largest, coding.largest_dct):
        torch.testing.assert_close(transform(x, x[0].numel()), x)
        half, few = transform(x, 576), transform(x, 100)
        assert float((half - x).norm()) < float((few - x).norm()) < float(x.norm())
        # what is left out is orthogonal to what is kept
        assert abs(float(((few - x) * few).sum())) < 1e-3
    flat = torch.full((1, 1, 8, 8), 0.5)
    torch.testing.assert_close(coding.largest_dct(flat, 1), flat)


@pytest.mark.slow
def test_injective(run, data, capsys):
    found = run("injective", "--data", data)
    assert {"sphere", "roll", "coarse"} <= found.keys()
    for name in ("sphere", "roll"):
        cell = found[name]
        assert {"kl_nats", "integral", "nats_with_noise_injective"} <= cell.keys()
        assert cell["noise_fitted"] > 0
    searches = {row["search"] for row in found["coarse"]["rows"]}
    assert "map" in searches and len(searches) > 2
    capsys.readouterr()
    assert run("injective") == found and not capsys.readouterr().out


@pytest.mark.parametrize("k", [64, 128, 256])
def test_contestants_of_one_size_of_code_have_equal_parameters(k):
    sizes = {}
    for kind in ("injective", "vae", "gan"):
        file = ROOT / "configs" / f"faces64-{kind}-{k}.toml"
        file = file if file.exists() else ROOT / "configs" / f"faces64-{kind}.toml"
        options = tomllib.loads(file.read_text())["model"]
        name = options.pop("name")
        room = generators if name in generators.names() else flows
        with torch.device("meta"):
            model = room.build(name, (3, 64, 64), **options)
        assert model.latent_shape == (k,)
        sizes[kind] = model.n_parameters
    assert max(sizes.values()) < 1.022 * min(sizes.values()), sizes
