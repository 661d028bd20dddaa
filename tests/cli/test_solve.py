"""``innverse solve`` on files, with a small untrained prior."""

from __future__ import annotations

import json
import os

import numpy as np
import PIL.Image
import pytest
import torch

from innverse.data import read_image

STEPS = ("--steps", "3", "--views", "1")


def result_of(folder):
    return json.loads((folder / "result.json").read_text())


def test_inpainting_fills_the_hole_and_keeps_the_rest(run, models, photos):
    code, out, _ = run(
        "solve", "gray.png", "--physics", "inpainting", "--mask", "mask.png", "--out", "r",
        "--prior", models / "gray", *STEPS,
    )  # fmt: skip
    assert code in (0, 3)  # an untrained prior need not converge
    assert "gray.png" in out and "32x24" in out
    assert sorted(os.listdir("r")) == ["panel.png", "result.json", "result.png"]
    given, found = read_image("gray.png").tensor, read_image("r/result.png").tensor
    assert found.shape == given.shape
    known = torch.ones(24, dtype=torch.bool)
    known[8:12] = False
    assert (given - found)[:, known].abs().max() < 0.02
    assert (given - found)[:, ~known].abs().max() > 0.02  # y is zero there: it was really hidden
    record = result_of(photos / "r")
    assert record["physics"] == {"name": "inpainting", "mask": "mask.png", "noise": None}
    assert len(record["trace"]) == 3 and record["result"] is None


def test_simulation_reports_quality(run, models, photos):
    code, out, _ = run(
        "solve", "gray.png", "--simulate", "--physics", "denoising", "--noise", "25/255",
        "--out", "r", "--prior", models / "gray", "--json", *STEPS,
    )  # fmt: skip
    assert code in (0, 3)
    (record,) = out["results"]
    assert record["degraded"]["psnr"] == pytest.approx(20.2, abs=0.7)  # -20 log10(25/255), clipped
    assert record["result"]["psnr"] > 5 and 0 < record["result"]["ssim"] <= 1
    assert PIL.Image.open("r/panel.png").width > 3 * 256
    assert result_of(photos / "r")["degraded"] == record["degraded"]


@pytest.mark.parametrize(
    "flags",
    [
        ("blur", "--kernel", "motion:5:30", "--noise", "0.02"),
        ("blur", "--kernel", "gaussian:1.2", "--boundary", "valid"),
        ("downsampling", "--factor", "2"),
        ("compressed_sensing", "--ratio", "0.5"),
        ("fourier", "--acceleration", "2"),
    ],
    ids=lambda flags: "-".join(flags[::2]),
)
def test_every_operator_solves_gray_and_color_with_a_gray_prior(run, models, photos, flags):
    code, out, err = run(
        "solve", "gray.png", "color.png", "odd.png", "--simulate", "--physics", *flags,
        "--out", "r", "--prior", models / "gray", "--json", *STEPS,
    )  # fmt: skip
    assert code in (0, 3), err
    assert [r["size"] for r in out["results"]] == [[1, 24, 32], [3, 24, 32], [1, 17, 23]]
    for r in out["results"]:
        found = read_image(photos / r["folder"] / "result.png")
        assert list(found.tensor.shape) == r["size"]
        assert r["result"]["psnr"] > 8, r["file"]


@pytest.mark.parametrize(
    "flags",
    [
        ("latent", "--gamma", "0.1", "--start", "random", "--restarts", "2"),
        ("map", "--beta", "0.5"),
        ("adaptive", "--restarts", "1"),
        ("deep_decoder",),
        ("lasso", "--lam", "0.01", "--basis", "haar"),
        ("tv", "--lam", "0.02"),
    ],
    ids=lambda flags: flags[0],
)
def test_every_method_solves(run, models, photos, flags):
    code, out, err = run(
        "solve", "gray.png", "--simulate", "--physics", "compressed_sensing", "--ratio", "0.5",
        "--out", "r", "--prior", models / "gray", "--json", "--steps", "3", "--method", *flags,
    )  # fmt: skip
    assert code in (0, 3), err
    (record,) = out["results"]
    assert record["method"] == flags[0] and 0 < record["result"]["psnr"] < 60


DRAWN = {
    "result.png", "panel.png", "result.json", "std.png", "interval.png", "draws.png", "draws.gif",
    "draws.npz", "report.html",
}  # fmt: skip


