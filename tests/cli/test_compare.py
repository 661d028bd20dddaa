"""``innverse compare`` from the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from innverse import flows, generators
from innverse.bijections import initialize

pytest.importorskip("skimage")


@pytest.fixture
def three(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flow = flows.build("glow", (1, 16, 16), levels=1, steps=1, hidden=4)
    initialize(flow, torch.rand(8, 1, 16, 16))
    flow.save_pretrained("inn")
    for name in ("vae", "gan"):
        generators.build(name, (1, 16, 16), latent=4, width=8).save_pretrained(name)
    np.save("test.npy", np.random.default_rng(0).integers(0, 256, (9, 16, 16), dtype=np.uint8))
    return ["--models", "inn", "vae", "gan"]


def test_page_table_and_json_agree(run, three, tmp_path):
    code, out, err = run("compare", "--data", "mine", *three, "--test", "test.npy", "--quick",
                         "--out", "r", "--json")  # fmt: skip
    assert code == 0 and err == ""
    assert out == json.loads((tmp_path / "r/results.json").read_text())
    assert [m["label"] for m in out["models"]] == ["INN", "VAE", "GAN"]
    rows = {row["key"]: row for row in out["table"]}
    assert rows["test_psnr"]["INN"] > 60 and rows["bits_per_dim"]["GAN"] is None
    page = (tmp_path / "r/report.html").read_text()
    assert f"{rows['bits_per_dim']['INN']:.3f}" in page and "<script" not in page
    assert "test.npy" in page and "photographs from scikit-image" in page


def test_terminal_shows_every_claim(run, three):
    code, out, _ = run("compare", "--data", "mine", *three, "--test", "test.npy", "--ood",
                       "test.npy", "--quick", "--out", "r")  # fmt: skip
    assert code == 0 and "The likelihood is exact" in out and "r/report.html" in out
    assert "none" in out


def test_an_injective_flow_stands_beside_the_others(run, three, tmp_path):
    torch.manual_seed(0)
    small = {"latent": 4, "levels": 1, "tail_steps": 1, "hidden": 4, "steps": 1, "width": 4}
    flow = flows.build("injective", (1, 16, 16), **small)
    initialize(flow, torch.rand(8, 1, 16, 16))
    flow.save_pretrained("injective")
    code, out, _ = run("compare", "--data", "mine", *three, "injective", "--test", "test.npy", "--ood",
                       "test.npy", "--quick", "--out", "r", "--json")  # fmt: skip
    assert code == 0
    assert [m["label"] for m in out["models"]] == ["INN", "Injective", "VAE", "GAN"]
    rows = {row["key"]: row["Injective"] for row in out["table"]}
    assert rows["latents"] == 4 and rows["bits_per_dim"] is None and rows["latent_error"] < 1e-3
    assert rows["test_psnr"] >= rows["round_trip_psnr"] - 1e-6  # nearer by search than by the code
    assert "a code of 4 numbers" in (tmp_path / "r/report.html").read_text()


def test_faces_of_scikit_image_stand_in(run, three):
    code, out, _ = run("compare", "--data", "mine", "--models", "inn", "--quick", "--json")
    assert code == 0 and "100 gray faces" in out["test"]


@pytest.mark.slow
def test_digits_are_trained_and_compared(run, three, tmp_path):
    pytest.importorskip("sklearn")
    code, out, err = run("compare", "--data", "digits", "--budget", "0.005", "--quick", "--out",
                         "r", "--json")  # fmt: skip
    assert code == 0 and "training the GAN" in err
    assert (tmp_path / "r/models/vae/model/config.json").is_file()
    rows = {row["key"]: row for row in out["table"]}
    assert rows["training_steps"]["VAE"] >= 20 and out["test"] == "held out of digits"


@pytest.mark.parametrize(
    ("flags", "expected", "word"),
    [(("--models", "vae"), 2, "one INN"), (("--models", "nobody"), 2, "nobody"),
     (("--budget", "0"), 2, "--budget"), (("--temperature", "-1"), 2, "--temperature"),
     (("--test-subset", "a"), 2, "--test-subset"), (("--test", "none.npy"), 4, "none.npy"),
     (("--out", "test.npy/r"), 1, "test.npy")],
)  # fmt: skip
def test_bad_options(run, three, flags, expected, word):
    given = [] if "--models" in flags else three
    code, out, err = run("compare", "--data", "mine", *given, *flags, "--quick")
    assert code == expected and word in err and err.count("\n") == 1 and out == ""
    code, _, err = run("compare", "--data", "nowhere")
    assert code == 4 and "nowhere" in err
