"""Do credible intervals hold what they promise, before and after repair; and do our oracles agree
with sbi's?"""

from __future__ import annotations

import torch

from innverse.data import simulators
from innverse.metrics import calibration

from . import peers
from .cells import Setting, seeded


def before_and_after(posterior, task, quick: bool = False) -> dict:
    """The coverage error at 50, 68, 90 and 95 % (the largest, averaged over the parameters), and the
    median error over all confidences (Ardizzone et al. 2018), before and after conformal repair.

    The repair is learned from pairs that the posterior never saw, and tested on others.
    """
    sizes = (100, 100) if quick else (20_000, 20_000)
    draws = []
    for seed, pairs in zip((11, 12), sizes):
        theta, x = task.pairs(pairs, seeded(seed))
        draws.append((theta, posterior.sample_batched((200,), x, generator=seeded(seed))))
    (theta, samples), (fresh, again) = draws
    repaired = calibration.recalibrate(samples, theta).samples(again)
    found = {"before": again, "after": repaired}
    return {
        "error": {k: calibration.coverage(v, fresh).error for k, v in found.items()},
        "median_error": {k: calibration.calibration_error(v, fresh) for k, v in found.items()},
        "sbc_p_values": calibration.sbc(again[:, :1000], fresh[:1000]).p_values.tolist(),
        "tarp_p_value": calibration.tarp(again[:, :1000], fresh[:1000]).p_value,
        "pairs": sizes,
    }


def run(setting: Setting) -> dict:
    """Ranks and expected coverage of one posterior by our functions and by sbi's, on the same pairs.

    sbi's functions are handed the posterior object as it is.
    """
    task = simulators.get("two_moons")
    posterior, _ = setting.learn("sbibm/two_moons", task, 1000 if setting.quick else 100_000)
    pairs = 100 if setting.quick else 1000
    theta, x = task.pairs(pairs, seeded(21))
    ours = calibration.sbc(posterior, theta, x, draws=500, generator=seeded(0))
    points = calibration.tarp(posterior, theta, x, draws=500, generator=seeded(0))
    result = {
        "pairs": pairs,
        "sbc": {"innverse": {"mean_rank": _share(ours.ranks), "p": ours.p_values.tolist()}},
        "tarp": {"innverse": {"area": points.area, "largest": _gap(points.ecp, points.levels)}},
    }
    if peers.available():
        ranks, ecp, levels = peers.diagnose(posterior, theta, x, draws=500)
        p = [calibration.kolmogorov_p((r + torch.rand(len(r))) / 501) for r in ranks.T]
        result["sbc"]["sbi"] = {"mean_rank": _share(ranks), "p": p}
        upper = levels > 0.5
        area = float((ecp - levels)[upper].mean())
        result["tarp"]["sbi"] = {"area": area, "largest": _gap(ecp, levels)}
    # the standard error of a mean rank of uniform ranks, and of a coverage of 1/2
    result["monte_carlo"] = {"mean_rank": (1 / 12 / pairs) ** 0.5, "coverage": 0.5 / pairs**0.5}
    return result


def _share(ranks: torch.Tensor) -> list[float]:
    return (ranks.double().mean(0) / 500).tolist()


def _gap(ecp: torch.Tensor, levels: torch.Tensor) -> float:
    return float((ecp - levels).abs().max())
