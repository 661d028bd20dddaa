"""The scoreboard of restorations: its quick run, and its own baseline against closed forms."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[1] / "benchmarks"
if not (FOLDER / "restoration_cells").is_dir():  # an installed package without its sources
    pytest.skip("benchmarks are not here", allow_module_level=True)
sys.path.append(str(FOLDER))

import rays  # noqa: E402
from restoration_cells import _epll, _methods, _patchnr, _pictures, mri  # noqa: E402
from restoration_cells._setting import Setting  # noqa: E402

import restoration  # noqa: E402
from innverse.physics import Denoising  # noqa: E402
from innverse.physics.fourier import as_complex  # noqa: E402
from innverse.physics.mri import MRI, simulated_sensitivities  # noqa: E402

ROW = {"task", "dataset", "method", "psnr", "ssim", "std_err", "seconds", "n"}


def run(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["restoration.py", "--quick", *map(str, arguments)])
    restoration.main()


def test_a_quick_run_resumes_and_writes_a_page(monkeypatch, tmp_path, capsys):
    few = (
        "--only",
        "photographs",
        "--out",
        tmp_path,
        "--methods",
        "total*",
        "pseudo*",
        "EPLL",
        "zoo*pnp",
    )
    run(monkeypatch, *few, "--tasks", "deblur-motion-1")
    first = json.loads((tmp_path / "restoration.json").read_text())["rows"]
    assert len(first) == 2 * 4 and all(set(r) >= ROW for r in first)
    run(monkeypatch, *few, "--tasks", "deblur-motion-1", "denoise-25")
    rows = json.loads((tmp_path / "restoration.json").read_text())["rows"]
    assert len(rows) == 2 * 2 * 4 and all(r in rows for r in first)
    found = {(r["task"], r["dataset"], r["method"]): r for r in rows}
    noisy = found["denoise-25", "synthetic", "pseudo-inverse"]
    assert noisy["psnr"] == pytest.approx(20 * math.log10(255 / 25), abs=0.4)
    assert found["denoise-25", "synthetic", "total variation"]["psnr"] > noisy["psnr"] + 3
    low, high = sorted(noisy["each"])
    assert noisy["n"] == 2 and noisy["std_err"] == pytest.approx((high - low) / 2, abs=2e-3)
    page = (tmp_path / "restoration.md").read_text()
    assert "| denoise-25 |" in page and "total variation" in page
    assert (tmp_path / "work/pictures/synthetic/denoise-25/EPLL.png").exists()


def test_weights_are_tuned_on_training_pictures(monkeypatch, tmp_path, capsys):
    asked = ("--only", "photographs", "--tasks", "denoise-50", "--methods", "total*")
    run(monkeypatch, "--tune", "--out", tmp_path, *asked)
    told = json.loads((tmp_path / "tuned.json").read_text())
    (reached,) = told["psnr"]["total variation"].values()
    assert set(map(float, reached)) == set(_methods.WAYS["total variation"].grid)
    best = told["weights"]["total variation"]["denoise-50"]
    assert reached[f"{best:g}"] == max(reached.values())


@pytest.mark.slow
def test_every_way_that_needs_no_file_finds_a_picture(monkeypatch, tmp_path, capsys):
    run(monkeypatch, "--only", "photographs", "--tasks", "inpaint-50", "--out", tmp_path)
    rows = json.loads((tmp_path / "restoration.json").read_text())["rows"]
    missing = {"DnCNN", *(w for w in _methods.WAYS if w.startswith("patch flow"))}
    missing |= {*(w for w in _methods.WAYS if w.startswith("deepinv"))}
    assert {r["method"] for r in rows} == set(_methods.WAYS) - missing
    assert all(r["psnr"] > 5 for r in rows)


class Normal:
    """Pixels N(mean, std^2), each by itself."""

    multiple, noise_range, mean, std = 4, None, 0.4, 0.1

    def log_prob(self, x, level):
        return -0.5 * ((x - self.mean) / self.std).square().flatten(1).sum(1)


def test_descent_on_patches_finds_what_is_most_likely():
    y = torch.rand(1, 1, 24, 24, generator=torch.Generator().manual_seed(0))
    noise, weight = 0.2, 0.5
    x = _patchnr.restore(y, Denoising(noise=noise), noise, Normal(), weight, y)
    data, prior = 1 / noise**2, weight / Normal.std**2
    right = (data * y + prior * Normal.mean) / (data + prior)
    inside = (..., slice(4, -4), slice(4, -4))  # where every grid of patches lies
    assert float((x - right)[inside].abs().max()) < 5e-3


def test_a_mixture_of_one_is_the_gaussian_of_the_patches():
    root = torch.randn(64, 64) / 8
    patches = torch.randn(20_000, 64) @ root.T
    found = _epll.Mixture.fit(patches, 1, 1)
    assert torch.allclose(found.covariances[0], root @ root.T, atol=0.1)
    exact = torch.distributions.MultivariateNormal(
        torch.zeros(64), found.covariances[0] + 0.25 * torch.eye(64)
    )
    off = found.log_density(patches[:9], 0.5)[:, 0] - exact.log_prob(patches[:9])
    assert off.std() < 1e-3


def test_a_mixture_tells_its_components_apart():
    wide, narrow = torch.randn(4000, 64), 0.1 * torch.randn(4000, 64)
    found = _epll.Mixture.fit(torch.cat([wide, narrow]), 2, 20)
    spread = found.covariances.diagonal(dim1=1, dim2=2).mean(1).sort().values
    assert torch.allclose(spread, torch.tensor([0.01, 1.0]), rtol=0.1)
    assert torch.allclose(found.weights, torch.full((2,), 0.5), atol=0.05)


def test_patches_of_one_gaussian_are_filtered_by_wiener():
    # white pixels of variance 4 within a patch: of noise of variance 1, 4 / 5 of the rest is kept
    mixture = _epll.Mixture(torch.ones(1), 4 * torch.eye(64)[None])
    x = torch.randn(1, 1, 8, 8)  # a single patch
    mean = x.mean()
    assert torch.allclose(mixture.denoise(x, 1.0), mean + 0.8 * (x - mean), atol=1e-5)
    # where the prior is certain the data count no more, and the other way round
    flat = _epll.Mixture(torch.ones(1), 1e-9 * torch.eye(64)[None])
    y = _pictures.synthetic(1, 24)
    near = _epll.restore(y, Denoising(), 0.1, mixture, 1e-6, y)
    assert torch.allclose(near, y, atol=1e-3)
    smooth = _epll.restore(y, Denoising(), 0.1, flat, 100.0, y)
    assert smooth.var() < 0.7 * y.var()


def test_scans_resume(tmp_path, monkeypatch, capsys):
    plain = ("--out", tmp_path, "--only", "ct", "mri", "--methods", "filtered*", "zero*")
    run(monkeypatch, *plain)
    rows = json.loads((tmp_path / "restoration.json").read_text())["rows"]
    tasks = {"ct-60", "ct-180", "ct-180-low", "ct-limited-120", "mri-4"}
    assert {row["task"] for row in rows} == tasks and all(set(row) >= ROW for row in rows)
    capsys.readouterr()
    run(monkeypatch, *plain, "total*", "--tasks", "ct-60")
    more = json.loads((tmp_path / "restoration.json").read_text())["rows"]
    assert len(more) == len(rows) + 1 and capsys.readouterr().out.count("dB") == 1


@pytest.fixture
def head(tmp_path):
    """A head of 8 coils in a file, with little noise."""
    scipy_io = pytest.importorskip("scipy.io")
    size = (48, 64)
    y, x = (torch.linspace(-1, 1, n) for n in size)
    ball = (y[:, None].square() + x.square() < 0.6) * (0.6 + 0.3 * (y[:, None] * x > 0))
    k = as_complex(MRI(simulated_sensitivities(8, size), torch.ones(size)).A(ball[None, None]))[0]
    noise = torch.randn(k.shape, dtype=k.dtype, generator=torch.Generator().manual_seed(0))
    values = (k + 0.003 * noise).permute(1, 2, 0).numpy()
    scipy_io.savemat(tmp_path / "mri_brain_8ch.mat", {"DATA": values})
    return tmp_path


def test_a_head_is_judged_by_one_picture_whichever_the_coils(head, tmp_path, monkeypatch):
    ways = ("--data", str(head), "--only", "mri", "--tasks", "mri-every-2", "--methods", "[zt]*l*")
    run(monkeypatch, "--out", tmp_path, *ways)
    rows = json.loads((tmp_path / "restoration.json").read_text())["rows"]
    found = {(r["dataset"], r["method"]): r["psnr"] for r in rows}
    for coils in mri.COILS:
        assert found[coils, "total variation"] > found[coils, "zero-filled"] > 15
    pictures = [tmp_path / "work/pictures" / d / "mri-every-2/true.png" for d in mri.COILS]
    assert len({picture.read_bytes() for picture in pictures}) == 1


def test_lines_that_were_left_out_judge_the_strength(head, tmp_path):
    setting = Setting(tmp_path, head, quick=True, tasks=["mri-every-2"], methods=["total*"])
    found = {method: foreseen for method, _, foreseen in mri.tune(setting)}
    assert [*found] == [f"total variation, {coils}" for coils in mri.COILS]
    assert all(decibel > 3 for told in found.values() for decibel in told.values())


@pytest.mark.slow
def test_scans_and_rays_run(tmp_path, monkeypatch):
    run(monkeypatch, "--out", tmp_path, "--only", "ct", "mri")
    assert len(json.loads((tmp_path / "restoration.json").read_text())["rows"]) == 4 * 5 + 3
    monkeypatch.setattr(sys, "argv", ["rays.py", "--quick", "--out", str(tmp_path)])
    rays.main()
    found = json.loads((tmp_path / "rays.json").read_text())["rows"]
    assert found[0]["library"] == "innverse" and found[0]["seconds"] > 0