def test_posterior_draws_of_a_folder_come_with_their_error_bars(run, models, photos):
    code, out, err = run(
        "solve", "gray.png", "color.png", "--simulate", "--physics", "inpainting", "--keep", "0.7",
        "--noise", "0.1", "--out", "r", "--prior", models / "gray", "--method", "posterior",
        "--draws", "12", "--chains", "2", "--warmup", "4", "--steps", "3",
    )  # fmt: skip
    assert code == 3, err  # so few draws are not to be believed, and the page says so
    assert "90 % holds" in out and "R-hat" in out
    for name, channels in (("gray", 1), ("color", 3)):
        folder = photos / "r" / name
        assert {p.name for p in folder.iterdir()} == DRAWN
        with np.load(folder / "draws.npz") as kept:
            assert kept["draws"].shape == (12, channels, 24, 32)
            assert (kept["low"] <= kept["high"]).all() and kept["std"].shape == (channels, 24, 32)
        told = result_of(folder)["posterior"]
        assert told["quantity"] == "u = x + 0.02 e" and 0 <= told["unseen"] <= 1
        assert 0 <= told["coverage"]["u"]["90 %"] <= 1
        assert "Do not rely on these error bars yet" in (folder / "report.html").read_text()
        with PIL.Image.open(folder / "std.png") as picture:
            colours = {c for _, c in picture.getcolors(picture.width * picture.height)}
        assert {(68, 1, 84), (253, 231, 37)} <= colours  # both ends of the scale


def test_options_of_another_method_are_refused(run, models, photos):
    code, _, err = run(
        "solve", "gray.png", "--physics", "denoising", "--noise", "0.1", "--out", "r",
        "--prior", models / "gray", "--method", "pnp", "--gamma", "1",
    )  # fmt: skip
    assert code == 2 and "--gamma means nothing to --method pnp" in err and not os.path.exists("r")


def test_superresolution_of_a_small_file(run, models, photos):
    code, out, _ = run(
        "solve", "color.png", "--physics", "downsampling", "--factor", "3", "--out", "r",
        "--prior", models / "color", "--json", *STEPS,
    )  # fmt: skip
    assert code in (0, 3)
    assert out["results"][0]["size"] == [3, 72, 96]
    assert read_image("r/result.png").tensor.shape == (3, 72, 96)


@pytest.mark.parametrize(("method", "prior"), [("latent", "plain"), ("map", "gray")])
def test_other_methods(run, models, photos, method, prior):
    code, out, _ = run(
        "solve", "gray.png", "--simulate", "--physics", "inpainting", "--method", method,
        "--out", "r", "--prior", models / prior, "--json", "--steps", "8",
    )  # fmt: skip
    assert code in (0, 3)
    assert out["results"][0]["method"] == method
    assert out["results"][0]["log_prob"] is not None


def test_a_prior_without_noise_levels_solves_in_latent_space_by_default(run, models, photos):
    _, out, _ = run(
        "solve", "gray.png", "--simulate", "--physics", "inpainting", "--out", "r",
        "--prior", models / "plain", "--json", "--steps", "2",
    )  # fmt: skip
    assert out["results"][0]["method"] == "latent"


def test_a_file_has_the_same_result_alone_and_in_a_batch(run, models, photos):
    flags = ("--simulate", "--physics", "denoising", "--noise", "0.1", "--prior", models / "gray",
             *STEPS)  # fmt: skip
    PIL.Image.open("gray.png").rotate(180).save("turned.png")
    run("solve", "gray.png", "--out", "alone", *flags)
    run("solve", "turned.png", "gray.png", "--out", "both", *flags)
    alone = np.asarray(PIL.Image.open("alone/result.png")).astype(int)
    both = np.asarray(PIL.Image.open("both/gray/result.png")).astype(int)
    assert np.abs(alone - both).max() <= 1


def test_a_folder_is_solved_and_bad_files_are_listed(run, models, photos):
    (photos / "in").mkdir()
    for name in ("gray", "odd"):
        os.rename(f"{name}.png", f"in/{name}.png")
    (photos / "in/text.png").write_text("not an image")
    (photos / "in/cut.png").write_bytes((photos / "in/gray.png").read_bytes()[:80])
    (photos / "in/readme.txt").write_text("skipped")
    code, out, err = run(
        "solve", "in", "--physics", "denoising", "--noise", "0.1", "--out", "r",
        "--prior", models / "gray", "--json", *STEPS,
    )  # fmt: skip
    assert code == 4
    assert [os.path.basename(r["file"]) for r in out["results"]] == ["gray.png", "odd.png"]
    assert [os.path.basename(f["file"]) for f in out["failures"]] == ["cut.png", "text.png"]
    assert "2 of 4 files failed" in err and "text.png is not an image" in err
    assert sorted(os.listdir("r")) == ["gray", "odd"]


def test_equal_stems_do_not_overwrite_each_other(run, models, photos):
    PIL.Image.open("gray.png").save("gray.bmp")
    run("solve", "gray.png", "gray.bmp", "--physics", "denoising", "--noise", "0.1", "--out", "r",
        "--prior", models / "gray", *STEPS)  # fmt: skip
    assert sorted(os.listdir("r")) == ["gray", "gray-2"]


