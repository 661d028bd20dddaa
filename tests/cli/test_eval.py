"""``innverse eval`` with a small untrained prior: protocol, format, errors."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import innverse
from innverse.data import read_image
from innverse.flows.denoise import denoise


def test_denoising_follows_the_protocol(run, models, photos):
    code, out, _ = run(
        "eval", "denoise", "--data", "odd.png", "--sigma", 25, "--model", models / "gray",
        "--views", 2, "--json",
    )  # fmt: skip
    assert code == 0
    assert {"psnr", "ssim", "n", "per_image", "seconds"} <= set(out)
    assert out["n"] == 1 and out["per_image"][0]["name"] == "odd.png"
    # by hand: noise of seed 0, result clipped, PSNR on 255
    x = read_image("odd.png").tensor[None]
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    found = denoise(innverse.load(models / "gray"), x + 25 / 255 * noise, 25 / 255, 2)
    mse = (255 * (found.clamp(0, 1) - x)).double().square().mean()
    assert out["psnr"] == pytest.approx(10 * math.log10(255**2 / float(mse)), abs=1e-3)


def test_several_levels_give_a_table(run, models, photos):
    base = ["eval", "denoise", "--data", ".", "--model", models / "gray", "--views", 1]
    code, out, _ = run(*base, "--sigma", 15, 50)
    assert code == 0
    assert "15" in out and "50" in out and "PSNR" in out
    code, out, _ = run(*base, "--sigma", 15, "--sigma", 50, "--json")
    assert [r["sigma"] for r in out["results"]] == [15, 50]
    assert [r["n"] for r in out["results"]] == [4, 4]


def test_inpainting_beside_total_variation(run, models, photos):
    code, out, _ = run(
        "eval", "inpaint", "--data", "gray.png", "--keep", 0.5, "--compare", "tv", "--steps", 3,
        "--model", models / "gray", "--json",
    )  # fmt: skip
    assert code == 0
    assert out["keep"] == 0.5 and out["n"] == 1
    assert out["tv"]["psnr"] > 20 and out["per_image"][0]["tv"]["psnr"] == out["tv"]["psnr"]
    assert 5 < out["psnr"] < out["tv"]["psnr"]  # the prior is untrained


def test_the_seed_decides_the_noise(run, models, photos):
    def psnr(*more):
        _, out, _ = run(
            "eval", "denoise", "--data", "gray.png", "--sigma", 25, "--views", 1,
            "--model", models / "gray", "--json", *more,
        )  # fmt: skip
        return out["psnr"]

    assert psnr() == psnr("--seed", 0) != psnr("--seed", 1)


@pytest.mark.parametrize(
    "arguments, code, words",
    [
        (["denoise", "--data", "nowhere", "--sigma", 25], 4, "no such file"),
        (["denoise", "--data", "gray.png", "--sigma", 250], 2, "0 to 255"),
        (["denoise", "--data", "gray.png"], 2, "sigma"),
        (["denoise", "--data", "gray.png", "--sigma", 25, "--views", 0], 2, "--views"),
        (["inpaint", "--data", "gray.png", "--keep", 1.5], 2, "keep"),
        (["deblur", "--data", "gray.png", "--kernel", "gausian:2"], 2, "gausian"),
        (["deblur", "--data", "gray.png", "--method", "nosuch"], 2, "nosuch"),
        (["deblur", "--data", "gray.png", "--method", "tv", "--views", 2], 2, "no option 'views"),
        (["sr", "--data", "gray.png", "--factor", 0], 2, "factor"),
        (["ct", "--data", "gray.png", "--photons", 0], 2, "photons"),
        (["ct", "--data", "gray.png", "--span", 200], 2, "span"),
        (["mri", "--data", "gray.png", "--acceleration", 0.5], 2, "acceleration"),
    ],
)
def test_mistakes_get_one_line_and_a_code(run, models, photos, arguments, code, words):
    got, out, err = run("eval", *arguments, "--model", models / "gray")
    assert got == code
    assert words in err and len(err.strip().splitlines()) == 1 and not out


def test_a_model_without_noise_level_is_refused(run, models, photos):
    code, _, err = run(
        "eval", "denoise", "--data", "gray.png", "--sigma", 25, "--model", models / "plain"
    )
    assert code == 2 and "noise" in err


@pytest.mark.parametrize(
    "verb, flags, settings",
    [
        ("deblur", ["--kernel", "motion:5:30", "--noise", 0.05], {"kernel": "motion:5:30"}),
        ("sr", ["--factor", 3], {"factor": 3, "noise": 0.01}),
        ("ct", ["--angles", 40, "--photons", 1e6, "--span", 150], {"angles": 40, "span": 150}),
        ("mri", ["--acceleration", 3, "--coils", 4], {"acceleration": 3, "coils": 4}),
    ],
)
def test_other_measurements_have_the_same_form(run, photos, verb, flags, settings):
    code, out, _ = run("eval", verb, "--data", "gray.png", "--method", "tv", *flags, "--json")
    assert code == 0
    assert {"psnr", "ssim", "n", "per_image", "seconds", "task", "converged"} <= set(out)
    assert settings.items() <= out.items()
    assert out["method"] == "tv" and out["task"].startswith(verb)
    assert out["n"] == 1 and out["psnr"] == out["per_image"][0]["psnr"] > 20


def test_auto_takes_the_model_and_combinations_are_rows(run, models, photos):
    code, out, _ = run(
        "eval", "deblur", "--data", "gray.png", "--kernel", "gaussian:1", "gaussian:2", "--noise",
        0.01, 0.05, "--steps", 3, "--model", models / "gray", "--json",
    )  # fmt: skip
    assert code == 0
    found = [(r["kernel"], r["noise"], r["method"]) for r in out["results"]]
    assert found == [(f"gaussian:{w}", n, "pnp") for w in (1, 2) for n in (0.01, 0.05)]


def test_pictures_smaller_than_the_window_of_ssim_have_none(run):
    given = ["--data", "digits", "--method", "tv", "--steps", 1, "--quiet"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "innverse.data.sources.arrays.digits", lambda: np.full((2, 1, 8, 8), 99, np.uint8)
        )
        code, out, _ = run("eval", "denoise", "--sigma", 25, *given, "--json")
        assert code == 0 and out["ssim"] is None and out["psnr"] > 10
        assert run("eval", "denoise", "--sigma", 25, *given, "--compare", "tv")[0] == 0
