"""Training on one's own slices, by time alone: sizes are chosen, runs continue, priors are judged."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

import innverse
from innverse.cli import main
from innverse.errors import UsageError
from innverse.train import automatic, verdict
from innverse.train.config import load_config
from innverse.train.loop import train
from innverse.train.sources import TrainingImages


@pytest.fixture(scope="module")
def slices(tmp_path_factory):
    """A .npy of 12 smooth slices of 32x32 in Hounsfield units."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:32, :32] / 31
    a, b, c = rng.uniform(-1, 1, (3, 12, 1, 1))
    path = tmp_path_factory.mktemp("slices") / "ct.npy"
    np.save(
        path, (500 * (a * x + b * y + c * x * y) + rng.normal(0, 20, (12, 32, 32))).astype(np.int16)
    )
    return path


def config(path, **more):
    return load_config(
        None, {"data.path": str(path), **{k.replace("_", ".", 1): v for k, v in more.items()}}
    )


def paced(monkeypatch, seconds):
    """Let steps take this long: {hidden: (by likelihood, with score matching)}."""
    calls = []

    def fake(found, data, device):
        calls.append(found)
        return seconds(found)

    monkeypatch.setattr(automatic, "_step_seconds", fake)
    monkeypatch.setattr(automatic, "_precision", lambda *_: "fp32")
    return calls


@pytest.mark.parametrize("minutes", [1, 10, 60, 300])
def test_the_chosen_steps_take_the_time_there_is(minutes, monkeypatch, tmp_path):
    pictures = np.random.default_rng(0).integers(-1000, 1000, (40, 192, 192)).astype(np.int16)
    np.save(tmp_path / "x.npy", pictures)
    given = config(tmp_path / "x.npy", train_minutes=minutes)
    costs = {hidden: 0.4 * cost for _, _, hidden, _, cost in automatic.SIZES}
    costs[32] = 0.1
    paced(monkeypatch, lambda c: (costs[c.model.options["hidden"]],) * 2)
    data = TrainingImages(given)
    found = automatic.settled(given, data, tmp_path / "none", False, torch.device("cpu"))
    took = found.train.steps * costs[found.model.options["hidden"]] / 60
    assert took == pytest.approx(0.9 * minutes, rel=0.05)
    assert found.data.crop in (32, 64) and found.data.range == (-1000, 999)
    smallest = found.model.options["hidden"] == automatic.SIZES[-1][2]
    assert found.train.steps >= automatic.ENOUGH or smallest


def test_what_is_given_stays(slices, monkeypatch, tmp_path):
    paced(monkeypatch, lambda c: (0.01, 0.02))
    given = config(
        slices, train_minutes=1, model_name="glow", model_hidden=12, train_lr=1e-4, data_crop=16,
        model_noise=[0.02, 0.3],
    )  # fmt: skip
    data = TrainingImages(given)
    found = automatic.settled(given, data, tmp_path, False, torch.device("cpu"))
    assert found.model.options["hidden"] == 12 and found.train.lr == 1e-4 and found.data.crop == 16
    assert found.model.noise == (0.02, 0.3) and found.model.options["how"] == "film"
    with pytest.raises(UsageError, match="train.minutes chooses"):
        bad = config(slices, train_minutes=1, model_name="vae")
        automatic.settled(bad, TrainingImages(bad), tmp_path, False, torch.device("cpu"))


def test_few_pictures_teach_patches(slices, monkeypatch, tmp_path):
    paced(monkeypatch, lambda c: (0.01, 0.02))
    given = config(slices, train_minutes=1)
    found = automatic.settled(given, TrainingImages(given), tmp_path, False, torch.device("cpu"))
    assert found.model.name == "patches" and found.data.crop == 8


def test_the_lowest_noise_is_half_of_that_in_the_pictures(tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "x.npy", (rng.normal(0, 0.01, (8, 64, 64)) + 0.5).astype(np.float32))
    data = TrainingImages(config(tmp_path / "x.npy"))
    assert automatic.lowest_noise(data) == pytest.approx(0.005, rel=0.1)


