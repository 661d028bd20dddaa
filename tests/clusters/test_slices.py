"""Slices of a stack by the workers of a cluster: bit for bit what one machine finds."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import innverse
from innverse import flows
from innverse.data import read_stack
from innverse.restoration import many, restore

HU = np.random.default_rng(0).integers(-300, 700, (5, 8, 8)).astype(np.int16)


def prior():
    torch.manual_seed(0)
    flow = flows.build("glow", (1, 8, 8), levels=1, steps=1, hidden=8, noise=(0.02, 0.5))
    with torch.no_grad():
        for p in flow.parameters():
            p.add_(0.05 * torch.randn_like(p))
    flow.x_range, flow.units = (-1000.0, 2000.0), "HU"
    return flow.eval()


def told(folder) -> dict:
    """result.json without what a clock and a place say."""
    found = json.loads((folder / "result.json").read_text())
    for one in found["slices"]:
        del one["seconds"], one["folder"]
    return found


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("pnp", {"steps": 2}),
        ("tv", {"steps": 20, "simulate": True}),
        ("posterior", {"draws": 8, "chains": 2, "warmup": 4, "steps": 2}),
    ],
)
def test_a_stack_is_solved_as_on_one_machine(tmp_path, inside, monkeypatch, method, options):
    prior().save_pretrained(tmp_path / "prior")
    monkeypatch.setattr(many, "_PIXELS", 2 * 64)  # two slices a chunk
    pytest.importorskip("tifffile").imwrite(tmp_path / "ct.tif", HU)
    given = {
        "noise": 60.0,
        "prior": str(tmp_path / "prior"),
        "method": method,
        "seed": 3,
        **options,
    }
    here = restore(tmp_path / "ct.tif", "denoising", out=tmp_path / "here", **given)
    with innverse.cluster(inside):
        there = restore(tmp_path / "ct.tif", "denoising", out=tmp_path / "there", **given)
    assert len(here) == len(there) == len(HU)
    for a, b in zip(here, there, strict=True):
        assert a.source == b.source and a.x_range == b.x_range
        assert method == "tv" or a.x_range == (-1000.0, 2000.0)  # which asks no prior
        assert torch.equal(a.image, b.image)
        assert (a.std is None) == (b.std is None) == (method != "posterior")
        if a.std is not None:
            assert torch.equal(a.std, b.std)
            assert all(torch.equal(*ends) for ends in zip(a.interval, b.interval, strict=True))
    assert told(tmp_path / "here") == told(tmp_path / "there")
    names = sorted(path.name for path in (tmp_path / "here").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "there").iterdir())
    for name in names:
        if name.endswith(".tif"):
            one, other = (read_stack(tmp_path / place / name) for place in ("here", "there"))
            assert np.array_equal(one.values, other.values)
    pictures = [(tmp_path / place / "panel.png").read_bytes() for place in ("here", "there")]
    assert method != "tv" or pictures[0] == pictures[1]  # others say how long they took


def test_files_of_one_slice_each_are_shared_out_too(tmp_path, inside):
    tifffile = pytest.importorskip("tifffile")
    (tmp_path / "slices").mkdir()
    for k, values in enumerate(HU):
        tifffile.imwrite(tmp_path / "slices" / f"{k}.tif", values)
    given = {"noise": 60.0, "method": "tv", "steps": 20}
    here = [restore(tmp_path / "slices" / f"{k}.tif", "denoising", **given)[0] for k in range(5)]
    with innverse.cluster(inside):
        there = restore(tmp_path / "slices", "denoising", out=tmp_path / "out", **given)
    for k, (a, b) in enumerate(zip(here, there, strict=True)):
        torch.testing.assert_close(a.image, b.image, atol=1e-3, rtol=1e-5)
        assert read_stack(tmp_path / "out" / f"{k}" / "result.tif").values.dtype == np.int16
