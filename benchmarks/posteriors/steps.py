"""How fast: training steps and draws per second, beside sbi's NPE of the same architecture."""

from __future__ import annotations

import time

import torch

from innverse.amortized.estimator import Estimator
from innverse.amortized.schedule import Schedule
from innverse.amortized.size import choose_size
from innverse.amortized.training import Training
from innverse.data import simulators

from . import peers
from .cells import Setting, seeded

LAYERS, WIDTH, BINS, BATCH = 5, 50, 10, 200  # sbi's defaults of its neural spline flow


def run(setting: Setting) -> dict:
    """Seconds of a step (median of stretches) and of a thousand draws, of a spline flow for slcp.

    sbi's couplings have residual networks of two blocks, five hidden products in all; ours get a
    perceptron with as many hidden layers (``deep``), and also their usual two.
    """
    task = simulators.get("slcp")
    theta, x = task.pairs(20_000, seeded(0))
    makers = {"innverse, 5 hidden layers": lambda: _ours(theta, x, 5)}
    makers["innverse, 2 hidden layers"] = lambda: _ours(theta, x, 2)
    if peers.available():
        makers["sbi"] = lambda: peers.npe_steps(task, theta, x, LAYERS, WIDTH, BINS, BATCH)
    trials = {name: make() for name, make in makers.items()}
    rounds = 1 if setting.quick else 5
    times: dict[str, dict[str, list[float]]] = {k: {"step": [], "sample": []} for k in trials}
    for _ in range(rounds):  # interleaved: a slow minute of the machine hits all alike
        for name, (step, sample, _) in trials.items():
            times[name]["step"].append(_seconds(step, 10 if setting.quick else 100))
            times[name]["sample"].append(_seconds(sample, 2 if setting.quick else 10))
    result = {}
    for name, found in times.items():
        step, sample = (sorted(found[k])[len(found[k]) // 2] for k in ("step", "sample"))
        result[name] = {
            "steps_per_second": 1 / step,
            "draws_per_second": 10_000 / sample,
            "parameters": trials[name][2],
        }
    return {"batch": BATCH, "threads": torch.get_num_threads(), **result}


def _ours(theta, x, depth: int):
    torch.manual_seed(0)
    d, n_x = theta.shape[1], x.shape[1]
    chosen = {"layers": LAYERS, "width": WIDTH, "bins": BINS, "depth": depth}
    size = choose_size(len(theta), d, n_x) | chosen
    low, high = torch.full((d,), -3.0), torch.full((d,), 3.0)
    estimator = Estimator(low, high, tuple(x.shape[1:]), "spline", "none", size)
    estimator.learn_scales(theta, x)
    u, log_det = estimator.transform(theta)
    z = estimator.standardize(x)

    def loss(u, z, log_det):
        return estimator.density.loss(u, estimator.summary(z)) - log_det

    training = Training(
        estimator,
        loss,
        (u, z, log_det),
        (u[:200], z[:200], log_det[:200]),
        Schedule(batch_size=BATCH),
    )

    def sample():
        with torch.no_grad():
            return estimator.sample(z[:1].expand(10_000, -1))

    return training.step, sample, sum(p.numel() for p in estimator.parameters())


def _seconds(call, repeats: int) -> float:
    call()
    begun = time.process_time()
    for _ in range(repeats):
        call()
    return (time.process_time() - begun) / repeats
