"""Postures and throws (Kruse et al. 2021): MMD^2 to rejection ground truth, and the speed of draws."""

from __future__ import annotations

import time

from innverse.data import simulators
from innverse.metrics.mmd import mmd2_large

from .calibration import before_and_after
from .cells import Setting, mean, seeded

# unbiased MMD^2 and seconds per 10^6 draws of a published replication on a laptop's processor
PUBLISHED = {
    "inverse_kinematics": {"matching": 0.0016, "mdn": 0.0031, "cvae": 0.0169},
    "inverse_ballistics": {"matching": 0.0071, "mdn": 0.0071},
}


def run(setting: Setting, only: str | None = None) -> dict:
    """Both tasks, three seeds each: one million pairs, ten observations."""
    result = {}
    for name in [only] if only else PUBLISHED:
        # a wider noise in the quick form: rejection is then fast
        task = simulators.get(name, **({"noise": 0.1} if setting.quick else {}))
        rows = []
        for seed in range(1 if setting.quick else 3):
            n = 2000 if setting.quick else 1_000_000
            label = f"kinematics/{name}-{seed}"
            posterior, training = setting.learn(label, task, n, seed)
            numbers = range(2 if setting.quick else 10)
            cells = [
                setting.cell(
                    f"{label}/x-{k}", lambda k=k, p=posterior, t=task: _compare(setting, p, t, k)
                )
                for k in numbers
            ]
            speed = setting.cell(
                f"{label}/speed", lambda p=posterior, t=task: _speed(setting, p, t)
            )
            repair = setting.cell(
                f"{label}/calibration",
                lambda p=posterior, t=task: before_and_after(p, t, setting.quick),
            )
            row = {key: mean(c[key] for c in cells) for key in cells[0]}
            rows.append({"seed": seed, **row, **speed, **training, "calibration": repair})
        result[name] = rows
    result["published"] = PUBLISHED
    return result


def _compare(setting: Setting, posterior, task, number: int) -> dict:
    draws = 300 if setting.quick else 4000
    x = task.pairs(1, seeded(100 + number))[1][0]
    truth = task.reference_posterior(x, draws, seeded(number))
    found = posterior.sample((draws,), x=x, generator=seeded(number))
    again = (task.forward(found) - x).square().sum(1).mean()
    exact = (task.forward(truth) - x).square().sum(1).mean()
    return {
        "mmd2": mmd2_large(found, truth),
        "resimulation": float(again),
        "resimulation_of_the_reference": float(exact),
    }


def _speed(setting: Setting, posterior, task) -> dict:
    n = 10_000 if setting.quick else 1_000_000
    x = task.pairs(1, seeded(100))[1][0]
    posterior.sample((10_000,), x=x)
    started = time.process_time()
    posterior.sample((n,), x=x)
    return {"seconds_per_million": (time.process_time() - started) * 1e6 / n}
