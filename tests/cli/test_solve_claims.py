"""``innverse solve``: what it chooses, doubts and claims, and that its help says what the code does."""

from __future__ import annotations

import json

import numpy as np
import PIL.Image
import pytest

from innverse.data import read_image

STEPS = ("--steps", "3")


def strict(path):
    def refuse(word):
        raise AssertionError(f"{word} in {path}")

    return json.loads(path.read_text(), parse_constant=refuse)


def test_auto_is_the_default_and_says_why(run, models, photos):
    code, _, err = run("solve", "gray.png", "--physics", "denoising", "--noise", "0.05",
                       "--out", "r", "--prior", models / "gray")  # fmt: skip
    assert code == 0, err
    record = strict(photos / "r/result.json")
    assert record["method"] == "pnp" and "posterior mean" in record["reason"]
    assert record["noise"] == pytest.approx(0.05) and record["noise_ratio"] < 1.6


def test_options_lead_auto_to_a_method(run, models, photos):
    for flags, method in ((("--beta", "0.5"), "map"), (("--basis", "haar"), "lasso")):
        _, out, _ = run("solve", "gray.png", "--physics", "inpainting", "--mask", "mask.png",
                        "--out", "r", "--prior", models / "gray", "--json", *flags, *STEPS)  # fmt: skip
        assert out["results"][0]["method"] == method
    code, _, err = run("solve", "gray.png", "--physics", "inpainting", "--mask", "mask.png",
                       "--out", "s", "--prior", models / "gray", "--beta", "1",
                       "--basis", "haar")  # fmt: skip
    assert code == 2 and "no method knows all" in err and err.count("\n") == 1


def test_noise_auto_is_estimated_and_told(run, models, photos):
    x = np.full((64, 64), 0.5) + 0.1 * np.random.default_rng(0).normal(size=(64, 64))
    PIL.Image.fromarray((255 * x.clip(0, 1)).round().astype(np.uint8)).save("grainy.png")
    code, _, err = run("solve", "grainy.png", "--physics", "denoising", "--noise", "auto",
                       "--method", "tv", "--out", "r", "--prior", models / "gray")  # fmt: skip
    assert code == 0, err
    record = strict(photos / "r/result.json")
    assert record["noise"] == pytest.approx(0.1, rel=0.2)
    assert "the noise was estimated as 0." in err and "estimated" in record["notes"][0]
    code, _, err = run("solve", "grainy.png", "--physics", "denoising", "--noise", "0.3",
                       "--method", "tv", "--out", "r", "--prior", models / "gray")  # fmt: skip
    assert "noise=0.3 was given, but the data look like 0.1" in err


def test_a_hole_beyond_the_prior_is_told(run, models, photos):
    mask = np.full((24, 32), 255, np.uint8)
    mask[:, 4:28] = 0
    PIL.Image.fromarray(mask).save("large.png")
    _, _, err = run("solve", "gray.png", "--physics", "inpainting", "--mask", "large.png",
                    "--out", "r", "--prior", models / "gray", *STEPS)  # fmt: skip
    assert "pixels across was not measured" in err
    assert strict(photos / "r/result.json")["notes"]


def test_a_range_goes_in_and_comes_out(run, models, photos):
    x = read_image("gray.png").tensor.numpy()
    flags = ("--physics", "denoising", "--method", "tv", "--prior", models / "gray")
    np.save("unit.npy", x)
    np.save("ct.npy", (2000 * x - 1000).astype(np.float32))
    PIL.Image.fromarray((2000 * x[0] - 1000).astype(np.float32)).save("ct.tif")
    shape = ("--image-shape", "1x24x32")
    run("solve", "unit.npy", *flags, *shape, "--noise", "0.05", "--out", "a")
    run("solve", "ct.npy", *flags, *shape, "--noise", "100", "--range", "-1000:1000", "--out", "b")
    run("solve", "ct.tif", *flags, "--noise", "100", "--range", "-1000:1000", "--out", "c")
    unit = read_image("a/result.png").tensor
    for folder in ("b", "c"):
        assert (read_image(f"{folder}/result.png").tensor - unit).abs().max() < 0.01
        values = np.load(f"{folder}/result.npy")
        assert values.shape == (1, 24, 32)
        assert np.abs((values + 1000) / 2000 - unit.numpy()).max() < 0.01
        record = strict(photos / folder / "result.json")
        assert record["range"] == [-1000, 1000] and record["noise"] == pytest.approx(100)


def test_values_of_another_scale_are_refused_with_the_way_out(run, models, photos):
    np.save("y.npy", 255 * read_image("gray.png").tensor.numpy())
    code, _, err = run("solve", "y.npy", "--physics", "denoising", "--noise", "5", "--out", "r",
                       "--image-shape", "1x24x32", "--prior", models / "gray")  # fmt: skip
    assert code == 4 and "range" in err and err.count("\n") == 1
    for bad in ("1:0", "5", "a:b", "0:inf"):
        code, _, err = run("solve", "y.npy", "--physics", "denoising", "--noise", "5",
                           "--out", "r", "--range", bad, "--prior", models / "gray")  # fmt: skip
        assert code == 2 and "--range" in err and err.count("\n") == 1
    code, _, err = run("solve", "gray.png", "--physics", "denoising", "--noise", "5", "--out", "r",
                       "--range", "0:255", "--prior", models / "gray")  # fmt: skip
    assert code == 2 and "range" in err and err.count("\n") == 1


def test_nan_in_a_result_is_exit_3_in_words(run, models, photos, monkeypatch):
    import innverse.solvers

    solve = innverse.solvers.solve

    def spoiled(*args, **kwargs):
        result = solve(*args, **kwargs)
        result.x[:] = float("nan")
        result.residual[:] = float("inf")
        result.converged[:] = False
        result.status[:] = ["failed: the image holds NaN or Inf"] * len(result.status)
        return result

    monkeypatch.setattr(innverse.solvers, "solve", spoiled)
    code, _, err = run("solve", "gray.png", "--simulate", "--physics", "denoising", "--noise",
                         "0.1", "--out", "r", "--prior", models / "gray", "--json")  # fmt: skip
    assert code == 3 and "failed: the image holds NaN" in err and "Traceback" not in err
    assert strict(photos / "r/result.json")["residual"] is None


@pytest.mark.parametrize(
    "flags",
    [("--steps", "0"), ("--steps", "-5"), ("--sigma", "nan"), ("--sigma", "-1"), ("--beta", "nan"),
     ("--beta", "0"), ("--gamma", "-1"), ("--gamma", "inf"), ("--lam", "nan"), ("--restarts", "0"),
     ("--views", "0"), ("--views", "99"), ("--noise", "inf"), ("--noise", "1/0")],
    ids="=".join,
)  # fmt: skip
def test_absurd_values_are_one_line(run, models, photos, flags):
    code, _, err = run("solve", "gray.png", "--physics", "inpainting", "--mask", "mask.png",
                       "--out", "r", "--prior", models / "gray", f"{flags[0]}={flags[1]}")  # fmt: skip
    assert code == 2 and err.startswith("innverse: ") and err.count("\n") == 1, err
    assert flags[0] in err and not (photos / "r").exists()
