"""Eight modes (Ardizzone et al. 2018): does each posterior find all of them, at their weight?"""

from __future__ import annotations

import time

import torch

from innverse import amortized
from innverse.data import simulators

from .cells import Setting, seeded


def run(setting: Setting) -> dict:
    """The worst error of a mode's weight and the spread around the modes, for the conditional INN and
    both bi-directional ones; and a picture of all draws beside the truth."""
    task = simulators.get("eight_modes")
    theta, x = task.pairs(3000 if setting.quick else 100_000, seeded(0))
    limits = {"max_epochs": setting.epochs, "minutes": setting.minutes, "seed": 0}
    makers = {
        "cinn": lambda: amortized.fit(theta, x, density=setting.density, **limits),
        "inn_mmd": lambda: amortized.fit_bidirectional(theta, x, loss="mmd", **limits),
        "inn_ml": lambda: amortized.fit_bidirectional(theta, x, loss="ml", **limits),
    }
    result = {}
    draws: dict[str, torch.Tensor] = {}
    for name, make in makers.items():
        path = setting.cells / f"modes/{name}.pt"

        def judge(name=name, make=make, path=path) -> dict:
            started = time.process_time()
            posterior = make()
            found = {"minutes": (time.process_time() - started) / 60}
            points = posterior.sample_batched((10_000,), torch.eye(4), generator=seeded(1))
            path.parent.mkdir(parents=True, exist_ok=True)
            torch.save(points[:2000], path)
            found["worst_weight_error"] = max(
                _weight_error(task, points[:, c], c) for c in range(4)
            )
            if hasattr(posterior, "predict"):
                test, _ = task.pairs(2000, seeded(2))
                right = posterior.predict(test).argmax(1) == task.forward(test).argmax(1)
                found["forward_accuracy"] = float(right.double().mean())
            return found

        result[name] = setting.cell(f"modes/{name}", judge)
        draws[name] = torch.load(path, weights_only=True)
        result[name]["spread"] = _spread(task, draws[name])
    truth = [task.reference_posterior(torch.eye(4)[c], 2000, seeded(c)) for c in range(4)]
    _picture({"truth": torch.stack(truth, 1), **draws}, setting.cells / "modes.png")
    return result


def _weight_error(task, points: torch.Tensor, colour: int) -> float:
    share = torch.bincount(task.nearest(points), minlength=8) / len(points)
    own = (task.colours == colour).double()
    return float((share - own / own.sum()).abs().max())


def _spread(task, points: torch.Tensor) -> float:
    """The distance of draws from their mode, rms, relative to the truth: 0 where they collapse."""
    distance = torch.cdist(points.flatten(0, 1), task.prior.centres).amin(1)
    return float(distance.square().mean().sqrt()) / (task.prior.std * 2**0.5)


def _picture(draws: dict[str, torch.Tensor], path) -> None:
    """One panel per method, the draws of the four colours in four colours."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3 * len(draws), 3.2), layout="constrained")
    for axes, (name, points) in zip(figure.subplots(1, len(draws)), draws.items()):
        for colour in range(4):
            axes.plot(*points[:, colour].T.numpy(), ".", markersize=1)
        axes.set(title=name, xlim=(-1.8, 1.8), ylim=(-1.8, 1.8), aspect="equal")
    figure.savefig(path, dpi=120)
