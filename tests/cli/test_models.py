"""``info``, ``sample``, ``logprob`` and ``doctor``."""

from __future__ import annotations

import math
import os

import numpy as np
import PIL.Image
import pytest
import torch

import innverse.cli.doctor as doctor_file
from innverse import flows
from innverse.cli.info import Node, collapse, describe, render, sections
from innverse.data import read_image
from innverse.flows import Flow

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
        ("spline", (6,), {"layers": 3}),
        ("maf", (6,), {"layers": 3}),
        ("iaf", (6,), {"layers": 3}),
        ("residual", (2,), {}),
        ("transformer", (1, 8, 8), {}),
        ("matching", (2,), {}),
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
    run("sample", models / "color", "--n", "3", "--size", "8x12", "--grid", "--out", "s")
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
     ("--temperature", "nan"), ("--out", "x.txt")],
)  # fmt: skip
def test_sample_bad_options(run, models, photos, flags):
    code, out, err = run("sample", models / "gray", *flags)
    assert code == 2 and flags[0] in err and err.count("\n") == 1 and out == ""
    assert not os.path.exists("samples.png")


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
    monkeypatch.setattr(doctor_file, "_CHECKS", {"models": doctor_file._models})
    assert run("doctor")[0] == 0
    weights = bytearray((tmp_path / "mine/model.safetensors").read_bytes())
    weights[-1] ^= 1
    (tmp_path / "mine/model.safetensors").write_bytes(weights)
    code, out, _ = run("doctor")
    assert code == 1 and "BAD model mine" in out and "damaged" in out
