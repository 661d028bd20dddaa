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

from restoration_cells import _epll, _methods, _patchnr, _pictures  # noqa: E402

import restoration  # noqa: E402
from innverse.physics import Denoising  # noqa: E402

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
