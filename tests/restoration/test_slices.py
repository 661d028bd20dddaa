"""Stacks are solved as a batch and come back as stacks, in their units."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from innverse import flows, generators
from innverse.bijections import initialize
from innverse.data import read_stack
from innverse.errors import InputError
from innverse.models.store import CONFIG
from innverse.restoration import Restored, restore
from innverse.restoration.slices import write_values
from innverse.zoo import load

TV = {"method": "tv", "steps": 200}


def volume(n=4, height=24, width=20) -> np.ndarray:
    """Slices (n, H, W) of a smooth body with an edge, in Hounsfield units."""
    y, x = np.mgrid[:height, :width]
    slices = [
        400 * np.sin(x / 5 + k) + 300 * np.cos(y / 7) + 500 * (x > width / 2) for k in range(n)
    ]
    return np.stack(slices)


def test_a_stack_is_what_its_slices_are_one_by_one(tmp_path):
    values = (volume() + np.random.default_rng(0).normal(0, 50, (4, 24, 20))).astype(np.float32)
    np.save(tmp_path / "ct.npy", values)
    low, high = float(values.min()), float(values.max())
    results = restore(tmp_path / "ct.npy", "denoising", noise=50, out=tmp_path / "out", **TV)
    assert [r.source for r in results] == [f"{tmp_path / 'ct.npy'}[{k}]" for k in range(4)]
    written = np.load(tmp_path / "out" / "result.npy")
    assert written.dtype == np.float32 and written.shape == values.shape
    for k, r in enumerate(results):
        one = restore(values[k][None], "denoising", noise=50, x_range=(low, high), **TV)[0]
        np.testing.assert_allclose(r.image, one.image, atol=1e-3 * (high - low))
        np.testing.assert_array_equal(written[k], r.image[0])
        assert r.x_range == pytest.approx((low, high))
    record = json.loads((tmp_path / "out" / "result.json").read_text())
    assert len(record["slices"]) == 4 and record["files"] == ["result.npy", "panel.png"]
    assert (tmp_path / "out" / "panel.png").exists()


def test_sixteen_bits_are_black_and_white_and_written_as_such(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    values = np.rint(30 * (volume() + 1000)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "stack.tif", values, metadata=None, photometric="minisblack")
    results = restore(tmp_path / "stack.tif", "denoising", noise=1e-5, out=tmp_path / "out", **TV)
    assert all(r.x_range is None and 0 <= r.image.min() < r.image.max() <= 1 for r in results)
    again = read_stack(tmp_path / "out" / "result.tif")
    assert again.values.dtype == np.uint16
    np.testing.assert_allclose(again.values[:, 0].astype(float), values.astype(float), atol=30)


def test_error_bars_are_in_the_units_of_the_file(tmp_path):
    """Whether solved in units or as black and white, a deviation has no offset."""
    np.savez(tmp_path / "ct.npz", hu=volume().astype(np.float32))
    stack = read_stack(tmp_path / "ct.npz")
    low, high = stack.x_range
    unit = (torch.from_numpy(stack.values) - low) / (high - low)
    for x_range in (stack.x_range, None):
        x = torch.from_numpy(stack.values) if x_range else unit
        std = (1.0 if x_range is None else high - low) * 0.1 * unit.abs()
        found = [
            Restored("", x[k], std[k], interval=(x[k] - std[k], x[k] + std[k]), x_range=x_range)
            for k in range(len(stack))
        ]
        files = {p.stem: read_stack(p).values for p in write_values(tmp_path / "out", stack, found)}
        exact = 0.1 * (high - low) * unit.numpy()
        np.testing.assert_allclose(files["std"], exact, atol=0.01)
        np.testing.assert_allclose(files["result"], stack.values, atol=0.01)
        np.testing.assert_allclose(files["high"] - files["low"], 2 * exact, atol=0.01)


def test_methods_beside_are_judged_in_the_units_of_the_file(tmp_path):
    np.save(tmp_path / "ct.npy", volume())
    given = {"noise": 20.0, "method": "tv", "simulate": True, "beside": ("tv",)}
    for one in restore(tmp_path / "ct.npy", "denoising", **given):
        assert one.summary["beside"]["tv"]["psnr"] == pytest.approx(one.summary["result"]["psnr"])


def test_files_are_mapped_as_the_prior_was_trained(tmp_path):
    flow = flows.build("glow", (1, 8, 8), levels=1, steps=1, hidden=4, noise=(0.01, 0.4))
    initialize(flow, torch.rand(8, 1, 8, 8), 0.1)
    flow.x_range, flow.units = (-1024.0, 976.0), "HU"
    flow.save_pretrained(tmp_path / "run" / "model")
    assert (
        load(tmp_path / "run").x_range == (-1024.0, 976.0) and load(tmp_path / "run").units == "HU"
    )
    np.save(tmp_path / "ct.npy", volume().astype(np.int16))
    run = {"prior": str(tmp_path / "run"), "method": "pnp", "steps": 2}
    results = restore(tmp_path / "ct.npy", "denoising", noise=60, **run)
    assert all(
        r.x_range == (-1024.0, 976.0) and r.summary["range"] == (-1024.0, 976.0) for r in results
    )
    for bad in ([1, 0], [0], "x", [0, float("inf")]):
        config = json.loads((tmp_path / "run" / "model" / CONFIG).read_text()) | {"x_range": bad}
        (tmp_path / "run" / "model" / CONFIG).write_text(
            json.dumps(config).replace("Infinity", "1e999")
        )
        with pytest.raises(InputError):
            load(tmp_path / "run")


def test_generators_keep_their_range(tmp_path):
    vae = generators.build("vae", (1, 8, 8), latent=2, width=4)
    vae.x_range = (0.0, 4095.0)
    vae.save_pretrained(tmp_path)
    assert load(tmp_path).x_range == (0.0, 4095.0)


def test_what_cannot_be_read_does_not_stop_the_rest(tmp_path):
    np.save(tmp_path / "a.npy", volume().astype(np.float32))
    (tmp_path / "b.npy").write_bytes(b"broken")
    results = restore(
        tmp_path, "denoising", noise=50, keep_failures=True, out=tmp_path / "out", **TV
    )
    assert [r.error is None for r in results] == [True, True, True, True, False]
    assert (tmp_path / "out" / "a" / "result.npy").exists() and not (
        tmp_path / "out" / "b"
    ).exists()
    with pytest.raises(InputError, match="b.npy"):
        restore(tmp_path, "denoising", noise=50, **TV)


def test_the_noise_of_slices_differs():
    """A simulated stack with one noise in all slices would average to it."""
    import tempfile

    folder = tempfile.mkdtemp()
    np.save(
        folder + "/flat.npy", np.zeros((4, 8, 8), np.float32) + np.arange(8, dtype=np.float32) * 100
    )
    results = restore(folder + "/flat.npy", "denoising", noise=20, simulate=True, **TV)
    first, *rest = [r.image for r in results]
    assert all(not torch.allclose(first, x, atol=0.1) for x in rest)


@pytest.mark.parametrize("shape", [(24, 20), (1, 24, 20), (3, 24, 20), (2, 1, 24, 20)])
def test_arrays_in_units_come_back_in_them(shape, tmp_path):
    values = np.rint(volume(4)[: int(np.prod(shape[:-2]))].reshape(shape)).astype(np.int16)
    np.save(tmp_path / "ct.npy", values)
    results = restore(tmp_path / "ct.npy", "denoising", noise=1, out=tmp_path / "out", **TV)
    written = np.load(tmp_path / "out" / "result.npy")
    assert written.dtype == np.int16 and written.shape == shape
    assert all(r.x_range == (values.min(), values.max()) for r in results)
    assert np.abs(written - values.astype(float)).max() < 12


def test_whole_numbers_on_a_given_range_are_values_of_it():
    values = np.rint(100 + 0.05 * volume(1)).astype(np.uint8)
    (one,) = restore(values, "denoising", noise=1, x_range=(0, 255), **TV)
    assert np.abs(one.image.numpy() - values).max() < 4
    (one,) = restore(257 * values.astype(np.uint16), "denoising", noise=1e-3, **TV)
    assert np.abs(255 * one.image.numpy() - values).max() < 4
