"""innverse amortize: files in, posterior, calibration and draws out."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from innverse import amortized
from innverse.fitting.training import Training
from innverse.metrics import calibration

CONFIG = """\
[data]
path = "{path}"
low = [-10.0, -10.0]
high = 10.0
[model]
density = "realnvp"
size = {{ layers = 2, width = 16 }}
[train]
max_epochs = 4
[check]
pairs = 60
draws = 50
[infer]
path = "{path}"
draws = 5
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    g = np.random.default_rng(0)
    theta = g.normal(size=(400, 2))
    x = theta + 0.5 * g.normal(size=(400, 2))
    np.savez("pairs.npz", theta=theta, x=x)
    np.savez("wide.npz", x=np.zeros((3, 5)))
    np.savez("none.npz", x=np.zeros((0, 2)))
    lines = [f"{a},{b},{c},{d}" for (a, b), (c, d) in zip(theta, x)]
    (tmp_path / "pairs.csv").write_text("\n".join(["theta_0,theta_1,x[0],x[1]", *lines]) + "\n")
    return tmp_path


@pytest.mark.parametrize("kind", [pytest.param("npz", marks=pytest.mark.slow), "csv"])
def test_from_a_file_to_a_posterior(run, folder, kind):
    (folder / "c.toml").write_text(CONFIG.format(path=f"pairs.{kind}"))
    code, out, err = run("amortize", "c.toml", "--json", "--quiet")
    assert code == 0 and err == ""
    assert out["simulations"] == 360 and out["checked_pairs"] == 20 and out["excluded"] == 0
    assert all(0 <= out[k]["calibration_error"] < 0.4 for k in ("before", "after"))
    assert out["epochs"] == 4
    assert len(out["mean"]) == 400 and len(out["rank"]) == 400
    result = folder / "runs" / "c"
    posterior = amortized.load(result)
    names = ["theta_0", "theta_1"] if kind == "csv" else ["theta[0]", "theta[1]"]
    assert posterior.names == out["names"] == names
    page = (result / "report.html").read_text()
    for words in ("Calibration error", "TARP", "Contraction", "Observation 4", *names):
        assert words in page
    assert posterior.sample((3,), x=torch.zeros(2)).shape == (3, 2)
    assert posterior.bounds[1].tolist() == [10.0, 10.0]
    with np.load(result / "draws.npz") as saved:
        assert saved["draws"].shape == (5, 400, 2)
        np.testing.assert_allclose(saved["draws"].mean(0), out["mean"], atol=1e-5)
        repair = json.loads((result / "recalibration.json").read_text())
        repair = calibration.Recalibration.from_json(repair)
        np.testing.assert_allclose(repair.samples(saved["draws"]), saved["repaired"], atol=1e-5)
    assert json.loads((result / "calibration.json").read_text())["names"] == names
    # the training is complete: the same command reads it, and only checks and infers again
    code, out, err = run("amortize", "c.toml")
    assert code == 0 and out.strip() == "runs/c" and "continuing after step" in err
    code, out, err = run("amortize", "c.toml", "--out", "again", "--seed", "3")
    assert code == 0 and out.strip() == "again" and "after repair" in err
    code, out, err = run("amortize", "c.toml", "--out", "again", "--seed", "4")
    assert code == 4 and "other data" in err and "--no-resume" in err
    assert run("amortize", "c.toml", "--out", "again", "--seed", "3", "--no-resume")[0] == 0


@pytest.mark.parametrize(
    ("expected", "words", "old", "new"),
    [
        (4, "cannot read nothing.npz", "pairs.npz", "nothing.npz"),
        (2, "unknown key data.pth", "[data]", "[data]\npth = 1"),
        (2, "unknown key model.sizes", "size =", "sizes ="),
        (2, "valid TOML", "[model]", "[model"),
        (2, "model.density", '"realnvp"', '"glow"'),
        (2, "train.max_epochs", "max_epochs = 4", "max_epochs = 0"),
        (4, "no array 'X'", "[model]", 'x = "X"\n[model]'),
        (4, "no column 'b'", "[model]", 'x = ["x[0]", "b"]\n[model]'),
        (4, "bounds", "high = 10.0", "high = 0.0"),
        (2, "either path", "[model]", 'simulator = "slcp"\n[model]'),
        (2, ".csv", "pairs.npz", "pairs.xlsx"),
        (2, "at most 65536", "width = 16", "width = 100000000"),
        (2, "train.seed", "[check]", "seed = 9223372036854775808\n[check]"),
        (2, "train.lr", "[check]", "lr = inf\n[check]"),
        (3, "training diverged", "[check]", "lr = 1e30\n[check]"),
        (4, "x must be (2,)", '[infer]\npath = "pairs.npz"', '[infer]\npath = "wide.npz"'),
        (4, "no observations", '[infer]\npath = "pairs.npz"', '[infer]\npath = "none.npz"'),
    ],
)
def test_mistakes_are_one_line(run, folder, expected, words, old, new):
    text = CONFIG.format(path="pairs.npz")
    if "column" in words:
        text = text.replace("pairs.npz", "pairs.csv")
    assert old in text
    (folder / "c.toml").write_text(text.replace(old, new))
    code, out, err = run("amortize", "c.toml", "-q")
    assert code == expected and out == ""
    assert words in err and err.count("\n") == 1


