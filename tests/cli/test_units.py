"""A prior of slices with units sees every file on its own range, whichever verb reads it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import innverse
from innverse import flows
from innverse.bijections import initialize
from innverse.cli.pictures import read_picture, read_pictures
from innverse.data import open_images
from innverse.errors import InputError
from innverse.flows.denoise import denoise
from innverse.train import TrainingConfig
from innverse.train.sources import TrainingImages

LOW, HIGH = -1000.0, 2000.0
HU = np.random.default_rng(0).integers(-300, 700, (2, 16, 16)).astype(np.int16)
UNIT = torch.from_numpy((HU[:, None] - LOW) / (HIGH - LOW)).float()


@pytest.fixture
def ct(tmp_path, monkeypatch):
    """The test runs in a folder with a prior of CT slices, and two slices in three formats, whose
    values fill a third of its range."""
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    flow = flows.build("glow", (1, 16, 16), levels=1, steps=1, hidden=4, noise=(0.01, 0.4))
    initialize(flow, torch.rand(8, 1, 16, 16), 0.1)
    flow.x_range, flow.units = (LOW, HIGH), "HU"
    flow.save_pretrained(tmp_path / "prior")
    np.save("ct.npy", HU[:, None])
    pytest.importorskip("tifffile").imwrite("ct.tif", HU)
    with pytest.importorskip("h5py").File("ct.h5", "w") as file:
        file["hu"] = HU
    return flow


@pytest.mark.parametrize("file", ["ct.npy", "ct.tif", "ct.h5"])
def test_eval_measures_slices_on_the_range_of_the_prior(ct, run, file):
    flags = ["--sigma", 25, "--views", 2, "--model", "prior", "--json"]
    code, out, _ = run("eval", "denoise", "--data", file, *flags)
    assert code == 0 and out["range"] == [LOW, HIGH] and out["units"] == "HU"
    g = torch.Generator().manual_seed(0)
    for x, row in zip(UNIT[:, None], out["per_image"], strict=True):
        noise = torch.randn(x.shape, generator=g)
        found = denoise(ct, x + 25 / 255 * noise, 25 / 255, 2)
        mse = (255 * (found.clamp(0, 1) - x)).double().square().mean()
        assert row["psnr"] == pytest.approx(10 * math.log10(255**2 / float(mse)), abs=0.01)


@pytest.mark.parametrize("file", ["ct.npy", "ct.tif", "ct.h5"])
def test_the_density_is_that_of_the_range(ct, run, file):
    code, out, _ = run("logprob", "prior", file, "--as-is", "--json")
    assert code == 0 and out["range"] == [LOW, HIGH] and out["units"] == "HU"
    with torch.no_grad():
        right = ct.log_prob(UNIT, 0.01)
    assert [r["log_prob"] for r in out["results"]] == pytest.approx(right.tolist(), rel=1e-4)


def test_draws_are_in_units_and_come_back(ct, run):
    assert run("sample", "prior", "--n", 3, "--out", "draws.npy")[0] == 0
    g = torch.Generator().manual_seed(0)
    right = LOW + (HIGH - LOW) * ct.sample(3, 0.01, generator=g)
    np.testing.assert_allclose(np.load("draws.npy"), right.numpy(), atol=0.5)
    _, out, _ = run("logprob", "prior", "draws.npy", "--json")
    with torch.no_grad():
        density = ct.log_prob((right - LOW) / (HIGH - LOW), 0.01)
    assert [r["log_prob"] for r in out["results"]] == pytest.approx(density.tolist(), rel=1e-3)


def test_pictures_for_latents_are_read_on_the_range(ct):
    for file in ("ct.tif", "ct.npy"):
        found, _ = read_pictures(file, None, ct, (16, 16))
        assert (found.float() / 255 - UNIT).abs().max() < 0.6 / 255
        assert torch.allclose(read_picture(file, ct, (16, 16)), UNIT[0], atol=1e-4)


def test_a_single_array_is_solved_in_the_units_of_the_prior(ct):
    np.save("one.npy", HU[0].astype(np.float32))
    given = {"prior": "prior", "method": "pnp", "steps": 2, "noise": 60.0}
    (one,) = innverse.restore("one.npy", "denoising", **given)
    stack = innverse.restore("ct.tif", "denoising", **given)
    assert one.x_range == (LOW, HIGH)
    assert torch.allclose(one.image, stack[0].image, atol=1e-3 * (HIGH - LOW))


def test_other_units_are_refused_and_none_are_taken_for_the_same(ct):
    with pytest.importorskip("h5py").File("mr.h5", "w") as file:
        file["t1"] = HU
        file["t1"].attrs["units"] = "ms"
    with pytest.raises(InputError, match="values in ms, the model knows HU"):
        open_images("mr.h5", like=ct)
    with pytest.raises(InputError, match="values in ms, the model knows HU"):
        innverse.restore("mr.h5", "denoising", noise=60.0, prior="prior", method="pnp", steps=1)
    assert open_images("ct.h5", like=ct).x_range == (LOW, HIGH)


def test_values_that_hardly_fill_the_range_are_told(ct, run):
    np.save("unit.npy", UNIT.numpy())
    flags = ["--sigma", 25, "--views", 1, "--model", "prior"]
    code, _, err = run("eval", "denoise", "--data", "unit.npy", *flags)
    assert code == 0 and "are they in other units?" in err


def test_training_that_goes_on_keeps_the_range(ct):
    config = TrainingConfig.model_validate(
        {"data": {"path": "ct.tif", "crop": 16}, "model": {"name": "glow", "init": "prior"}}
    )
    found = TrainingImages(config)
    assert found.config.data.range == (LOW, HIGH) and found.config.data.units == "HU"
    assert np.abs(found.train.array(0) / 65535 - UNIT.numpy()).max(axis=(1, 2, 3)).min() < 1e-4
