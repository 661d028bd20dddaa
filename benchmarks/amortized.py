"""Amortised posteriors on simulators whose posteriors are known: accuracy, calibration, speed.

Three parts, each written beside the others into --out (default benchmarks/results):

    kinematics.json   MMD^2 to rejection ground truth, re-simulation error, seconds per 10^6 draws,
                      for inverse kinematics and ballistics
    sbibm.json        C2ST to reference posteriors of eight tasks, minutes of training
    modes.json        eight modes: weights of the modes, both variants of the bi-directional INN

    python benchmarks/amortized.py --quick          that it all runs, in a minute or so
    python benchmarks/amortized.py --part sbibm --task slcp --minutes 15

The reference posteriors and observations are our own (`innverse.data.simulators`), not those of the
sbibm wheel. sbi's NPE and zuko's NSF are not part of this file yet: "peer" stays empty.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch

from innverse import amortized
from innverse.data import simulators
from innverse.metrics import calibration
from innverse.metrics.mmd import mmd2_large

SBIBM = (
    "two_moons",
    "slcp",
    "slcp_distractors",
    "gaussian_mixture",
    "gaussian_linear",
    "gaussian_linear_uniform",
    "bernoulli_glm",
    "bernoulli_glm_raw",
)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def learn(task, n: int, density: str, minutes: float, seed: int, quick: bool):
    """A posterior, and the minutes that its training took."""
    theta, x = task.pairs(n, seeded(seed))
    begun = time.perf_counter()
    limits = {"max_epochs": 3} if quick else {"minutes": minutes}
    posterior = amortized.fit(
        theta, x, bounds=task.bounds, density=density, seed=seed, progress=False, **limits
    )
    return posterior, (time.perf_counter() - begun) / 60


def calibrate(posterior, task, pairs: int, seed: int) -> dict[str, float]:
    """The calibration error before and after conformal repair, each on fresh pairs."""
    draws = []
    for offset in (1, 2):
        theta, x = task.pairs(pairs, seeded(seed + offset))
        draws.append((theta, posterior.sample_batched((500,), x, generator=seeded(seed))))
    (theta, samples), (fresh, again) = draws
    repaired = calibration.recalibrate(samples, theta).samples(again)
    return {
        "before": calibration.calibration_error(again, fresh),
        "after": calibration.calibration_error(repaired, fresh),
    }


def kinematics(args) -> dict:
    """Kruse et al. 2021 with the noise that gives the posterior a density."""
    result = {}
    n, draws, observations = (2000, 300, 2) if args.quick else (1_000_000, 4000, 10)
    for name in ("inverse_kinematics", "inverse_ballistics"):
        # a wider noise in the quick form: rejection is then fast
        task = simulators.get(name, **({"noise": 0.1} if args.quick else {}))
        rows = []
        for seed in range(1 if args.quick else 3):
            posterior, minutes = learn(task, n, args.density, args.minutes, seed, args.quick)
            _, x = task.pairs(observations, seeded(100 + seed))
            errors, again = [], []
            for row in x:
                truth = task.reference_posterior(row, draws, seeded(seed))
                found = posterior.sample((draws,), x=row, generator=seeded(seed))
                errors.append(mmd2_large(found, truth))
                again.append(float((task.forward(found) - row).square().sum(1).mean()))
            million = 10_000 if args.quick else 1_000_000
            begun = time.perf_counter()
            posterior.sample((million,), x=x[0])
            seconds = (time.perf_counter() - begun) * 1e6 / million
            rows.append(
                {
                    "seed": seed,
                    "mmd2": sum(errors) / len(errors),
                    "resimulation": sum(again) / len(again),
                    "seconds_per_million": seconds,
                    "parameters": posterior.n_parameters,
                    "minutes": minutes,
                    "calibration_error": calibrate(posterior, task, 200, seed),
                }
            )
            print(name, rows[-1], flush=True)
        result[name] = rows
    return result


def sbibm(args) -> dict:
    """C2ST of eight tasks at 10^5 simulations, mean over 10 observations."""
    from innverse.metrics.c2st import c2st

    n, draws, observations = (500, 200, 1) if args.quick else (100_000, 10_000, 10)
    result = {"c2st": {}, "minutes": {}, "calibration_error": {}, "peer": {}}
    for name in [args.task] if args.task else SBIBM:
        task = simulators.get(name)
        posterior, minutes = learn(task, n, args.density, args.minutes, 0, args.quick)
        _, x = task.pairs(observations, seeded(100))
        scores = []
        for i, row in enumerate(x):
            truth = task.reference_posterior(row, draws, seeded(i))
            found = posterior.sample((draws,), x=row, generator=seeded(i))
            scores.append(c2st(found, truth, seed=i))
        result["c2st"][name] = sum(scores) / len(scores)
        result["minutes"][name] = minutes
        result["calibration_error"][name] = calibrate(posterior, task, 500, 0)
        print(name, {key: part.get(name) for key, part in result.items()}, flush=True)
    return result


def modes(args) -> dict:
    """The weight that each posterior gives to each mode, against the truth."""
    task = simulators.get("eight_modes")
    n = 3000 if args.quick else 100_000
    theta, x = task.pairs(n, seeded(0))
    limits = {"max_epochs": 2 if args.quick else 200, "minutes": args.minutes, "progress": False}
    makers = {
        "cinn": lambda: amortized.fit(theta, x, density=args.density, **limits),
        "inn_mmd": lambda: amortized.fit_bidirectional(theta, x, loss="mmd", pad_to=16, **limits),
        "inn_ml": lambda: amortized.fit_bidirectional(theta, x, loss="ml", **limits),
    }
    result = {}
    for name, make in makers.items():
        begun = time.perf_counter()
        posterior = make()
        minutes = (time.perf_counter() - begun) / 60
        worst = 0.0
        for colour in range(4):
            found = posterior.sample((10_000,), x=torch.eye(4)[colour], generator=seeded(1))
            share = torch.bincount(task.nearest(found), minlength=8) / len(found)
            own = (task.colours == colour).float()
            worst = max(worst, float((share - own / own.sum()).abs().max()))
        result[name] = {"worst_weight_error": worst, "minutes": minutes}
        if hasattr(posterior, "predict"):
            test, _ = task.pairs(2000, seeded(2))
            right = posterior.predict(test).argmax(1) == task.forward(test).argmax(1)
            result[name]["forward_accuracy"] = float(right.double().mean())
        print(name, result[name], flush=True)
    return result


PARTS = {"kinematics": kinematics, "sbibm": sbibm, "modes": modes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--part", choices=PARTS)
    parser.add_argument("--task", choices=SBIBM, help="one task of the part sbibm")
    parser.add_argument("--density", default="spline")
    parser.add_argument("--minutes", type=float, default=15.0, help="most minutes of a training")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="only show that it runs")
    parser.add_argument("--out", type=Path, help="folder; --quick writes only if it is given")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    folder = args.out or (None if args.quick else Path(__file__).parent / "results")
    for name in [args.part] if args.part else PARTS:
        result = PARTS[name](args)
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            result["config"] = {"density": args.density, "quick": args.quick}
            (folder / f"{name}.json").write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