def test_broken_tables_name_the_line(run, folder):
    text = (folder / "pairs.csv").read_text().splitlines()
    (folder / "c.toml").write_text(CONFIG.format(path="pairs.csv"))
    for broken, words in ((["1,2,3"], "line 4: 3 values for 4"), (["1,2,x,4"], "'x' is no number")):
        (folder / "pairs.csv").write_text("\n".join(text[:3] + broken + text[3:]))
        code, _, err = run("amortize", "c.toml", "-q")
        assert code == 4 and words in err and err.count("\n") == 1
    code, _, err = run("amortize", "missing.toml")
    assert code == 4 and "cannot read the config" in err


def test_a_far_observation_is_one_line_and_in_the_page(folder):
    (folder / "far.csv").write_text("x[0],x[1]\n500,500\n")
    text = CONFIG.format(path="pairs.csv").replace('[infer]\npath = "pairs', '[infer]\npath = "far')
    (folder / "c.toml").write_text(text)
    command = [sys.executable, "-m", "innverse", "amortize", "c.toml", "-q"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("innverse: ") and "far outside" in lines[0]
    assert "Unlike any simulation" in (folder / "runs" / "c" / "report.html").read_text()


def test_built_in_simulators_are_checked_against_their_likelihood(run, folder):
    text = """\
    [data]
    simulator = "gaussian_mixture"
    budget = 300
    [model]
    density = "realnvp"
    size = { layers = 2, width = 16 }
    [train]
    max_epochs = 25
    lr = 5e-3
    [check]
    pairs = 60
    draws = 50
    """
    (folder / "c.toml").write_text(text)
    code, out, err = run("amortize", "c.toml", "--json", "--quiet")
    assert code == 0 and err == "" and out["simulations"] == 300 and out["checked_pairs"] == 30
    assert len(out["importance"]["pareto_k"]) == 20
    assert out["resimulation_error"] < out["resimulation_error_of_the_prior"]
    page = (folder / "runs" / "c" / "report.html").read_text()
    assert "Against the exact likelihood" in page and "Re-simulation" in page
    (folder / "c.toml").write_text(text.replace("gaussian_mixture", "gaussian_mixtur"))
    code, _, err = run("amortize", "c.toml")
    assert code == 2 and "did you mean 'gaussian_mixture'" in err


def test_a_resumed_inference_gives_the_same_numbers(run, folder, monkeypatch):
    """Re-simulation, checks and draws after an interruption are those without one."""
    text = """\
    [data]
    simulator = "gaussian_mixture"
    budget = 200
    [model]
    density = "realnvp"
    size = { layers = 2, width = 8 }
    [train]
    max_epochs = 3
    [check]
    pairs = 80
    draws = 30
    """
    (folder / "c.toml").write_text(text)
    assert run("amortize", "c.toml", "-q", "--out", "whole")[0] == 0
    step = Training.step

    def interrupted(training):
        step(training)
        if training.history.steps == 4:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Training, "step", interrupted)
    assert run("amortize", "c.toml", "-q", "--out", "parts")[0] == 130
    monkeypatch.setattr(Training, "step", step)
    torch.manual_seed(99)  # the second process begins elsewhere
    assert run("amortize", "c.toml", "-q", "--out", "parts")[0] == 0
    again = run("amortize", "c.toml", "-q", "--out", "parts")[0]  # nothing left to train
    found = [json.loads((folder / f / "calibration.json").read_text()) for f in ("whole", "parts")]
    assert again == 0 and all(made.pop("seconds") >= 0 for made in found)
    assert found[0] == found[1]
    assert found[0]["repair_pairs"] == 40


def test_names_with_dollars_and_tags_get_a_page(run, folder):
    text = CONFIG.format(path="pairs.npz").replace("[model]", 'names = ["b$$", "<b>"]\n[model]')
    (folder / "c.toml").write_text(text)
    code, _, err = run("amortize", "c.toml")
    assert code == 0 and "learned from 20 pairs and may be worse than none" in err
    page = (folder / "runs" / "c" / "report.html").read_text()
    assert "&lt;b&gt;" in page and "by chance of the test" in page and "20 pairs only" in page


def test_interrupted_training_can_continue(run, folder, monkeypatch):
    """Ctrl-C in the middle: 130, the state is kept, and the same command completes the training."""
    (folder / "c.toml").write_text(CONFIG.format(path="pairs.npz"))
    step = Training.step

    def interrupted(training):
        step(training)
        if training.history.steps == 3:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Training, "step", interrupted)
    monkeypatch.setattr(sys, "argv", ["innverse", "amortize", "c.toml"])  # what is to be repeated
    code, _, err = run("amortize", "c.toml")
    assert code == 130 and "innverse amortize c.toml" in err
    assert list((folder / "runs/c/checkpoint").glob("*.json"))
    assert not (folder / "runs/c/calibration.json").exists()
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    code, _, err = run("amortize", "c.toml")
    assert code == 0 and "continuing after step 3" in err
    assert (folder / "runs/c/calibration.json").exists()
