from __future__ import annotations

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
import torch

from innverse.data.atomic import dumps
from innverse.errors import InnverseError, InputError, UsageError
from innverse.flows import Flow
from innverse.train import Trainer, train
from innverse.train import loop as loop_module
from innverse.train.sources import TrainingImages

NOISE = {"model_noise": [0.02, 0.4], "train_score_matching": 0.5, "train_score_matching_from": 0.4}


def run(config, out, **options):
    return train(config, out, device="cpu", quiet=True, **options)


def stopped_after(monkeypatch, config, out, step):
    """Run until somebody presses Ctrl-C during ``step``."""
    whole = Trainer.step

    def interrupted(self, stop=False):
        return whole(self, stop or self.step_number + 1 == step)

    with monkeypatch.context() as m:
        m.setattr(Trainer, "step", interrupted)
        outcome = run(config, out)
    assert not outcome.complete and outcome.step == step
    return outcome


@pytest.mark.parametrize("changes", [{}, NOISE], ids=["plain", "noise-conditional"])
def test_an_interrupted_run_continues_bit_for_bit(settings, curve, tmp_path, monkeypatch, changes):
    config = settings(**changes)
    whole = run(config, tmp_path / "whole")
    assert whole.complete and whole.step == 20
    stopped_after(monkeypatch, config, tmp_path / "parts", 7)
    stopped_after(monkeypatch, config, tmp_path / "parts", 13)
    parts = run(config, tmp_path / "parts")
    assert curve(tmp_path / "parts") == curve(tmp_path / "whole")
    assert [r["step"] for r in curve(tmp_path / "parts") if r["kind"] == "train"] == [*range(1, 21)]
    assert parts.held_out == whole.held_out
    a, b = (Flow.from_pretrained(o.model).state_dict() for o in (whole, parts))
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_what_a_run_leaves(settings, curve, tmp_path):
    config = settings(**NOISE, data_transpose=True)
    outcome = run(config, tmp_path)
    assert outcome.held_out.keys() == {"gap", "psnr"}
    assert {r["step"] for r in curve(tmp_path) if r["kind"] == "eval"} == {10, 20}
    assert len(list((tmp_path / "checkpoint").iterdir())) == 4
    assert (tmp_path / "samples" / "000000020.png").stat().st_size > 100
    card = (outcome.model / "README.md").read_text()
    assert "sigma in [0.02, 0.4]" in card and "score_matching = 0.5" in card
    assert str(tmp_path.parent) not in card, "a card names no folder of this machine"
    flow = Flow.from_pretrained(outcome.model)
    assert flow.noise_range == (0.02, 0.4)
    assert flow.symmetries == ("mirror", "transpose")
    assert all(layer.initialized for layer in flow.modules() if hasattr(layer, "initialized"))
    saved = loop_module.load_checkpoint(tmp_path / "checkpoint" / "000000020.json").tensors
    for name, value in flow.state_dict().items():
        assert torch.equal(value, saved[f"ema/{name}"])
    again = run(config, tmp_path)
    assert again == outcome, "a complete run has nothing left to do"


def test_a_finished_run_is_lengthened(settings, curve, tmp_path, capsys):
    run(settings(train_steps=10), tmp_path)
    before = curve(tmp_path)
    outcome = train(settings(train_steps=25), tmp_path, device="cpu")
    said = capsys.readouterr().err
    assert "continuing after step 10" in said and "with more --steps it goes on from here" in said
    assert outcome.complete and outcome.step == 25
    assert curve(tmp_path)[: len(before)] == before
    with pytest.raises(InputError, match=r"train\.steps = 25"):  # it cannot be shortened
        run(settings(train_steps=12), tmp_path)


def test_training_learns(settings, curve, tmp_path):
    config = settings(train_steps=150, train_lr=5e-3, train_batch_size=16, train_eval_every=150)
    outcome = run(config, tmp_path)
    before = next(r for r in curve(tmp_path) if r["step"] == 1)["bits_per_dim"]
    assert outcome.held_out["bits_per_dim"] < before - 0.5


def test_a_bad_step_is_skipped_counted_and_changes_nothing(settings, tmp_path, monkeypatch, curve):
    config = settings()
    batch = Trainer._batch

    def poisoned(self, step, world):
        images, noise, sigma = batch(self, step, world)
        return images, noise * (math.nan if step in (4, 6) else 1), sigma

    monkeypatch.setattr(Trainer, "_batch", poisoned)
    trainer = Trainer(config, TrainingImages(config))
    trainer.initialize()
    for _ in range(4):
        assert trainer.step()["skipped"] is None
    before = {k: v.clone() for k, v in trainer.checkpoint().tensors.items()}
    assert "nan" in trainer.step()["skipped"]
    after = trainer.checkpoint().tensors
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)

    outcome = run(config, tmp_path)
    assert outcome.complete and outcome.skipped == 2
    skips = [r for r in curve(tmp_path) if r["kind"] == "skip"]
    assert [r["step"] for r in skips] == [5, 7]
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text()
    assert curve(tmp_path)[-2]["skipped"] == 2


