"""``info``, ``sample``, ``interpolate``, ``attribute``, ``logprob`` and ``doctor``."""

from __future__ import annotations

import math
import os

import numpy as np
import PIL.Image
import pytest
import torch

import innverse.cli.doctor as doctor_file
from innverse import flows
from innverse.cli.info import sections
from innverse.data import fit, read_image, write_image
from innverse.flows import Flow
from innverse.showing.structure import Node, collapse, describe, render

# ---- info ---------------------------------------------------------------------------------------


def leaves(node: Node) -> int:
    """Parameters of what lies below, counted leaf by leaf."""
    if not node.children:
        return node.parameters
    if node.label == "step":
        return node.count * sum(leaves(child) for child in node.children)
    return sum(leaves(child) for child in node.children)


@pytest.mark.parametrize(
    ("name", "shape", "config"),
    [
        ("glow", (3, 32, 32), {"levels": 3, "steps": 4, "hidden": 8}),
        ("glow", (1, 16, 16), {"levels": 2, "steps": 1, "hidden": 8, "noise": (0.01, 0.4),
                               "squeeze": "haar", "how": "film"}),
        ("realnvp", (6,), {"layers": 5}),
        ("realnvp", (1, 8, 8), {"levels": 2, "hidden": 8}),
        ("nice", (6,), {}),
        ("nsf", (6,), {"layers": 3}),
        ("maf", (6,), {"layers": 3}),
        ("iaf", (6,), {"layers": 3}),
        ("residual", (2,), {}),
        ("tarflow", (1, 8, 8), {}),
        ("flow_matching", (2,), {}),
    ],
)  # fmt: skip
def test_the_tree_accounts_for_every_parameter(name, shape, config):
    flow = flows.build(name, shape, **config)
    tree = describe(flow)
    assert tree.parameters == flow.n_parameters == leaves(tree)


def test_equal_steps_are_shown_once():
    flow = flows.build("glow", (1, 16, 16), levels=2, steps=5, hidden=8)
    lines = render(describe(flow))
    assert sum("5 x step" in line for line in lines) == 2
    assert sum("Invertible1x1" in line for line in lines) == 2
    assert any("4 x 8 x 8" in line for line in lines)
    assert any("8 x 4 x 4" in line for line in lines)
    assert len({len(line) for line in lines}) == 1  # aligned


def test_collapse_finds_the_period():
    def nodes(text):
        return [Node(letter, (1,), 2) for letter in text]

    def spell(found):
        return [(n.count, "".join(c.label for c in n.children) or n.label) for n in found]

    assert spell(collapse(nodes("ababab"))) == [(3, "ab")]
    assert spell(collapse(nodes("xababy"))) == [(1, "x"), (2, "ab"), (1, "y")]
    assert spell(collapse(nodes("aaa"))) == [(3, "a")]
    assert spell(collapse(nodes("abc"))) == [(1, "a"), (1, "b"), (1, "c")]
    assert collapse(nodes("ababab"))[0].parameters == 12


def test_info_prints_tree_and_card(run, models):
    code, out, _ = run("info", models / "gray")
    assert code == 0
    assert "NoiseLevel 0.01 .. 0.4" in out and "Invertible1x1(4)" in out
    code, out, _ = run("info", models / "gray", "--json")
    assert out["noise_range"] == [0.01, 0.4]
    assert out["tree"]["parameters"] == out["parameters"]


def test_sections_of_a_card():
    card = "---\ntags: [x]\n---\n# m\n\n## Data\nphotos\n\n## Results\n| a | 1 |\n"
    assert sections(card) == {"Data": "photos", "Results": "| a | 1 |"}


def test_info_without_a_model_and_of_an_architecture(run):
    _, out, _ = run("info", "--json")
    assert out["architectures"] == flows.names() and "blur" in out["physics"]
    code, out, _ = run("info", "glow")
    assert code == 0 and "levels = 3" in out
    code, _, err = run("info", "nobody")
    assert code == 2 and "nobody" in err


# ---- sample -------------------------------------------------------------------------------------


