"""Guards on a device decide as guards in Python do, and remember the same."""

from __future__ import annotations

import math
import random

import pytest
import torch

from absent_gpu import GPU, nobody_waits, on_gpu, recording_on_cpu
from innverse import fit, flows
from innverse.accelerate.captured import Captured
from innverse.fitting import training as training_module
from innverse.fitting.fit import _loss_of
from innverse.fitting.guard import Guard
from innverse.fitting.queued import QueuedGuard, in_words
from innverse.fitting.schedule import Schedule
from innverse.fitting.training import Training


def stories():
    """Losses and norms with explosions, NaN, and changes of scale that last."""
    rng = random.Random(0)
    for k in range(300):
        scale = 1 + 30 * (100 <= k < 180)
        loss, norm = rng.gauss(2, 0.3), scale * math.exp(rng.gauss(0, 0.5))
        if rng.random() < 0.05:
            loss = rng.choice([math.nan, math.inf, 9.0])
        if rng.random() < 0.05:
            norm = rng.choice([math.nan, math.inf, 500.0])
        yield loss, norm


@pytest.mark.parametrize("window", [1, 8, 64])
def test_both_guards_decide_alike(window):
    options = {"window": window, "warm": min(window, 16)}
    python, queued = Guard(**options), QueuedGuard(Guard(**options), torch.device("cpu"))
    for k, (loss, norm) in enumerate(stories()):
        given = (torch.tensor(v, dtype=torch.float64) for v in (loss, norm))
        reason, usual = queued.judge(*given)
        right = python.judge(loss, norm)
        assert in_words([loss, norm, float(reason), float(usual)]) == right
        if k % 50 == 49:  # also after it was saved and restored
            assert queued.read().state() == python.state() and queued.guard.lost == python.lost
            again = Guard(**options)
            again.load(queued.guard.state())
            again.lost = queued.guard.lost
            queued = QueuedGuard(again, torch.device("cpu"))


def test_fit_learns_the_same_ahead_of_python(monkeypatch):
    x = torch.randn(300, 2, generator=torch.Generator().manual_seed(0)) @ torch.tensor(
        [[1, 0.8], [0, 0.6]]
    )
    options = {"max_epochs": 6, "batch_size": 50, "progress": False}

    def trained():
        torch.manual_seed(0)
        flow = flows.build("realnvp", (2,), layers=2, width=8)
        return fit(flow, x, **options), flow

    history, flow = trained()
    monkeypatch.setattr(training_module, "runs_ahead", lambda device: True)
    recorder = recording_on_cpu(monkeypatch)
    found, ahead = trained()
    assert recorder.replays > 20 and found.steps == history.steps
    assert found.held_out == pytest.approx(history.held_out, abs=1e-3)
    for a, b in zip(ahead.parameters(), flow.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


def test_fit_ahead_of_python_survives_nan_and_continues(monkeypatch, tmp_path):
    monkeypatch.setattr(training_module, "runs_ahead", lambda device: True)
    recording_on_cpu(monkeypatch)
    x = torch.randn(200, 2, generator=torch.Generator().manual_seed(0))
    x[7] = 1e30  # overflows in float32
    options = {"batch_size": 20, "progress": False, "held_out": x[100:150]}

    def trained(epochs, folder):
        torch.manual_seed(0)
        flow = flows.build("realnvp", (2,), layers=2, width=8, standardize=False)
        return fit(flow, x, max_epochs=epochs, checkpoint=folder, **options), flow

    whole, flow = trained(4, None)
    assert whole.skipped >= 4 and all(p.isfinite().all() for p in flow.parameters())
    assert math.isfinite(whole.best)


@pytest.mark.parametrize("name", ["realnvp", "nsf", "maf", "flow_matching"])
def test_no_step_of_fit_waits_for_the_gpu(monkeypatch, name):
    options = {"hidden": 8} if name == "flow_matching" else {"layers": 2, "width": 8}
    flow = on_gpu(flows.build(name, (4,), condition=1, **options))
    monkeypatch.setattr(Training, "_evaluate", lambda self, data: 0.0)
    rows = torch.randn(200, 4), torch.randn(200, 1)
    loss = _loss_of(flow)
    training = Training(flow, loss, rows, rows, Schedule(batch_size=20), device=GPU)
    training.data.batch(0, 0)  # the order of an epoch goes there
    with nobody_waits(monkeypatch):
        for _ in range(4):
            training.step()
    assert training.history.steps == 4


def test_a_captured_call_may_take_none():
    assert float(Captured(lambda x, c: x if c is None else c)(torch.ones(()), None)) == 1
