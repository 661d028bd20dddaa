"""VAE and GAN on the command line: the verbs that take them, and the words of those that do not."""

from __future__ import annotations

import os

import numpy as np
import PIL.Image
import pytest
import torch

from innverse import generators


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    home = tmp_path_factory.mktemp("generators")
    torch.manual_seed(0)
    for name in generators.names():
        model = generators.build(name, (1, 16, 16), latent=4, width=8)
        model.save_pretrained(home / name)
    return home


@pytest.fixture
def picture(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    y, x = np.mgrid[:16, :16]
    PIL.Image.fromarray((128 + 60 * np.sin(x / 3 + y / 5)).astype(np.uint8)).save("p.png")
    return tmp_path / "p.png"


@pytest.mark.parametrize("name", ["vae", "gan"])
def test_info(run, models, name):
    code, out, _ = run("info", models / name)
    assert code == 0 and "4 latents, this size only" in out
    parts = {"vae": ("encoder: DownPyramid 1 -> 8", "decoder: UpPyramid 4 -> "),
             "gan": ("critic: DownPyramid 1 -> 8", "generator: UpPyramid 4 -> ")}[name]  # fmt: skip
    assert all(part in out for part in parts)
    _, out, _ = run("info", models / name, "--json")
    assert out["architecture"] == name and out["shape"] == [1, 16, 16]
    assert sum(child["parameters"] for child in out["tree"]["children"]) <= out["parameters"]
    code, out, _ = run("info", name)
    assert code == 0 and "width = 32" in out
    assert run("info", "--json")[1]["generators"] == ["freeform", "gan", "vae"]


@pytest.mark.parametrize("name", ["vae", "gan"])
def test_sample(run, models, picture, name):
    code, _, _ = run("sample", models / name, "--n", "3", "--seed", "2", "--temperature", "0.5",
                     "--out", "x.npy")  # fmt: skip
    assert code == 0
    model = generators.Generator.from_pretrained(models / name)
    again = model.sample(3, temperature=0.5, generator=torch.Generator().manual_seed(2))
    np.testing.assert_allclose(np.load("x.npy"), again.numpy(), atol=1e-6)
    assert run("sample", models / name, "--n", "4", "--out", "x.png")[0] == 0
    code, _, err = run("sample", models / name, "--size", "32x32")
    assert code == 2 and err.count("\n") == 1 and "this model makes 16x16 only" in err
    code, _, err = run("sample", models / name, "--sigma", "0.1")
    assert code == 2 and "not conditioned" in err


def test_logprob_is_a_bound_or_none(run, models, picture):
    code, one, _ = run("logprob", models / "vae", picture, "--samples", "1", "--json")
    assert code == 0 and one["kind"] == "bound from 1 samples"
    _, many, _ = run("logprob", models / "vae", picture, "--samples", "200", "--json")
    assert many["results"][0]["log_prob"] > one["results"][0]["log_prob"] - 1
    _, out, _ = run("logprob", models / "vae", picture)
    assert ">=" in out and "<=" in out
    code, _, err = run("logprob", models / "gan", picture)
    assert code == 2 and err.count("\n") == 1 and "gan, which has no likelihood" in err
    code, _, err = run("logprob", models / "vae", picture, "--samples", "0")
    assert code == 2 and "--samples 0" in err


@pytest.mark.parametrize("name", ["vae", "gan"])
def test_solve(run, models, picture, name):
    code, _, _ = run("solve", picture, "--physics", "inpainting", "--simulate", "--prior",
                     models / name, "--steps", "10", "--out", "result")  # fmt: skip
    assert code in (0, 3) and os.listdir("result")
    code, _, err = run("solve", picture, "--physics", "inpainting", "--simulate", "--prior",
                       models / name, "--method", "pnp", "--out", "result")  # fmt: skip
    assert code == 2 and err.count("\n") == 1 and "noise-conditional" in err
    PIL.Image.new("L", (20, 20)).save("other.png")
    code, _, err = run("solve", "other.png", "--physics", "inpainting", "--simulate", "--prior",
                       models / name, "--out", "result")  # fmt: skip
    assert code == 4 and "makes images of (1, 16, 16) only" in err


def test_eval_needs_a_flow(run, models, picture):
    code, _, err = run("eval", "denoise", "--data", picture.parent, "--model", models / "gan",
                       "--sigma", "25")  # fmt: skip
    assert code == 2 and err.count("\n") == 1 and "noise" in err