def test_16_bit_gray_stays_16_bit(run, models, photos):
    deep = np.linspace(0, 65535, 24 * 32).reshape(24, 32).astype(np.uint16)
    PIL.Image.fromarray(deep).save("deep.png")
    run("solve", "deep.png", "--physics", "denoising", "--noise", "0.05", "--out", "r",
        "--prior", models / "gray", *STEPS)  # fmt: skip
    assert PIL.Image.open("r/result.png").mode.startswith("I;16")


def test_rgba_and_palette(run, models, photos):
    PIL.Image.open("color.png").convert("RGBA").save("rgba.png")
    PIL.Image.open("color.png").convert("P").save("palette.png")
    code, out, _ = run(
        "solve", "rgba.png", "palette.png", "--physics", "denoising", "--noise", "0.1",
        "--out", "r", "--prior", models / "color", "--json", *STEPS,
    )  # fmt: skip
    assert code in (0, 3)
    assert [r["size"][0] for r in out["results"]] == [3, 3]


def test_a_gray_picture_saved_in_colour_is_solved_once(run, models, photos):
    PIL.Image.open("gray.png").convert("RGB").save("three.png")
    _, out, _ = run(
        "solve", "three.png", "--physics", "denoising", "--noise", "0.1", "--out", "r",
        "--prior", models / "gray", "--json", *STEPS,
    )  # fmt: skip
    assert out["results"][0]["size"] == [1, 24, 32]


def test_measurement_as_an_array(run, models, photos):
    from innverse import physics

    x = read_image("gray.png").tensor[None, :, :16, :16]
    np.save("y.npy", physics.build("compressed_sensing", (1, 16, 16), ratio=0.9).A(x).numpy())
    flags = ("--physics", "compressed_sensing", "--ratio", "0.9", "--out", "r",
             "--prior", models / "gray", *STEPS)  # fmt: skip
    code, _, err = run("solve", "y.npy", *flags)
    assert code == 2 and "--image-shape" in err
    code, _, err = run("solve", "y.npy", "--image-shape", "1x16x16", *flags)
    assert code in (0, 3), err
    found = read_image("r/result.png").tensor
    assert found.shape == (1, 16, 16)
    assert (found - x[0]).abs().mean() < 0.15
    code, _, err = run("solve", "y.npy", "--image-shape", "1x16x20", *flags)
    assert code == 4 and "(288,)" in err


def test_nan_in_a_measurement(run, models, photos):
    y = np.full((1, 16, 16), 0.5, np.float32)
    y[0, 3, 4] = np.nan
    np.save("y.npy", y)
    code, _, err = run(
        "solve", "y.npy", "--image-shape", "1x16x16", "--physics", "denoising", "--noise", "0.1",
        "--out", "r", "--prior", models / "gray",
    )  # fmt: skip
    assert code == 4 and "1 NaN" in err and err.count("\n") == 1
    assert not os.path.exists("r")


# ---- bad input: one line, the right code, nothing written --------------------------------------