def test_a_run_by_time_continues_with_its_sizes(slices, tmp_path, monkeypatch):
    paced(monkeypatch, lambda c: (0.05, 0.05))
    quick = {"train_report": False, "model_steps": 1, "model_hidden": 8}
    first = train(config(slices, train_minutes=0.01, **quick), tmp_path / "run", quiet=True)
    chosen = json.loads((tmp_path / "run" / "config.json").read_text())
    assert first.complete and chosen["model"]["name"] == "patches"
    longer = train(config(slices, train_minutes=0.02, **quick), tmp_path / "run", quiet=True)
    assert longer.step == 2 * first.step
    model = innverse.load(longer.model)
    assert model.x_range == tuple(chosen["data"]["range"])


def test_the_command_needs_no_config_and_judges(slices, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(verdict, "CROPS", 2)
    monkeypatch.setattr(verdict, "_others", lambda: {"tv": [verdict._tv(1.0)]})
    paced(monkeypatch, lambda c: (0.1, 0.1))
    settings = ["--set", "model.steps=1", "--set", "model.hidden=8", "--set", "train.threads=1"]
    code = main(["train", str(slices), "--minutes", "0.02", *settings])
    out, err = capsys.readouterr()
    assert code == 0 and "runs/ct/model" in out and "values from" in err
    folder = tmp_path / "runs" / "ct" / "model"
    report = json.loads((folder / "report.json").read_text())
    assert report["good"] is False and report["verdict"] in err
    assert report["verdict"] in (folder / "README.md").read_text()
    assert (folder / "report.txt").read_text().startswith(report["verdict"])
    assert (folder / "samples.png").exists() and len(report["denoising"]) == 3
    assert innverse.load("runs/ct").x_range is not None  # the folder of the run will do


class Gaussian(torch.nn.Module):
    """The density of N(mean, .05^2) plus noise, whose denoiser is the best there is: only it knows the
    mean, which is different in every pixel."""

    noise_range = (0.01, 0.4)

    def __init__(self, mean):
        super().__init__()
        self.mean = torch.nn.Parameter(mean)

    def denoise(self, y, sigma, views=1):
        return (0.05**2 * y + sigma**2 * self.mean.detach()) / (0.05**2 + sigma**2)

    def log_prob(self, x, c):
        variance = 0.05**2 + c.view(-1, 1, 1, 1) ** 2
        return -0.5 * ((x - self.mean) ** 2 / variance + (2 * torch.pi * variance).log()).flatten(
            1
        ).sum(1)


def test_the_best_prior_is_found_good_and_a_bad_one_not(tmp_path, monkeypatch):
    monkeypatch.setattr(verdict, "CROPS", 4)
    rng = np.random.default_rng(0)
    mean = rng.uniform(0.2, 0.8, (24, 24)).astype(np.float32)
    np.save(tmp_path / "x.npy", (mean + 0.05 * rng.normal(size=(20, 24, 24))).astype(np.float32))
    given = config(tmp_path / "x.npy", data_flip=False, data_range=[0, 1])
    data = TrainingImages(given)
    model = Gaussian(torch.from_numpy(mean))
    found = verdict.judge(model, data.config, data)
    assert found["good"] and found["verdict"].startswith("Good enough")
    for row in found["denoising"]:
        s, p = row["sigma"] ** 2, 0.05**2
        assert row["prior"] == pytest.approx(-10 * np.log10(s * p / (s + p)), abs=0.3)
        assert row["gain"] == pytest.approx(row["prior"] - row[row["best"]], abs=1e-9)
    entropy = 0.5 * np.log2(2 * np.pi * np.e * (0.05**2 + 0.01**2)) + 8
    assert found["bits_per_dim"]["held_out"] == pytest.approx(entropy, abs=0.1)
    model.denoise = lambda y, sigma, views=1: y
    found = verdict.judge(model, data.config, data)
    assert not found["good"] and "\n" not in found["verdict"]


def test_deep_pictures_are_learned_with_all_their_digits(slices):
    data = TrainingImages(config(slices, data_crop=16))
    crops = data.batch(0)
    assert crops.dtype == torch.uint16 and data.config.data.range is not None
    unit = innverse.data.as_unit(crops)
    assert unit.dtype == torch.float32 and 0 <= unit.min() < unit.max() <= 1
    steps = (unit * 65535).unique().numel()
    assert steps > 256
