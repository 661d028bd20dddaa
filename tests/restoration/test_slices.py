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
from innverse.restoration import restore
from innverse.zoo import load

TV = {"method": "tv", "steps": 200}


def volume(n=3, height=24, width=20) -> np.ndarray:
    """Slices (n, H, W) of a smooth body with an edge, in Hounsfield units."""
    y, x = np.mgrid[:height, :width]
    slices = [
        400 * np.sin(x / 5 + k) + 300 * np.cos(y / 7) + 500 * (x > width / 2) for k in range(n)
    ]
    return np.stack(slices)


def test_a_stack_is_what_its_slices_are_one_by_one(tmp_path):
    values = (volume() + np.random.default_rng(0).normal(0, 50, (3, 24, 20))).astype(np.float32)
    np.save(tmp_path / "ct.npy", values)
    low, high = float(values.min()), float(values.max())
    results = restore(tmp_path / "ct.npy", "denoising", noise=50, out=tmp_path / "out", **TV)
    assert [r.source for r in results] == [f"{tmp_path / 'ct.npy'}[{k}]" for k in range(3)]
    written = np.load(tmp_path / "out" / "result.npy")
    assert written.dtype == np.float32 and written.shape == values.shape
    for k, r in enumerate(results):
        one = restore(values[k][None], "denoising", noise=50, x_range=(low, high), **TV)[0]
        np.testing.assert_allclose(r.image, one.image, atol=1e-3 * (high - low))
        np.testing.assert_array_equal(written[k], r.image[0])
        assert r.x_range == pytest.approx((low, high))
    record = json.loads((tmp_path / "out" / "result.json").read_text())
    assert len(record["slices"]) == 3 and record["files"] == ["result.npy"]
    assert (tmp_path / "out" / "panel.png").exists()


def test_sixteen_bits_are_black_and_white_and_written_as_such(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    values = np.rint(30 * (volume() + 1000)).astype(np.uint16)
    tifffile.imwrite(tmp_path / "stack.tif", values, metadata=None, description="sample 4")
    results = restore(tmp_path / "stack.tif", "denoising", noise=1e-5, out=tmp_path / "out", **TV)
    assert all(r.x_range is None and 0 <= r.image.min() < r.image.max() <= 1 for r in results)
    again = read_stack(tmp_path / "out" / "result.tif")
    assert again.values.dtype == np.uint16
    np.testing.assert_allclose(again.values[:, 0].astype(float), values.astype(float), atol=30)


class Posterior(torch.nn.Module):
    """N(1/2, .1^2 I), as a density of pictures: what it knows of denoising is known exactly."""

    shape = latent_shape = (1, 24, 20)

    def decode(self, z):
        return 0.5 + 0.1 * z

    def encode(self, x):
        return (x - 0.5) / 0.1

    def log_prob(self, x):
        return -(self.encode(x).square() / 2).flatten(1).sum(1)

    def sample(self, n, generator=None):
        return self.decode(torch.randn((n, *self.shape), generator=generator))


def test_error_bars_are_in_the_units_of_the_file(tmp_path):
    """The posterior of a Gaussian prior is known: its deviation in units is 1/sqrt(1/p^2 + 1/s^2)."""
    span = 2000.0
    values = (span * (0.5 + 0.1 * np.random.default_rng(0).normal(size=(2, 1, 24, 20)))).astype(
        np.float32
    )
    values[0, 0, 0, :2] = 0, span  # the range
    np.savez(tmp_path / "ct.npz", hu=values[:, 0])
    results = restore(
        tmp_path / "ct.npz", "denoising", noise=100, prior=Posterior(), method="posterior",
        out=tmp_path / "out", x_range=(0, span), chains=16, draws=20, warmup=60,
    )  # fmt: skip
    exact = 1 / np.sqrt(1 / (0.1 * span) ** 2 + 1 / 100**2)
    std, low, high, mean = (
        read_stack(tmp_path / "out" / f"{name}.npz").values
        for name in ("std", "low", "high", "result")
    )
    assert np.median(std) == pytest.approx(exact, rel=0.1)
    assert np.median(high - low) == pytest.approx(2 * 1.645 * exact, rel=0.1)
    assert ((low <= mean) & (mean <= high)).mean() > 0.99
    assert all(r.draws is None and r.interval is not None for r in results)


def test_files_are_mapped_as_the_prior_was_trained(tmp_path):
    flow = flows.build("glow", (1, 8, 8), levels=1, steps=1, hidden=4, noise=(0.01, 0.4))
    initialize(flow, torch.rand(8, 1, 8, 8), 0.1)
    flow.x_range, flow.units = (-1024.0, 976.0), "HU"
    flow.save_pretrained(tmp_path / "run" / "model")
    assert (
        load(tmp_path / "run").x_range == (-1024.0, 976.0) and load(tmp_path / "run").units == "HU"
    )
    np.save(tmp_path / "ct.npy", volume().astype(np.int16))
    results = restore(tmp_path / "ct.npy", "denoising", noise=60, prior=str(tmp_path / "run"))
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
    assert [r.error is None for r in results] == [True, True, True, False]
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