def test_sample_a_grid_a_folder_and_an_array(run, models, photos):
    code, out, _ = run("sample", models / "gray", "--n", "4")
    assert code == 0 and out.strip() == "samples.png"
    assert PIL.Image.open("samples.png").size == (2 * 16 + 6, 2 * 16 + 6)
    run("sample", models / "color", "--size", "8x12", "--grid", "1x3", "--out", "s")
    assert sorted(os.listdir("s")) == ["grid.png", *(f"sample-{i}.png" for i in range(3))]
    assert PIL.Image.open("s/sample-0.png").size == (12, 8)
    _, out, _ = run("sample", models / "gray", "--n", "5", "--sigma", "0.2", "--temperature", "0.5",
                    "--seed", "3", "--out", "x.npy", "--json")  # fmt: skip
    assert out["shape"] == [1, 16, 16] and out["sigma"] == 0.2
    flow = Flow.from_pretrained(models / "gray")
    again = flow.sample(5, 0.2, 0.5, generator=torch.Generator().manual_seed(3))
    np.testing.assert_allclose(np.load("x.npy"), again.numpy(), atol=1e-6)


def test_sample_vectors(run, models, photos):
    code, out, _ = run("sample", models / "vectors", "--n", "7")
    assert code == 0 and out.strip() == "samples.npy" and np.load("samples.npy").shape == (7, 2)
    code, _, err = run("sample", models / "vectors", "--out", "x.png")
    assert code == 2 and ".npy" in err


@pytest.mark.parametrize(
    "flags",
    [("--n", "0"), ("--sigma", "0.9"), ("--size", "7x8"), ("--size", "big"),
     ("--temperature", "nan"), ("--out", "x.txt"), ("--truncation", "0"), ("--grid", "3by3"),
     ("--grid", "2x2", "--n", "3"), ("--subset", "a")],
)  # fmt: skip
def test_sample_bad_options(run, models, photos, flags):
    code, out, err = run("sample", models / "gray", *flags)
    assert code == 2 and flags[0] in err and err.count("\n") == 1 and out == ""
    assert not os.path.exists("samples.png")


def test_truncated_and_denoised_draws(run, models, photos):
    flow = Flow.from_pretrained(models / "gray")
    flags = ("sample", models / "gray", "--n", "4", "--sigma", "0.3", "--truncation", "0.5")
    run(*flags, "--out", "x.npy")
    x = torch.tensor(np.load("x.npy"))
    with torch.no_grad():
        assert float(flow.encode(x, 0.3).abs().max()) < 0.5 + 1e-4
    run(*flags, "--denoise", "--out", "clean.npy")
    np.testing.assert_allclose(np.load("clean.npy"), flow.denoise(x, 0.3, 4).numpy(), atol=1e-5)
    code, _, err = run("sample", models / "plain", "--denoise")
    assert code == 2 and "--denoise" in err


def test_neighbours_beside_the_draws(run, models, photos):
    os.mkdir("train")
    flow = Flow.from_pretrained(models / "gray")
    draws = flow.sample(4, 0.1, generator=torch.Generator().manual_seed(0))
    for i, image in enumerate((draws[2], draws[0].flip(-1), torch.zeros(1, 16, 16))):
        write_image(f"train/{i}.png", image)
    code, out, _ = run("sample", models / "gray", "--grid", "2x2", "--sigma", "0.1",
                       "--neighbours", "train", "--json")  # fmt: skip
    assert code == 0 and out["files"] == ["samples.png", "samples-neighbours.png"]
    found = out["neighbours"]["nearest"]
    assert found[2][0]["name"] == "0.png" and found[2][0]["rms"] < 1 / 255
    assert found[0][0]["rms"] > 10 / 255 and len(found[0]) == 3
    wide = 4 * 16 + 3 * 2
    assert PIL.Image.open("samples-neighbours.png").size[0] % (wide + 6) == 6
    code, _, err = run("sample", models / "gray", "--neighbours", "nowhere")
    assert code == 4 and "nowhere" in err


