"""`innverse.restore`: files, folders, arrays and batches in, results and files out."""

from __future__ import annotations

import json

import numpy as np
import PIL.Image
import pytest
import torch

import innverse
from innverse import flows, physics, restore, solve
from innverse.bijections import initialize
from innverse.errors import InputError, ShapeError, UsageError
from innverse.restoration import run

TV = {"method": "tv", "steps": 300}


@pytest.fixture(scope="module")
def prior():
    torch.manual_seed(0)
    flow = flows.build("glow", (1, 16, 16), levels=1, steps=1, hidden=4, noise=(0.01, 0.4))
    initialize(flow, torch.rand(8, 1, 16, 16), 0.1)
    return flow.eval()


def picture(channels=1, side=16, seed=0):
    x = torch.rand(1, channels, 4, 4, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(x, (side, side), mode="bilinear")[0]


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    for k, name in enumerate(("a", "b")):
        values = (255 * picture(seed=k)[0]).round().to(torch.uint8).numpy()
        PIL.Image.fromarray(values).save(f"in/{name}.png")
    return tmp_path


def test_files_arrays_and_tensors_are_the_same_picture(files):
    pixels = np.asarray(PIL.Image.open("in/a.png"))
    float_ = torch.from_numpy(pixels.astype(np.float32) / 255)
    np.save("a.npy", pixels)
    same = [
        "in/a.png",
        pixels,
        pixels[None],
        float_,
        float_.double(),
        "a.npy",
        PIL.Image.open("in/a.png"),
    ]
    results = restore(same, "denoising", noise=0.1, **TV)
    for r in results:
        torch.testing.assert_close(r.image, results[0].image, atol=1e-6, rtol=0)
    want = solve(float_[None, None], physics.Denoising(0.1), None, **TV)
    torch.testing.assert_close(results[0].image, want.x[0], atol=1e-5, rtol=0)
    assert results[0].converged == bool(want.converged) and results[0].status == want.status[0]


def test_a_folder_is_solved_and_written(files):
    seen = []
    results = restore(
        "in", "denoising", noise=0.1, out="r", progress=lambda *told: seen.append(told), **TV
    )
    assert [r.source for r in results] == ["in/a.png", "in/b.png"]
    for r, name in zip(results, "ab", strict=True):
        assert sorted(f.name for f in r.files) == ["panel.png", "result.json", "result.png"]
        assert all(f.parent.name == name and f.is_file() for f in r.files)
        written = json.loads((files / "r" / name / "result.json").read_text())
        assert written["status"] == r.status and written["options"] == {"lam": None, "steps": 300}
    assert seen and all(0 <= done <= total for done, total, _ in seen)
    assert seen == sorted(seen, key=lambda told: told[0])
    (alone,) = restore("in/b.png", "denoising", noise=0.1, out="one", **TV)
    assert (files / "one/result.png").is_file()
    torch.testing.assert_close(alone.image, results[1].image, atol=1e-6, rtol=0)


def test_nothing_is_written_without_out(files):
    before = set(files.rglob("*"))
    (r,) = restore("in/a.png", "denoising", noise=0.1, **TV)
    assert r.files == [] and set(files.rglob("*")) == before


@pytest.mark.parametrize(
    ("name", "options"),
    [("tomography", {"angles": 40}), ("mri", {"coils": 6, "acceleration": 2}),
     ("fourier", {"center": 1}), ("compressed_sensing", {"ratio": 0.9}), ("blur", {"width": 0.5}),
     ("inpainting", {"keep": 0.9})],
    ids=lambda v: v if isinstance(v, str) else "",
)  # fmt: skip
def test_simulated_measurements_of_every_kind(name, options, prior):
    x = picture()
    (r,) = restore(
        x, name, simulate=True, noise=0.01, prior=prior, method="map", steps=30, **options
    )
    assert r.image.shape == x.shape and r.summary["result"]["psnr"] > 20
    key, value = next(iter(options.items()))
    assert r.summary["physics"][key] == value
    # the same by an operator that a user has built
    kept = {"seed": 0} if "seed" in physics.options(name) else {}
    own = physics.build(name, (1, 16, 16), sigma=0.01, **options, **kept)
    (other,) = restore(x, own, simulate=True, prior=prior, method="map", steps=30)
    torch.testing.assert_close(other.image, r.image, atol=1e-5, rtol=0)
    # and with its measurements in hand
    y = own(x[None], generator=torch.Generator().manual_seed(0))
    (third,) = restore(y, own, prior=prior, method="map", steps=30)
    torch.testing.assert_close(third.image, r.image, atol=1e-5, rtol=0)


def test_a_batch_of_sinograms_by_name(prior):
    own = physics.Tomography((1, 16, 16), 30)
    x = torch.stack([picture(seed=k) for k in range(3)])
    results = restore(
        own.A(x), "tomography", angles=30, noise=0.001, image_shape=(1, 16, 16), prior=prior,
        method="map", steps=60,
    )  # fmt: skip
    assert len(results) == 3
    for r, clean in zip(results, x, strict=True):
        assert (r.image - clean).square().mean() < 1e-3


def test_colour_under_a_gray_prior_is_solved_channel_by_channel(prior):
    x = picture(3)
    options = {"simulate": True, "keep": 0.8, "prior": prior, "method": "map", "steps": 5}
    (r,) = restore(x, "inpainting", **options)
    assert r.image.shape == x.shape
    # a sinogram too, since tomography sees each channel alike
    op = physics.Tomography((3, 16, 16), 20)
    (s,) = restore(
        op.A(x[None]), "tomography", angles=20, image_shape=(3, 16, 16), prior=prior, method="map",
        steps=40,
    )  # fmt: skip
    assert s.image.shape == x.shape and (s.image - x).square().mean() < 1e-2
    # operators that see all channels together are solved for all together
    fourier = physics.build("fourier", (3, 16, 16))
    y = fourier.A(x[None])
    (t,) = restore(y, "fourier", image_shape=(3, 16, 16), prior=prior, method="map", steps=40)
    assert t.image.shape == x.shape
    assert (fourier.A(t.image[None]) - y).square().mean() < 1e-3 * y.square().mean()


def test_a_complex_image_under_a_gray_prior(prior, tmp_path):
    """Its parts are solved together, and what is looked at is its magnitude."""
    op = physics.SubsampledFourier(torch.ones(16, 16), complex_image=True, noise=0.01)
    x = torch.cat((picture(), 0.5 * picture() - 0.4))
    restored = restore(op(x[None]), op, prior=prior, method="map", steps=40, out=tmp_path)[0]
    assert (restored.image - x).square().mean() < 1e-3
    shown = np.asarray(PIL.Image.open(tmp_path / "result.png")) / 255
    assert np.allclose(shown, x.norm(dim=0).clamp(0, 1), atol=0.08)
    colour = flows.build("glow", (3, 16, 16), levels=1, steps=1, hidden=4, noise=(0.01, 0.4))
    with pytest.raises(ShapeError, match="2 channels but the prior knows 3"):
        restore(op(x[None]), op, prior=colour.eval())


def kept_median(r):
    return r.draws.median(0).values.numpy()


def test_posterior_draws_are_given_and_written(tmp_path, prior):
    (r,) = restore(
        picture(), "inpainting", simulate=True, keep=0.7, noise=0.1, prior=prior, out=tmp_path,
        method="posterior", draws=16, chains=2, warmup=10, steps=4, seed=3,
    )  # fmt: skip
    assert r.draws.shape == (16, 1, 16, 16)
    torch.testing.assert_close(r.draws.mean(0), r.image, atol=1e-5, rtol=0)
    torch.testing.assert_close(r.draws.std(0), r.std, atol=1e-5, rtol=0)
    with np.load(tmp_path / "draws.npz") as kept:
        assert np.array_equal(kept["draws"], r.draws.numpy())
        assert np.array_equal(kept["mean"], r.image.numpy())
    record = json.loads((tmp_path / "result.json").read_text())
    summary = record["posterior"]
    assert summary["draws"] == 16 and set(summary["r_hat"]) == {"99 %", "largest"}
    assert summary["ess_bulk"]["median"] > 0
    assert record["options"]["seed"] == 3 and record["options"]["chains"] == 2
    assert {p.name for p in r.files} == {
        "result.png", "panel.png", "result.json", "std.png", "interval.png", "draws.png", "draws.gif",
        "draws.npz", "report.html",
    }  # fmt: skip
    with np.load(tmp_path / "draws.npz") as kept:
        low, high = kept["low"], kept["high"]
    assert (low <= kept_median(r)).all() and (kept_median(r) <= high).all()
    bytes_ = (255 * r.draws.clamp(0, 1)).round()
    changed = (
        1 + (bytes_[1:] != bytes_[:-1]).flatten(1).any(1).sum()
    )  # a rejected move stands longer
    with PIL.Image.open(tmp_path / "draws.gif") as film:
        assert abs(film.n_frames - int(changed)) <= 1 and film.size == (256, 256)
        first = np.asarray(film.convert("L"))[8::16, 8::16]
    assert np.abs(first - bytes_[0, 0].numpy()).max() <= 1
    assert set(summary["coverage"]) == {"u", "x"}
    assert summary["quantity"] == "u = x + 0.02 e"
    assert summary["std"]["largest"] == pytest.approx(float(r.std.max()))
    page = (tmp_path / "report.html").read_text()
    assert "u = x + 0.02 e" in page and "R-hat" in page and "data:image/gif" in page
    assert "holds the true u" in page and "holds the clean picture x" in page


def test_a_range_goes_in_and_comes_out():
    x = picture()
    (unit,) = restore(x, "denoising", noise=0.1, **TV)
    (wide,) = restore(2000 * x - 1000, "denoising", noise=200, x_range=(-1000, 1000), **TV)
    torch.testing.assert_close((wide.image + 1000) / 2000, unit.image, atol=1e-3, rtol=0)


def test_bad_inputs_are_one_line(files):
    (files / "in/text.png").write_text("no picture")
    with pytest.raises(InputError, match=r"text\.png is not an image"):
        restore("in", "denoising", noise=0.1, out="r", **TV)
    assert not (files / "r").exists()
    results = restore("in", "denoising", noise=0.1, out="r", keep_failures=True, **TV)
    assert [r.error is None for r in results] == [True, True, False]
    assert results[2].image is None and results[2].status.startswith("failed: ")
    x = picture()
    for match, call in {
        "noise": (x, "denoising", {}),
        "mask": (x, "inpainting", {}),
        "kernel": (x, "blur", {}),
        "unknown physics 'magic'": (x, "magic", {}),
        "gamma means nothing to method tv": (x, "denoising", {"noise": 0.1, "gamma": 1} | TV),
        "factor has no meaning for physics blur": (x, "blur", {"simulate": True, "factor": 2}),
        "image_shape": (x, "tomography", {"noise": 0.1}),
        "method='magic'": (x, "denoising", {"noise": 0.1, "method": "magic"}),
        "is no input": (3, "denoising", {"noise": 0.1}),
        "1 NaN": (x.clone().index_fill_(2, torch.tensor([2]), 0.5), "denoising", {"noise": 0.1} | TV),
        "simulate": (x, "denoising", {"noise": "auto", "simulate": True}),
        "mask or acceleration": (x, "mri", {"mask": "m.png", "acceleration": 2, "simulate": True}),
        "steps=0": (x, "denoising", {"noise": 0.1, "steps": 0}),
    }.items():  # fmt: skip
        inputs, name, options = call
        if match == "1 NaN":
            inputs[0, 3, 4] = float("nan")
        with pytest.raises((UsageError, InputError), match=match) as error:
            restore(inputs, name, **options)
        assert "\n" not in str(error.value)


def test_noise_in_grey_levels_is_told_from_noise_between_0_and_1(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    levels = (picture()[0].numpy() * 65535).astype(np.uint16)
    PIL.Image.fromarray(levels).save(tmp_path / "one.png")
    tifffile.imwrite(tmp_path / "stack.tif", np.stack([levels, levels]))
    for name in ("one.png", "stack.tif"):
        with pytest.raises(UsageError, match=r"noise 3000: .*, so give 3000/65535$"):
            restore(tmp_path / name, "denoising", noise=3000, **TV)
        restore(tmp_path / name, "denoising", noise="3000/65535", **TV)
    np.save(tmp_path / "units.npy", 1000 * picture().numpy() - 500)
    restore(tmp_path / "units.npy", "denoising", noise=30, **TV)


def test_it_is_a_public_name():
    assert innverse.restore is restore and "restore" in innverse.__all__


def test_pictures_too_large_for_a_method_are_solved_in_tiles(monkeypatch):
    x = torch.rand(1, 40, 36)
    given = {"simulate": True, "keep": 0.7, "method": "tv", "steps": 1000}
    (whole,) = innverse.restore(x, "inpainting", **given)
    monkeypatch.setattr(run, "_MOST_PIXELS", 1000)
    (found,) = innverse.restore(x, "inpainting", **given)
    assert torch.allclose(found.image, whole.image, atol=1e-4)
    assert found.converged and found.summary["method"] == "tv"
    for name, method in (("inpainting", "posterior"), ("compressed_sensing", "tv")):
        with pytest.raises(InputError, match="too many for method"):
            innverse.restore(x, name, simulate=True, method=method)


def test_slices_of_a_volume_share_one_operator(monkeypatch):
    made = []
    prepare = run.prepare

    def watched(*given):
        made.append(prepare(*given))
        return made[-1]

    monkeypatch.setattr(run, "prepare", watched)
    found = innverse.restore(
        torch.rand(3, 1, 24, 24), "mri", simulate=True, noise=0.01, method="tv", steps=5
    )
    assert len(found) == 3 and len({id(one.physics) for one in made}) == 1
