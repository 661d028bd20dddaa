"""The approximate posteriors beside the exact sampler: natural-gray at sigma .02, half the pixels.

The truths are draws of the prior, so the exact posterior is calibrated, and what differs from it is the
method's doing. "amortised" is a conditional Glow, trained here on other draws of the prior. Errors are
root mean squares in exact standard deviations; of "posterior" half the distance between halves of its
chains.
"""

from __future__ import annotations

import time
from pathlib import Path

import harness
import numpy as np
import torch
from torch import Tensor

import innverse
from innverse.physics import Inpainting
from innverse.solvers.posterior.draws.uncertainty import interval
from innverse.train import load_config, train

from ._setting import Setting

SIDE, SIGMA, NOISE, KEEP = 16, 0.02, 0.05, 0.5
CONFIG = Path(__file__).parents[2] / "configs" / "inpainting-posterior.toml"
METHODS = {
    "posterior": {"draws": 480, "warmup": 80},
    "langevin": {"draws": 64},
    "variational": {"draws": 200},
    "amortised": {"draws": 480},
}
QUICK = {
    "posterior": {"draws": 8, "chains": 2, "warmup": 4, "steps": 3},
    "langevin": {"draws": 8, "chains": 4, "levels": 2, "steps": 4},
    "variational": {"steps": 4, "draws": 50},
    "amortised": {"draws": 50},
}


def run(setting: Setting) -> dict:
    prior = innverse.load("natural-gray")
    model, trained = _trained(setting, prior)
    n = 2 if setting.quick else 10
    x, y, physics = problems(setting, prior, n)
    missing = (physics.mask == 0).expand_as(x)
    found: dict[str, dict] = {}
    exact = None
    for method, options in (QUICK if setting.quick else METHODS).items():
        path = setting.work / f"{method}.npy"

        def compute(method=method, options=options, path=path) -> dict:
            given = options | ({"against": prior} if method == "amortised" else {"sigma": SIGMA})
            started = time.process_time()
            result = innverse.solve(
                y, physics, model if method == "amortised" else prior, method, seed=0, **given
            )
            seconds = time.process_time() - started
            np.save(path, result.samples.numpy())
            told = {k: result.diagnostics[k].tolist() for k in TOLD if k in result.diagnostics}
            return {"processor_seconds_a_draw": seconds / result.samples.shape[:2].numel()} | told

        settings = {"n": n, "options": options, "trained": trained}
        about = setting.part(method, settings, compute)
        draws = torch.from_numpy(np.load(path))
        exact = draws if exact is None else exact
        found[method] = compared(draws, exact, x, missing) | about
        if method == "posterior":  # its own error, from chains against chains
            a, b = draws.split(len(draws) // 2)
            own = compared(a, b, x, missing)
            found[method] |= {k: own[k] / 2 for k in ("error_of_mean", "error_of_log_std")}
        setting.save({"methods": found, "training": trained})
    return {"pictures": n, "methods": found, "training": trained}


TOLD = ("ess", "pareto_k", "elbo", "drift")


def problems(setting: Setting, prior, n: int) -> tuple[Tensor, Tensor, Inpainting]:
    """Truths, their measurements, and masks of their own."""
    g = setting.generator("problems")
    x = prior.sample(n, SIGMA, size=(SIDE, SIDE), generator=g)
    masks = [Inpainting.random((1, SIDE, SIDE), KEEP, g).mask for _ in range(n)]
    physics = Inpainting(torch.cat(masks), NOISE)
    return x, physics(x, g), physics


def compared(draws: Tensor, exact: Tensor, x: Tensor, missing: Tensor) -> dict:
    """Coverage of the truths where nothing was measured, and errors of mean and std, which count in
    exact standard deviations."""
    low, high = interval(draws, 0.9)
    std = exact.std(0)
    mean_error = (draws.mean(0) - exact.mean(0)) / std
    ratio = (draws.std(0) / std).log()
    return {
        "coverage_90": float(((low <= x) & (x <= high))[missing].float().mean()),
        "error_of_mean": float(mean_error[missing].square().mean().sqrt()),
        "ratio_of_std": float(ratio[missing].mean().exp()),
        "error_of_log_std": float(ratio[missing].square().mean().sqrt()),
    }


def _trained(setting: Setting, prior):
    """The conditional flow, and what its training took."""
    run, data = setting.work / "amortised", setting.work / "draws.npy"
    steps = {"train.steps": 20} if setting.quick else {}

    def compute() -> dict:
        if not data.exists():
            _draw(data, prior, 200 if setting.quick else 16_000, setting.generator("draws"))
        # the draws have the noise of sigma; this much hides their rounding to 8 bits
        changes = {"data.path": str(data), "data.license": "draws of natural-gray"}
        changes |= {"condition.sigma": 0.002, "train.seed": setting.seed}
        outcome = train(load_config(CONFIG, changes | steps), run, quiet=True, device="cpu")
        return {"held_out": outcome.held_out, "steps": outcome.step}

    found = setting.part("training", {"config": CONFIG.read_text(), **steps}, compute)
    model = innverse.load(run / "model")
    model.measurement = model.measurement | {"sigma": SIGMA}
    return model, found | {"processor_seconds": setting.seconds["training"]}


def _draw(path: Path, prior, n: int, g: torch.Generator) -> None:
    parts = [prior.sample(100, SIGMA, size=(SIDE, SIDE), generator=g) for _ in range(n // 100)]
    pixels = (255 * torch.cat(parts)).round().clamp(0, 255).byte()
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, pixels[:, 0].numpy())


def table(result: dict) -> str:
    rows = []
    for name, found in result["methods"].items():
        k = found.get("pareto_k")
        rows.append([
            name,
            f"{100 * found['coverage_90']:.1f}",
            f"{found['error_of_mean']:.2f}",
            f"{found['ratio_of_std']:.2f}",
            f"{found['error_of_log_std']:.2f}",
            f"{np.median(k):.1f}" if k else "",
            f"{1000 * found['processor_seconds_a_draw']:.0f}",
        ])  # fmt: skip
    head = ["method", "90 % hold, %", "error of the mean", "std, relative", "error of log std"]
    return harness.table([*head, "Pareto k, median", "a draw, ms of the processor"], rows)