# ---- interpolate and attribute ------------------------------------------------------------------


def test_a_strip_between_two_pictures(run, models, photos):
    code, out, _ = run("interpolate", "gray.png", "odd.png", "--model", models / "gray",
                       "--steps", "5", "--json")  # fmt: skip
    assert code == 0 and out["sigma"] == 0.02 and min(out["psnr_of_ends"]) > 60
    assert PIL.Image.open("strip.png").size == (5 * 18 + 2, 20)
    code, out, _ = run("interpolate", "color.png", "gray.png", "--model", models / "color",
                       "--size", "8x12", "--out", "wide.png")  # fmt: skip
    assert code == 0 and out.strip() == "wide.png"
    assert PIL.Image.open("wide.png").size == (8 * 14 + 2, 12)


@pytest.mark.parametrize(
    ("flags", "expected", "word"),
    [(("--steps", "1"), 2, "--steps"), (("--sigma", "3"), 2, "--sigma"),
     (("--model", "vectors"), 2, "vectors"), (("--out", "gray.png/x.png"), 1, "gray.png")],
)  # fmt: skip
def test_interpolate_bad_options(run, models, photos, monkeypatch, flags, expected, word):
    flags = [models / f if f == "vectors" else f for f in flags]
    given = [] if "--model" in flags else ["--model", models / "gray"]
    code, out, err = run("interpolate", "gray.png", "odd.png", *given, *flags)
    assert code == expected and word in err and err.count("\n") == 1 and out == ""


def test_an_attribute_is_found_saved_and_applied(run, models, photos):
    generator = torch.Generator().manual_seed(0)
    for name, level in (("bright", 0.8), ("dark", 0.2)):
        x = level + 0.1 * torch.rand(6, 16, 16, generator=generator)
        np.save(f"{name}.npy", (255 * x).byte().numpy())
    sets = ("--with", "bright.npy", "--without", "dark.npy", "--model", models / "plain")
    code, out, _ = run("attribute", *sets, "--apply", "gray.png", "--save", "a.safetensors",
                       "--strengths", "-1..1", "--steps", "3", "--json")  # fmt: skip
    assert code == 0 and out["images"] == [6, 6] and out["length"] > 5 * out["length_by_chance"]
    strip = np.asarray(PIL.Image.open("strip.png"))[2:-2].astype(float)
    dark, same, bright = (strip[:, 2 + 18 * i : 18 + 18 * i] for i in range(3))
    assert dark.mean() < same.mean() - 20 < bright.mean() - 40
    picture = fit(read_image("gray.png").tensor[None], (16, 16))
    assert np.abs(same - 255 * picture[0, 0].numpy()).max() < 1
    again = ("attribute", "--load", "a.safetensors", "--apply", "gray.png", "--out", "b.png",
             "--strengths", "-1..1", "--steps", "3")  # fmt: skip
    assert run(*again, "--model", models / "plain")[0] == 0
    assert np.array_equal(np.asarray(PIL.Image.open("b.png"))[2:-2], strip)
    code, _, err = run(*again, "--model", models / "gray")
    assert code == 4 and "another model" in err


@pytest.mark.parametrize(
    ("flags", "expected", "word"),
    [((), 2, "--with"), (("--load", "x", "--with", "y", "--apply", "z"), 2, "--load"),
     (("--load", "gray.png", "--apply", "gray.png"), 4, "no attribute"),
     (("--load", "none.st", "--apply", "gray.png"), 4, "none.st"),
     (("--load", "x"), 2, "--apply"),
     (("--load", "x", "--apply", "gray.png", "--strengths", "2"), 2, "LOW..HIGH")],
)  # fmt: skip
def test_attribute_bad_options(run, models, photos, flags, expected, word):
    code, out, err = run("attribute", "--model", models / "gray", *flags)
    assert code == expected and word in err and err.count("\n") == 1 and out == ""


# ---- logprob ------------------------------------------------------------------------------------