BAD = {
    "missing file": (("none.png", "--physics", "denoising", "--noise", "0.1"), 4, "no such file"),
    "no noise": (("gray.png", "--physics", "denoising"), 2, "--noise"),
    "negative noise": (("gray.png", "--physics", "denoising", "--noise=-1"), 2, ">= 0"),
    "noise is a word": (("gray.png", "--physics", "denoising", "--noise", "lots"), 2, "lots"),
    "unknown physics": (("gray.png", "--physics", "magic"), 2, "magic"),
    "foreign option": (("gray.png", "--physics", "blur", "--factor", "2"), 2, "--factor"),
    "no mask": (("gray.png", "--physics", "inpainting"), 2, "--mask"),
    "missing mask": (("gray.png", "--physics", "inpainting", "--mask", "no.png"), 4, "no.png"),
    "mask of another size": (
        ("odd.png", "--physics", "inpainting", "--mask", "mask.png"), 4, "32x24"
    ),
    "no kernel": (("gray.png", "--physics", "blur"), 2, "--kernel"),
    "bad kernel": (("gray.png", "--physics", "blur", "--kernel", "motion:x"), 2, "motion:x"),
    "picture as projections": (("gray.png", "--physics", "compressed_sensing"), 2, "--simulate"),
    "empty folder": (("empty", "--physics", "denoising", "--noise", "0.1"), 4, "no image files"),
    "zero steps": (
        ("gray.png", "--physics", "denoising", "--noise", "0.1", "--steps", "0"), 2, "--steps"
    ),
    "small tile": (
        ("gray.png", "--physics", "denoising", "--noise", "0.1", "--tile", "8"), 2, "--tile"
    ),
    "unknown device": (
        ("gray.png", "--physics", "denoising", "--noise", "0.1", "--device", "abacus"), 2, "abacus"
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD, ids=lambda case: case.replace(" ", "-"))
def test_bad_input(run, models, photos, case):
    (photos / "empty").mkdir()
    argv, expected, words = BAD[case]
    code, out, err = run("solve", *argv, "--out", "r", "--prior", models / "gray")
    assert code == expected, err
    assert err.startswith("innverse: ") and err.count("\n") == 1, err
    assert words in err
    assert out == "" and not os.path.exists("r")


def test_gray_file_with_a_color_prior(run, models, photos):
    code, _, err = run("solve", "gray.png", "--physics", "denoising", "--noise", "0.1",
                       "--out", "r", "--prior", models / "color")  # fmt: skip
    assert code == 4 and "gray prior" in err


def test_an_unwritable_folder_is_noticed_before_computing(run, models, photos, monkeypatch):
    import innverse.solvers

    def never(*args, **kwargs):
        raise AssertionError("the computation was started")

    monkeypatch.setattr(innverse.solvers, "solve", never)
    (photos / "file").write_text("in the way")
    code, _, err = run("solve", "gray.png", "--physics", "denoising", "--noise", "0.1",
                       "--out", "file/r", "--prior", models / "gray")  # fmt: skip
    assert code == 1 and "file/r" in err and err.count("\n") == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(run, models, photos):
    (photos / "locked").mkdir(mode=0o500)
    code, _, err = run("solve", "gray.png", "--physics", "denoising", "--noise", "0.1",
                       "--out", "locked/r", "--prior", models / "gray")  # fmt: skip
    assert code == 1 and "no permission" in err


def test_a_full_disk_leaves_no_half_results(run, models, photos, monkeypatch):
    import errno

    def full(fd):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    code, _, err = run("solve", "gray.png", "--physics", "denoising", "--noise", "0.1",
                       "--out", "r", "--prior", models / "gray", *STEPS)  # fmt: skip
    assert code == 1 and "disk is full" in err
    assert os.listdir("r") == []


def test_unknown_and_damaged_priors(run, models, photos, tmp_path):
    flags = ("solve", "gray.png", "--physics", "denoising", "--noise", "0.1", "--out", "r")
    code, _, err = run(*flags, "--prior", "nobody")
    assert code == 2 and "nobody" in err
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in (models / "gray").iterdir():
        content = bytearray(file.read_bytes())
        if file.suffix == ".safetensors":
            content[len(content) // 2] ^= 1
        (broken / file.name).write_bytes(content)
    code, _, err = run(*flags, "--prior", broken)
    assert code == 4 and "damaged" in err and err.count("\n") == 1
    config = json.loads((models / "gray/config.json").read_text())
    (broken / "config.json").write_text(json.dumps(config | {"format_version": 99}))
    code, _, err = run(*flags, "--prior", broken)
    assert code == 4 and "99" in err


def test_a_result_that_did_not_converge(run, models, photos, monkeypatch):
    import innverse.solvers

    solve = innverse.solvers.solve

    def stopped(*args, **kwargs):
        result = solve(*args, **kwargs)
        result.converged[:] = False
        result.status[:] = ["not converged: stopped"] * len(result.status)
        return result

    monkeypatch.setattr(innverse.solvers, "solve", stopped)
    code, out, err = run("solve", "gray.png", "--physics", "denoising", "--noise", "0.1",
                         "--out", "r", "--prior", models / "gray", "--json", *STEPS)  # fmt: skip
    assert code == 3 and "not converged" in err
    assert out["results"][0]["converged"] is False and os.path.exists("r/result.png")


def test_a_measurement_is_a_picture_only_if_its_operator_says_so():
    """A sinogram has the axes of a picture, (B, 1, angles, detectors), and is none."""
    import torch

    from innverse import physics as P
    from innverse.restoration.jobs import Measured

    class Sinogram(P.LinearPhysics):
        def A(self, x):
            return torch.stack([x.sum(2), x.sum(3)], 2)

        def A_adjoint(self, y):
            return y[:, :, 0, None, :] + y[:, :, 1, :, None]

    physics = Sinogram((1, 8, 8))
    x = torch.rand(1, 1, 8, 8)
    seen = Measured(physics.A(x), physics, "").seen()
    assert seen.shape == x.shape
    torch.testing.assert_close(physics.A(seen), physics.A(x), atol=1e-4, rtol=0)
    blur = P.Blur(P.gaussian_kernel(1.0))
    assert torch.equal(Measured(x, blur, "").seen(), x)
