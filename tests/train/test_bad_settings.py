"""Settings that no run can use: one line each, exit code 2, before anything is computed."""

from __future__ import annotations

import os
import signal

import pytest

from innverse.amortized.recipe import load_recipe
from innverse.cli import main
from innverse.errors import InputError, UsageError
from innverse.train.config import MOST_THREADS, load_config


@pytest.fixture(autouse=True)
def _no_waiting():
    signal.alarm(60)
    yield
    signal.alarm(0)


@pytest.mark.parametrize(
    "line",
    [
        "train.threads = 1000000", "train.threads = 0", "train.threads = -1", "train.threads = 1.5",
        "train.seed = -1", "train.seed = 18446744073709551616", "train.seed = 1e400",
        "train.lr = 0", "train.lr = -1e-3", "train.lr = inf", "train.lr = nan", "train.lr = true",
        "train.critic_lr = inf", "train.weight_decay = inf", "train.clip = inf",
        "train.betas = [0.9, 1.0]", "train.betas = [-0.1, 0.9]", "train.betas = [0.9]",
        "train.betas = [0.9, nan]", "train.betas = 0.9", "train.ema = 1", "train.ema = nan",
        "train.batch_size = 0", "train.batch_size = -4", "train.batch_size = 10000000000",
        "train.steps = 0", "train.steps = 1000000000000000000000", "train.steps = 1979-05-27",
        "train.steps = true", "train.warmup = -1", "train.skip_factor = inf",
        "train.log_every = 0", "train.keep = 0", "train.lr = 07:32:00", "train.lr = {}",
        "train.lr = [[[[1]]]]", "train.precision = 16", "train.unknown = 1",
        "data.crop = 1", "data.crop = -8", "data.crop = 1000000000", "data.channels = 2",
        "data.channels = true", "data.held_out = -1", "data.held_out = 1.5", "data.held_out = nan",
        "data.flip = 'maybe'", "data.path = 3", "model.noise = [0, 0.1]",
        "model.noise = [0.1, inf]", "model.noise = [0.1, nan]", "model.noise = [0.3, 0.1]",
        "model.noise = 0.1", "model.name = 3", "out.dir = 3", "train = 3", "data = 'digits'",
        "more = 1", "train.lr = 1\ntrain.lr = 2", f"train.lr = {'[' * 10_000}",
        f"train.steps = {'9' * 5000}", "train.lr = '", "\0",
    ],
)  # fmt: skip
def test_training(tmp_path, line, capfd):
    path = tmp_path / "c.toml"
    path.write_text(("" if line.startswith("data =") else "data.path = 'digits'\n") + line + "\n")
    if line.startswith("data.path"):
        path.write_text(line)
    assert main(["train", str(path), "--steps" if line == "train = 3" else "--out", "3"]) == 2
    err = capfd.readouterr().err
    assert err.count("\n") == 1 and "unexpected" not in err and len(err) < 700
    assert line.split()[0].split(".")[-1] in err or f"{path} is not valid TOML" in err


@pytest.mark.parametrize(
    "flags",
    [("--lr", "nan"), ("--lr", "inf"), ("--seed", "-1"), ("--batch-size", "0"), ("--steps", "-3"),
     ("--set", "train.threads=1000000"), ("--set", "model.levels='two'"),
     ("--set", "model.hidden=-4"), ("--set", "model.levels=2020-01-01"), ("--set", "model.x=1"),
     ("--set", "model.hidden=[1, 2]"), ("--set", "train.x=1"), ("--set", "x"),
     ("--set", "model.bound=nan"), ("--model", "glow2")],
)  # fmt: skip
def test_flags(tmp_path, flags, capfd):
    out = str(tmp_path / "run")
    assert main(["train", "--data", "digits", "--out", out, "-q", *flags]) == 2
    err = capfd.readouterr().err
    assert err.count("\n") == 1 and "unexpected" not in err


@pytest.mark.parametrize("make", [
    os.mkfifo, os.mkdir, lambda path: path.symlink_to(path), lambda path: None,
    lambda path: path.symlink_to("/dev/zero"),
])  # fmt: skip
def test_configs_that_are_no_files(tmp_path, make):
    make(tmp_path / "c.toml")
    for load in (load_config, load_recipe):
        with pytest.raises(InputError, match="cannot read the config") as error:
            load(tmp_path / "c.toml")
        assert "\n" not in str(error.value)


def test_text_of_other_editors_is_welcome(tmp_path):
    (tmp_path / "c.toml").write_bytes(b"\xef\xbb\xbfdata.path = 'digits'\r\ntrain.lr = 1\r\n")
    config = load_config(tmp_path / "c.toml", {"train.ema": ".99", "train.threads": MOST_THREADS})
    assert config.train.lr == 1.0 and config.train.ema == 0.99
    (tmp_path / "c.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="not a text file"):
        load_config(tmp_path / "c.toml")


@pytest.mark.parametrize(
    "line",
    ["train.lr = inf", "train.lr = 0", "train.minutes = -1", "train.minutes = nan",
     "train.minutes = inf", "train.seed = -1", "train.seed = 18446744073709551616",
     "train.batch_size = 0", "train.held_out = 1", "train.max_epochs = 0", "data.budget = 0",
     "data.budget = 1000000000000", "train = 3", "train.x = 1", f"train.lr = {'[' * 10_000}",
     "check.draws = 1", "infer.draws = 100000000000", "train.patience = 2020-01-01"],
)  # fmt: skip
def test_amortized_inference(tmp_path, line):
    (tmp_path / "c.toml").write_text("data.simulator = 'two_moons'\n" + line + "\n")
    with pytest.raises(UsageError) as error:
        load_recipe(tmp_path / "c.toml", {"train.seed": 1} if line == "train = 3" else None)
    assert "\n" not in str(error.value)