def test_a_diverged_run_ends_with_one_line(settings, tmp_path, monkeypatch):
    batch = Trainer._batch

    def poisoned(self, step, world):
        images, noise, sigma = batch(self, step, world)
        return images, noise * (math.nan if step > 3 else 1), sigma

    monkeypatch.setattr(Trainer, "_batch", poisoned)
    with pytest.raises(InnverseError, match=r"diverged.*lower train\.lr") as error:
        run(settings(train_max_skips=5), tmp_path)
    assert "\n" not in str(error.value)


def test_a_checkpoint_of_other_settings_is_refused(settings, tmp_path, monkeypatch):
    stopped_after(monkeypatch, settings(), tmp_path, 3)
    with pytest.raises(InputError, match=r"train\.lr = 0\.001, now it is 0\.002.*--no-resume"):
        run(settings(train_lr=2e-3), tmp_path)
    with pytest.raises(InputError, match=r"model\.hidden"):
        run(settings(model_hidden=9), tmp_path)
    # how often to log is not part of the curve
    assert run(settings(train_log_every=2, train_keep=1), tmp_path).complete


def test_starting_over(settings, curve, tmp_path):
    run(settings(), tmp_path)
    first = curve(tmp_path)
    run(settings(train_seed=1, train_steps=3), tmp_path, resume=False)
    assert max(r["step"] for r in curve(tmp_path)) == 3
    assert [p.stem for p in (tmp_path / "checkpoint").glob("*.json")] == ["000000003"]
    assert curve(tmp_path)[0]["loss"] != first[0]["loss"]


def test_fine_tuning_starts_from_the_saved_weights(settings, tmp_path):
    first = run(settings(train_steps=5), tmp_path / "first")
    config = settings(model_init=str(first.model))
    trainer = Trainer(config, TrainingImages(config))
    trainer.initialize()
    saved = Flow.from_pretrained(first.model).state_dict()
    assert all(torch.equal(v, saved[k]) for k, v in trainer.model.state_dict().items())
    with pytest.raises(UsageError, match="same ones"):
        Trainer(settings(model_init=str(first.model), model_hidden=9), TrainingImages(config))


def test_schedule_and_average(settings):
    config = settings(train_steps=103, train_lr=1.0, train_lr_floor=0.1)
    trainer = Trainer(config, TrainingImages(config))
    rates = [trainer.learning_rate(step) for step in range(103)]
    assert rates[:3] == pytest.approx([1 / 3, 2 / 3, 1])
    assert rates[53] == pytest.approx(0.55) and rates == [*rates[:3], *sorted(rates[3:])[::-1]]
    assert rates[-1] == pytest.approx(0.1, abs=1e-3)

    for p in trainer.model.parameters():
        p.data.fill_(1.0)
    for p in trainer.ema.parameters():
        p.data.zero_()
    trainer._average(0)  # decay 1/10
    trainer._average(1)  # decay 2/11
    for p in trainer.ema.parameters():
        torch.testing.assert_close(p, torch.full_like(p, 1 - 0.1 * 2 / 11))


def test_bf16_trains_in_bf16_and_is_judged_in_fp32(settings, tmp_path):
    config = settings(train_precision="bf16", **NOISE)
    trainer = Trainer(config, TrainingImages(config))
    kinds = {
        net: {m.precision for m in model.modules() if hasattr(m, "precision")}
        for net, model in (("flow", trainer.model), ("ema", trainer.ema))
    }
    assert kinds == {"flow": {"bf16"}, "ema": {"fp32"}}
    assert run(config, tmp_path).complete


def test_bad_places(settings, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(InputError, match="cannot write to .*file/run"):
        run(settings(), blocked / "run")
    with pytest.raises(InputError, match="no such file or folder"):
        run(settings(data_path=str(tmp_path / "none")), tmp_path / "run")
    with pytest.raises(UsageError, match="unknown device"):
        train(settings(), tmp_path / "run", device="abacus")
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match="no such CUDA"):
            train(settings(), tmp_path / "run", device="cuda")


def test_outcome_is_json(settings, tmp_path):
    outcome = run(settings(train_steps=2), tmp_path)
    assert json.loads(dumps(asdict(outcome)))["step"] == 2


def test_another_part_of_the_data_judges_instead_of_held_out_images(settings, images, tmp_path):
    pictures = np.load(images)
    np.savez(tmp_path / "parts.npz", train=pictures[:30], validation=pictures[30:])
    config = settings(
        data_path=str(tmp_path / "parts.npz"), data_subset="train", data_held_out_subset="validation",
        data_crop=8,
    )  # fmt: skip
    data = TrainingImages(config)
    assert (data.n_train, data.n_held_out) == (30, 10)
    (judged,) = data.held_out(10)
    of_validation = {picture.tobytes() for picture in pictures[30:]}
    assert all(crop.numpy().tobytes() in of_validation for crop in judged[:, 0])
    trained = {crop.numpy().tobytes() for crop in data.batch(0)[:, 0]}
    assert not trained & of_validation
