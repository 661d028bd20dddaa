"""The schedule, and a training that stops and goes on."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

from innverse.errors import InnverseError, InputError
from innverse.fitting.checkpoint import Checkpoint
from innverse.fitting.schedule import Budget, Schedule
from innverse.fitting.training import Training


def linear(n: int = 400):
    """A model y = w x + b with w = 2, b = -1, and its data."""
    torch.manual_seed(0)
    model = torch.nn.Linear(1, 1)
    x = torch.randn(n, 1)
    y = 2 * x - 1 + 0.1 * torch.randn(n, 1)

    def loss(x, y):
        # noise from the global generator, as the losses of the bi-directional INN have
        return (model(x + 0.01 * torch.randn_like(x)) - y).square().sum(1)

    return model, loss, (x[40:], y[40:]), (x[:40], y[:40])


SCHEDULE = Schedule(lr=0.03, batch_size=32, max_epochs=30)


def test_learning_rate_stays_and_falls():
    budget = Budget(90, None)
    assert budget.factor(budget.used(45, 0)) == 1
    assert budget.factor(budget.used(60, 0)) == pytest.approx(1)
    assert budget.factor(budget.used(75, 0)) == pytest.approx(1 - math.sqrt(0.5))
    assert budget.factor(budget.used(90, 0)) == pytest.approx(0)
    assert Budget(1000, 1.0).used(10, 45.0) == pytest.approx(0.75)  # what runs out first counts
    budget.end_soon(40, 40 / 90)
    assert budget.epochs == 60 and budget.factor(budget.used(40, 0)) == pytest.approx(1)
    assert budget.factor(budget.used(60, 0)) == pytest.approx(0, abs=1e-6)


def test_training_finds_the_line_and_keeps_the_best_state():
    model, loss, data, held_out = linear()
    history = Training(model, loss, data, held_out, SCHEDULE).run(progress=False)
    assert model.weight.item() == pytest.approx(2, abs=0.05)
    assert model.bias.item() == pytest.approx(-1, abs=0.05)
    assert history.best == min(history.held_out) and history.epochs == len(history.held_out)
    assert history.steps == history.epochs * (360 // 32)


def test_a_plateau_begins_the_end():
    model, loss, data, held_out = linear()
    history = Training(
        model, loss, data, held_out, Schedule(lr=0.03, batch_size=32, patience=2)
    ).run(progress=False)
    assert history.ended == "no more progress on what is held out" and history.epochs < 200


@pytest.mark.parametrize("stop", [1, 57, 120])
def test_a_training_that_was_stopped_ends_where_it_would_have(stop, tmp_path):
    model, loss, data, held_out = linear()
    whole = Training(model, loss, data, held_out, SCHEDULE).run(progress=False)
    want = model.state_dict()
    model, loss, data, held_out = linear()
    first = Training(model, loss, data, held_out, SCHEDULE)
    for _ in range(stop):
        first.step()
    from innverse.fitting.checkpoint import save_checkpoint

    save_checkpoint(tmp_path, first.checkpoint({"data": "a"}))
    model, loss, data, held_out = linear()
    history = Training(model, loss, data, held_out, SCHEDULE).run(
        progress=False, checkpoint=tmp_path, signature={"data": "a"}
    )
    assert history.held_out == whole.held_out and history.best == whole.best
    for key, value in model.state_dict().items():
        assert torch.equal(value, want[key])
    # complete: nothing is trained again
    again = Training(model, loss, data, held_out, SCHEDULE).run(
        progress=False, checkpoint=tmp_path, signature={"data": "a"}
    )
    assert again == history
    with pytest.raises(InputError, match="other data"):
        Training(model, loss, data, held_out, SCHEDULE).run(
            checkpoint=tmp_path, signature={"data": "b"}
        )


def test_bad_steps_are_refused_and_many_end_it():
    model, loss, data, held_out = linear()
    before = model.weight.detach().clone()
    training = Training(model, lambda x, y: loss(x, y) * math.nan, data, held_out, SCHEDULE)
    training.step()
    assert training.history.skipped == 1 and torch.equal(model.weight, before)
    with pytest.raises(InnverseError, match="last 50 steps"):
        for _ in range(60):
            training.step()


def test_what_is_kept_is_an_average_of_the_last_weights():
    model, loss, data, held_out = linear()
    training = Training(model, loss, data, held_out, Schedule(lr=0.3, batch_size=8, max_epochs=40))
    seen = []
    while not training.done:
        training.step()
        seen.append(model.weight.item())
    training.finish()
    # a learning rate far too high: the weight never rests, its average is near the truth
    tail = torch.tensor(seen[300:1200])
    assert tail.std() > 0.02
    assert abs(model.weight.item() - 2) < tail.std() / 2
    assert model.weight.item() not in seen  # and none of the weights that there were


def regression(signal: float):
    """40 noisy answers of 30 numbers each: a fit without decay follows the noise."""
    torch.manual_seed(0)
    x, w = torch.randn(1040, 30), signal * torch.randn(30, 1)
    y = x @ w + torch.randn(1040, 1)
    model = torch.nn.Linear(30, 1, bias=False)

    def loss(x, y):
        return (model(x) - y).square().sum(1)

    return model, loss, (x[:40], y[:40]), (x[40:], y[40:])


@pytest.mark.parametrize(("signal", "kept"), [(0.03, 2.0), (3.0, 0.0)])
def test_heavy_decay_is_tried_where_it_overfits_and_kept_where_it_helps(signal, kept):
    schedule = Schedule(
        lr=0.03, batch_size=20, patience=100, max_epochs=4000, weight_decay=0.0, heavy_decay=2.0
    )
    alone = dataclasses.replace(schedule, heavy_decay=None, light_decay=None)
    light = Training(*regression(signal), alone)
    both = Training(*regression(signal), schedule)
    tried = False
    for training in (light, both):
        while not training.done:
            training.step()
            tried = tried or training.decay.on_trial
        training.finish()
    assert tried and light.decay.now == 0 and both.decay.now == kept
    assert both.history.best <= light.history.best + 1e-3
    assert not kept or both.history.best < light.history.best - 0.01


def test_a_training_stopped_amid_the_trial_ends_where_it_would_have(tmp_path):
    schedule = Schedule(lr=0.03, batch_size=20, patience=100, max_epochs=600, weight_decay=0.0)
    whole = Training(*regression(0.03), schedule)
    while not whole.decay.on_trial:
        whole.step()
    middle = whole.checkpoint({})
    middle = Checkpoint(
        middle.step, {k: v.clone() for k, v in middle.tensors.items()}, middle.state
    )
    second = Training(*regression(0.03), schedule)
    second.restore(middle, {}, tmp_path)
    for training in (whole, second):
        while not training.done:
            training.step()
    assert whole.history.held_out == second.history.held_out
    assert whole.decay == second.decay


def test_light_decay_is_tried_where_it_does_not_overfit():
    model, loss, data, held_out = linear()
    schedule = Schedule(lr=0.03, batch_size=32, patience=3, weight_decay=1.0)
    assert Training(model, loss, data, held_out, schedule).decay.now == 1
    history = Training(model, loss, data, held_out, schedule).run(progress=False)
    model, loss, data, held_out = linear()
    fixed = dataclasses.replace(schedule, light_decay=None)
    heavier = Training(model, loss, data, held_out, fixed).run(progress=False)
    assert history.best < heavier.best - 0.01  # the decay holds the slope of 2 down
    assert abs(history.best - 0.01) < 0.005  # the variance of the noise
