"""A run that ends in NaN says so, with exit code 3, and leaves what was good before."""

from __future__ import annotations

import json
import math

import pytest
import torch

import innverse
from innverse.cli import main
from innverse.errors import InputError, NotConvergedError
from innverse.fitting.checkpoint import (
    Checkpoint,
    latest_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from innverse.train import Trainer, read_metrics, train

TINY = ["--set", "model.levels=1", "--set", "model.steps=1", "--set", "model.hidden=8", "--set",
        "train.threads=1", "--set", "train.checkpoint_every=10", "--batch-size", "4"]  # fmt: skip


def run(settings, out):
    return train(settings, out, device="cpu", quiet=True)


@pytest.mark.parametrize("held_out", [0, 8])
@pytest.mark.parametrize("model", ["glow", "vae", "gan"])
def test_an_absurd_learning_rate_saves_nothing(images, tmp_path, held_out, model, capfd):
    out = tmp_path / "run"
    (out / "model").mkdir(parents=True)
    (out / "model" / "config.json").write_text("the good one")
    flags = ["train", "--data", images, "--model", model, "--crop", 8, "--steps", 30, "--lr", 1e30]
    flags += ["--set", f"data.held_out={held_out}", "--out", out, "--json", "-q"]
    tiny = TINY if model == "glow" else ["--set", "model.width=4", *TINY[6:]]
    assert main([str(word) for word in [*flags, *tiny]]) == 3
    printed, message = capfd.readouterr()
    assert message.count("\n") == 1 and "diverged" in message and "checkpoint" in message
    assert "NaN" not in printed
    assert (out / "model" / "config.json").read_text() == "the good one"
    newest = latest_checkpoint(out / "checkpoint")
    assert newest is None or str(newest) in message


def test_the_last_good_checkpoint_is_kept_and_named(settings, tmp_path, monkeypatch):
    update = Trainer._update

    def poisoned(self, n, *batch):
        row = update(self, n, *batch)
        if n == 12:
            next(self.model.parameters()).data.fill_(math.nan)
        return row

    monkeypatch.setattr(Trainer, "_update", poisoned)
    with pytest.raises(NotConvergedError, match=r"000000010\.json, of step 10") as error:
        run(settings(train_keep=1), tmp_path)
    assert "\n" not in str(error.value)
    good = load_checkpoint(latest_checkpoint(tmp_path / "checkpoint"))
    assert good.step == 10 and all(t.isfinite().all() for t in good.tensors.values())
    assert not (tmp_path / "model").exists()


def test_one_bad_batch_at_the_very_end_is_no_divergence(settings, tmp_path, monkeypatch):
    batch = Trainer._batch

    def poisoned(self, step, world):
        images, noise, sigma = batch(self, step, world)
        return images, noise * (math.nan if step == 5 else 1), sigma

    monkeypatch.setattr(Trainer, "_batch", poisoned)
    outcome = run(settings(train_steps=6), tmp_path)
    assert outcome.complete and outcome.skipped == 1
    assert all(p.isfinite().all() for p in innverse.load(outcome.model).parameters())


def test_metrics_are_strict_json_with_every_digit(settings, tmp_path, monkeypatch):
    batch = Trainer._batch
    monkeypatch.setattr(
        Trainer, "_batch", lambda self, step, world: poison(batch(self, step, world), step == 2)
    )

    def poison(made, bad):
        return made[0], made[1] * (math.nan if bad else 1), made[2]

    lr = 0.1 + 0.2 - 0.299
    run(settings(train_steps=4, train_lr=lr), tmp_path)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    rows = [json.loads(line, parse_constant=pytest.fail) for line in lines]
    assert rows == read_metrics(tmp_path / "metrics.jsonl")
    assert next(row["loss"] for row in rows if row["kind"] == "skip") is None
    saved = json.loads((tmp_path / "config.json").read_text(), parse_constant=pytest.fail)
    assert saved["train"]["lr"] == lr


def test_a_checkpoint_keeps_infinities_in_strict_json(tmp_path):
    state = {"best": math.inf, "list": [-math.inf, 0.1 + 0.2], "more": {"a": 1}}
    path = save_checkpoint(tmp_path, Checkpoint(3, {"w": torch.ones(2)}, state))
    json.loads(path.read_text(), parse_constant=pytest.fail)
    assert load_checkpoint(path).state == state


def rewritten(change):
    """A record with another content and the right checksum."""

    def mutate(path):
        from innverse.fitting.checkpoint import _digest

        record = json.loads(path.read_text())
        change(record)
        record.pop("sha256")
        path.write_text(json.dumps(record | {"sha256": _digest(record)}))

    return mutate


@pytest.mark.parametrize(
    "mutate",
    [
        lambda path: path.write_text("[" * 100_000),
        lambda path: path.write_text('{"format": 1, "format": 1}'),
        lambda path: path.write_text("{}"),
        rewritten(lambda record: record.update(step="5")),
        rewritten(lambda record: record.update(state=[])),
        rewritten(lambda record: record.pop("state")),
        rewritten(lambda record: record.pop("tensors_sha256")),
        rewritten(lambda record: record["state"].pop("curve")),
        rewritten(lambda record: record["state"].update(curve=3)),
        rewritten(lambda record: record["state"].update(guard=None)),
        rewritten(lambda record: record["state"].update(guard={"losses": 3})),
        rewritten(lambda record: record["state"].pop("seconds")),
        rewritten(lambda record: record["state"].update(held_out=4)),
    ],
)
def test_hostile_checkpoints(settings, tmp_path, mutate):
    stopped = settings(train_steps=20)
    step = Trainer.step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "step", lambda self, stop=False: step(self, self.step_number == 1))
        run(stopped, tmp_path)
    mutate(latest_checkpoint(tmp_path / "checkpoint"))
    with pytest.raises(InputError, match="no-resume") as error:
        run(stopped, tmp_path)
    assert "\n" not in str(error.value)