def test_logprob_of_pictures(run, models, photos):
    _, out, _ = run("logprob", models / "gray", "gray.png", "--as-is", "--sigma", "0.1", "--json")
    flow = Flow.from_pretrained(models / "gray")
    x = read_image("gray.png").tensor[None]
    expected = float(flow.log_prob(x, 0.1))
    (row,) = out["results"]
    assert row["log_prob"] == pytest.approx(expected, rel=1e-5)
    assert row["bits_per_dim"] == pytest.approx(float(flow.bits_per_dim(x, 0.1)), rel=1e-5)
    _, noisy, _ = run("logprob", models / "gray", "gray.png", "--sigma", "0.1", "--json")
    assert noisy["results"][0]["log_prob"] != pytest.approx(expected, rel=1e-3)


def test_logprob_on_a_manifold_has_no_bits(run, photos, tmp_path):
    torch.manual_seed(0)
    flow = flows.build("injective", (1, 8, 8), latent=2, levels=1, tail_steps=1, hidden=4, width=4)
    flow.save_pretrained(tmp_path / "injective")
    x = flow.sample(1)
    np.save("x.npy", x.numpy())
    _, out, _ = run("logprob", tmp_path / "injective", "x.npy", "--json")
    (row,) = out["results"]
    assert row["log_prob"] == pytest.approx(float(flow.log_prob(x).detach()), rel=1e-4)
    assert row["bits_per_dim"] is None  # of a density with respect to area in R^64
    code, out, _ = run("logprob", tmp_path / "injective", "x.npy")
    assert code == 0 and "x.npy" in out


def test_logprob_of_an_array_and_of_bad_files(run, models, photos):
    x = np.random.default_rng(0).normal(size=(3, 2)).astype(np.float32)
    np.save("x.npy", x)
    _, out, _ = run("logprob", models / "vectors", "x.npy", "--json")
    found = [row["log_prob"] for row in out["results"]]
    flow = Flow.from_pretrained(models / "vectors")
    with torch.no_grad():
        np.testing.assert_allclose(found, flow.log_prob(torch.tensor(x)).numpy(), rtol=1e-5)
    assert out["results"][0]["bits_per_dim"] == pytest.approx(8 - found[0] / (2 * math.log(2)))
    code, out, err = run("logprob", models / "gray", "gray.png", "none.png")
    assert code == 4 and "gray.png" in out and "no such file: none.png" in err
    np.save("bad.npy", x)
    assert run("logprob", models / "gray", "bad.npy")[0] == 4
    code, _, err = run("logprob", models / "plain", "gray.png", "--sigma", "0.1")
    assert code == 2 and "--sigma" in err


# ---- doctor -------------------------------------------------------------------------------------


def test_doctor_finds_this_installation_healthy(run):
    code, out, _ = run("doctor", "--json")
    assert code == 0 and out["ok"]
    tested = {c["what"] for c in out["checks"] if c["ok"]}
    assert {"round trip of a flow", "log-determinant", "adjoints of operators"} <= tested


def test_doctor_reports_what_is_broken(run, monkeypatch):
    def broken():
        raise RuntimeError("the operator\nis bent")

    monkeypatch.setattr(doctor_file, "_CHECKS", {"operators": broken})
    code, out, _ = run("doctor")
    assert code == 1
    assert "BAD operators" in out and "the operator" in out and "1 broken" in out


def test_doctor_checks_the_shipped_models(monkeypatch, run, tmp_path, models):
    from innverse import zoo

    (tmp_path / "mine").mkdir()
    for file in (models / "gray").iterdir():
        (tmp_path / "mine" / file.name).write_bytes(file.read_bytes())
    monkeypatch.setattr(zoo, "_HOME", tmp_path)
    monkeypatch.setattr(zoo, "_PACKAGES", {})
    monkeypatch.setattr(doctor_file, "_CHECKS", {"models": doctor_file._models})
    assert run("doctor")[0] == 0
    weights = bytearray((tmp_path / "mine/model.safetensors").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "mine/model.safetensors").write_bytes(weights)
    code, out, _ = run("doctor")
    assert code == 1 and "BAD model mine" in out and "damaged" in out
