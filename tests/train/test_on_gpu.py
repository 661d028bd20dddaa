"""Training steps of a GPU: nothing waits, and graphs train as Python does."""

from __future__ import annotations

import copy

import pytest
import torch

from absent_gpu import GPU, nobody_waits, recording_on_cpu
from innverse.train import Trainer, train
from innverse.train import trainer as trainer_module
from innverse.train.sources import TrainingImages

NOISY = {"model_noise": [0.02, 0.4], "train_score_matching": 0.5, "train_score_matching_from": 0.5}
FILM = NOISY | {
    "model_how": "film", "model_activation": "silu", "model_squeeze": "haar", "model_mix": "swap",
    "train_precision": "bf16", "data_transpose": True,
}  # fmt: skip
KINDS = {"plain": {}, "noisy": NOISY, "film": FILM, "reversible": {"train_memory": "reversible"}}


@pytest.fixture
def ahead(monkeypatch):
    """The CPU is taken for a device that runs ahead of Python."""
    monkeypatch.setattr(trainer_module, "runs_ahead", lambda device: True)


@pytest.mark.parametrize("changes", KINDS.values(), ids=KINDS)
def test_no_step_waits_for_the_gpu(settings, monkeypatch, changes):
    config = settings(**changes, train_steps=8)
    trainer = Trainer(config, TrainingImages(config), device=GPU)
    trainer.data.batch(0, device=GPU)  # images, and the choices of the first steps, go there
    with nobody_waits(monkeypatch):
        for _ in range(8):
            row = trainer.step()
    assert row["step"] == 8 and row["numbers"].device == GPU


def steps(config, n=50):
    trainer = Trainer(config, TrainingImages(config))
    trainer.initialize()
    rows = trainer.read([trainer.step() for _ in range(n)])
    return rows, trainer.checkpoint().tensors


@pytest.mark.parametrize("changes", [{}, NOISY], ids=["plain", "noisy"])
def test_graphs_train_as_python_does(settings, monkeypatch, ahead, changes):
    config = settings(**changes, train_steps=50)
    with monkeypatch.context() as m:
        m.setenv("INNVERSE_CAPTURE", "0")
        rows, tensors = steps(config)
    recorder = recording_on_cpu(monkeypatch)
    again, captured = steps(config)
    assert recorder.replays >= 44
    for row, other in zip(rows, again, strict=True):
        assert row["loss"] == pytest.approx(other["loss"], abs=1e-5)
        assert row["skipped"] == other["skipped"] and row["lr"] == other["lr"]
    for name, tensor in tensors.items():
        torch.testing.assert_close(captured[name], tensor, rtol=1e-4, atol=1e-5)


def test_a_captured_run_continues_bit_for_bit(settings, curve, tmp_path, monkeypatch, ahead):
    recording_on_cpu(monkeypatch)
    config = settings(**NOISY)
    whole = train(config, tmp_path / "whole", device="cpu", quiet=True)
    step = Trainer.step
    with monkeypatch.context() as m:
        m.setattr(Trainer, "step", lambda self, stop=False: step(self, self.step_number == 8))
        assert train(config, tmp_path / "parts", device="cpu", quiet=True).step == 9
    parts = train(config, tmp_path / "parts", device="cpu", quiet=True)
    assert curve(tmp_path / "parts") == curve(tmp_path / "whole")
    assert parts.held_out == whole.held_out


def test_refused_steps_change_nothing_and_are_counted(settings, monkeypatch, ahead):
    recording_on_cpu(monkeypatch)
    config = settings()
    trainer = Trainer(config, TrainingImages(config))
    trainer.initialize()
    batch = trainer._batch
    spoilt = lambda n, world: (batch(n, world)[0], batch(n, world)[1] * float("nan"), None)  # noqa: E731
    for n in range(6):
        trainer._batch = spoilt if n in (1, 4) else batch
        before = copy.deepcopy(trainer.checkpoint().tensors)
        (row,) = trainer.read([trainer.step()])
        same = [torch.equal(a, trainer.checkpoint().tensors[k]) for k, a in before.items()]
        assert all(same) == (n in (1, 4))
        assert (row["skipped"] is not None) == (n in (1, 4))
    assert trainer.skipped == 2
