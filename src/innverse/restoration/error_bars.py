"""What `restore` says and leaves of a posterior: how sure the picture is, and whether to believe it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data import atomic_write
from ..report import Heat, Table, gif, panel
from ..seeding import stream
from ..solvers.posterior.draws.predictive import check
from ..solvers.posterior.draws.uncertainty import interval, normal_interval, spread
from ..solvers.reconstruction import Reconstruction

LEVEL = 0.9  # of the intervals that are shown
_LEVELS = (0.5, 0.68, 0.9, 0.95)
_OF_APPROXIMATIONS = ("drift", "elbo", "ess", "pareto_k")
_SHEET, _LARGE = 16, 512  # draws side by side; a quarter of them where they are wider than this
_SPLIT = 64  # draws of which the part is found that A sees
_FRAMES, _ANIMATED = 24, 2**21  # most frames, and numbers of all frames together


def describe(
    result: Reconstruction, rows: slice, draws: Tensor, std: Tensor, clean: Tensor | None
) -> dict[str, Any]:
    """Whether to believe the draws (S, P, C, H, W) of some rows and their deviation, in a few
    numbers; ``clean`` (P, C, H, W) is the truth, where it is known."""
    told = result.diagnostics
    of_clean = result.quantity != result.quantity_of_mean
    mean = result.x[rows]
    low, high = normal_interval(mean, std, LEVEL) if of_clean else interval(draws, LEVEL)
    found: dict[str, Any] = {
        "draws": len(draws),
        "quantity": result.quantity,
        "quantity_of_mean": result.quantity_of_mean,
        "sigma": told.get("sigma"),
        "std": _median_and_largest(std),
        f"width of {percent(LEVEL)} intervals": _median_and_largest(high - low),
    }
    if "r_hat" in told:
        r = told["r_hat"][rows].flatten()
        found["r_hat"] = {"99 %": float(r.quantile(0.99)), "largest": float(r.max())}
    for name in ("ess_bulk", "ess_tail"):
        if name in told:
            size = told[name][rows]
            found[name] = {"median": float(size.median()), "smallest": float(size.min())}
    if "acceptance" in told:
        found["acceptance"] = float(told["acceptance"][rows].mean())
    if "divergences" in told:
        found["divergences"] = int(told["divergences"][rows].sum())
    if "approximate" in told:  # not exact draws, and what is known of the difference
        found["approximate"] = told["approximate"]
        found |= {k: told[k][rows].tolist() for k in _OF_APPROXIMATIONS if k in told}
    if result.measured is not None:
        y, physics, noise = result.measured
        items = torch.arange(len(y), device=y.device)[rows]
        p = check(draws, y[items], physics.select(items), noise.select(items))
        found["predictive_p_value"] = min(p.tolist(), key=lambda v: min(v, 1 - v))
        if physics.direct:  # else a pseudo-inverse of each draw is a long iteration
            seen, unseen = (
                part.square().sum()
                for part in spread(thinned(draws, _SPLIT), physics.select(items))
            )
            found["unseen"] = float(unseen / (seen + unseen))
    if clean is not None:
        found["coverage"] = coverage(draws.cpu(), clean, found["sigma"])
        if of_clean:
            found["coverage"]["x"] = {
                percent(level): held(clean, *normal_interval(mean.cpu(), std.cpu(), level))
                for level in _LEVELS
            }
    return found


def percent(level: float) -> str:
    """As results and tables name it."""
    return f"{100 * level:g} %"


def coverage(draws: Tensor, clean: Tensor, sigma: float | None) -> dict[str, dict[str, float]]:
    """The share of pixels whose true value lies in its interval, {"x" or "u": {level: share}}.

    Draws of u = x + sigma e are held against the clean picture plus such noise, for which the
    promise holds, and against the clean picture x itself.
    """
    truths = {"x": clean}
    if sigma is not None:
        g = stream(0, 0, "coverage")  # not the noise of a measurement with seed 0
        truths = {"u": clean + sigma * torch.randn(clean.shape, generator=g)} | truths
    ends = {level: interval(draws, level) for level in _LEVELS}
    return {
        name: {percent(level): held(truth, low, high) for level, (low, high) in ends.items()}
        for name, truth in truths.items()
    }


def held(truth: Tensor, low: Tensor, high: Tensor) -> float:
    """The share of the pixels that lie in their interval."""
    return float(((truth >= low) & (truth <= high)).float().mean())


def coverage_table(found: dict[str, dict[str, float]]) -> Table:
    """What `coverage` found, a row for each level."""
    names = {"u": "holds the true u", "x": "holds the clean picture x"}
    table = Table(["interval", *(names[name] for name in found)])
    for level in next(iter(found.values())):
        table.add(level, *(f"{100 * shares[level]:.1f} %" for shares in found.values()))
    return table


def what_is_drawn(quantity: str) -> str:
    """`Reconstruction.quantity` in a sentence."""
    if quantity == "x":
        return "Drawn is x, the picture itself."
    level = quantity.split()[-2]
    return (
        f"Drawn is {quantity}, the picture x plus noise e of deviation 1, since the model knows the "
        f"density of such pictures: where nothing else is open, {level} of noise remain."
    )


def thinned(draws: Tensor, n: int) -> Tensor:
    """At most n of the draws, evenly."""
    return draws[torch.linspace(0, len(draws) - 1, min(n, len(draws))).round().long()]


def animate(draws: Tensor) -> bytes:
    """Draws (S, C, H, W) on [0, 1] as a GIF of bounded size."""
    return gif(thinned(draws, max(2, min(_FRAMES, _ANIMATED // draws[0].numel()))))


def write(
    folder: Path, told: dict[str, Any], mean: Tensor, std: Tensor, draws: Tensor, unit: Tensor
) -> list[Path]:
    """std.png, interval.png, draws.png, draws.gif and draws.npz, of the mean and the deviation
    (C, H, W) and the draws (S, C, H, W), which ``unit`` has on [0, 1]."""
    name = told["quantity_of_mean"].split()[0]
    if told["quantity"] == told["quantity_of_mean"]:
        low, high = (end[0] for end in interval(draws[:, None], LEVEL))
    else:
        low, high = normal_interval(mean, std, LEVEL)
    maps = {
        "std.png": Heat(std).picture(f"standard deviation of {told['quantity_of_mean']}"),
        "interval.png": Heat(high - low).picture(f"width of {percent(LEVEL)} intervals of {name}"),
    }
    sheet = thinned(unit, _SHEET if unit.shape[-1] <= _LARGE else _SHEET // 4)
    numbered = [(f"draw {k + 1}", "", x) for k, x in enumerate(sheet)]
    maps["draws.png"] = panel(numbered, round(len(numbered) ** 0.5), cell=128)
    files = [
        atomic_write(folder / name, lambda file, picture=picture: picture.save(file, "PNG"))
        for name, picture in maps.items()
    ]
    files.append(atomic_write(folder / "draws.gif", animate(unit)))
    kept = {"draws": draws, "mean": mean, "std": std, "low": low, "high": high}
    arrays = {name: value.numpy() for name, value in kept.items()}
    files.append(atomic_write(folder / "draws.npz", lambda file: np.savez(file, **arrays)))
    return files


def _median_and_largest(values: Tensor) -> dict[str, float]:
    return {"median": float(values.median()), "largest": float(values.max())}
