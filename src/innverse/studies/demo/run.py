"""Solve a scene twice, by total variation and by the flow, and measure both."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ...metrics import psnr, ssim
from ...progress import Report
from ...solvers import Reconstruction, solve
from ...solvers.baselines import tv
from .error_bar import ErrorBar
from .problems import PROBLEMS, Scene

__all__ = ["Outcome", "Score", "results_json", "run_scene"]


@dataclass
class Score:
    psnr: float
    ssim: float
    seconds: float = 0.0

    @classmethod
    def of(cls, x: Tensor, truth: Tensor, seconds: float = 0.0) -> Score:
        return cls(float(psnr(x, truth)), float(ssim(x, truth)), seconds)


@dataclass
class Outcome:
    """A scene with its two reconstructions."""

    scene: Scene
    tv: Tensor
    inn: Reconstruction
    degraded_score: Score
    tv_score: Score
    inn_score: Score

    @property
    def gain(self) -> float:
        """PSNR of the flow above total variation, dB."""
        return self.inn_score.psnr - self.tv_score.psnr

    @property
    def flow_wins(self) -> bool:
        return self.gain > 0


def run_scene(scene: Scene, prior, progress: Report | None = None) -> Outcome:
    """Both reconstructions of a scene."""
    started = time.perf_counter()
    by_tv = tv(scene.y, scene.physics, scene.problem.tv)
    seconds = time.perf_counter() - started
    inn = solve(scene.y, scene.physics, prior, "pnp", progress=progress)
    return Outcome(
        scene,
        by_tv,
        inn,
        Score.of(scene.degraded, scene.truth),
        Score.of(by_tv, scene.truth, seconds),
        Score.of(inn.x, scene.truth, inn.seconds),
    )


def results_json(outcomes: Sequence[Outcome], error_bar: ErrorBar | None = None) -> dict:
    """What other tools read from results.json; not complete where something was not solved."""
    problems = [
        {
            "name": o.scene.problem.name,
            "degraded": {"psnr": o.degraded_score.psnr, "ssim": o.degraded_score.ssim},
            "tv": vars(o.tv_score),
            "inn": vars(o.inn_score) | {"method": o.inn.method},
        }
        for o in outcomes
    ]
    complete = len(problems) == len(PROBLEMS) and error_bar is not None
    found: dict = {"complete": complete, "problems": problems}
    return found if error_bar is None else found | {"error_bar": error_bar.as_json()}
