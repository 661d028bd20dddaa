"""How fast: training steps and draws per second, beside sbi's NPE of the same architecture."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from innverse.amortized.estimator import Estimator
from innverse.amortized.size import choose_size
from innverse.data import simulators
from innverse.fitting.schedule import Schedule
from innverse.fitting.training import Training

from . import peers
from .cells import Setting, seeded

LAYERS, WIDTH, BINS, BATCH = 5, 50, 10, 200  # sbi's defaults of its neural spline flow
PAIRS, DRAWS = 20_000, 10_000


@dataclass
class Trial:
    """``epoch`` takes ``steps`` steps and judges the held-out tenth; ``sample`` makes ``DRAWS``."""

    epoch: Callable[[], object]
    steps: int
    sample: Callable[[], object]
    parameters: int


def run(setting: Setting) -> dict:
    """Steps per second of whole epochs, data handling and validation included, and draws per
    second; of a spline flow for slcp, median of interleaved rounds.

    sbi's couplings have residual networks with five hidden products; ours get a perceptron with as
    many hidden layers, and in a second row their usual two.
    """
    task = simulators.get("slcp")
    theta, x = task.pairs(PAIRS // 10 if setting.quick else PAIRS, seeded(0))
    makers = {
        "innverse, 5 hidden layers": lambda: _ours(theta, x, 5),
        "innverse, 2 hidden layers": lambda: _ours(theta, x, 2),
    }
    if peers.available():
        makers["sbi"] = lambda: peers.npe_trial(task, theta, x, (LAYERS, WIDTH, BINS, BATCH, DRAWS))
    trials = {name: make() for name, make in makers.items()}
    rounds = 1 if setting.quick else 5
    times: dict[str, tuple[list[float], list[float]]] = {k: ([], []) for k in trials}
    for _ in range(rounds):  # interleaved: a slow minute of the machine hits all alike
        for name, trial in trials.items():
            for found, call in zip(times[name], (trial.epoch, trial.sample)):
                started = time.process_time()
                call()
                found.append(time.process_time() - started)
    result = {}
    for name, (epochs, draws) in times.items():
        epoch, draw = (sorted(t)[len(t) // 2] for t in (epochs, draws))
        result[name] = {
            "steps_per_second": trials[name].steps / epoch,
            "draws_per_second": DRAWS / draw,
            "parameters": trials[name].parameters,
        }
    return {"batch": BATCH, "threads": torch.get_num_threads(), **result}


def _ours(theta, x, depth: int) -> Trial:
    torch.manual_seed(0)
    d, n_x = theta.shape[1], x.shape[1]
    chosen = {"layers": LAYERS, "width": WIDTH, "bins": BINS, "depth": depth}
    size = choose_size(len(theta), d) | chosen
    low, high = torch.full((d,), -3.0), torch.full((d,), 3.0)
    estimator = Estimator(low, high, (n_x,), "nsf", "none", size)
    estimator.learn_scales(theta, x)
    u, log_det = estimator.transform(theta)
    z = estimator.standardize(x)

    def loss(u, z, log_det):
        return estimator.density.loss(u, estimator.summary(z)) - log_det

    split = len(theta) // 10
    train, test = ((u[s], z[s], log_det[s]) for s in (slice(split, None), slice(split)))
    training = Training(estimator, loss, train, test, Schedule(batch_size=BATCH))

    def epoch():
        for _ in range(training.per_epoch):
            training.step()

    def sample():
        estimator.eval()
        with torch.no_grad():
            return estimator.sample(z[:1].expand(DRAWS, -1))

    return Trial(epoch, training.per_epoch, sample, sum(p.numel() for p in estimator.parameters()))
