"""How far are posteriors from the reference? C2ST of eight tasks of sbibm at 10^5 simulations."""

from __future__ import annotations

from innverse.data import simulators
from innverse.metrics.c2st import c2st

from . import peers
from .calibration import before_and_after
from .cells import Setting, mean, seeded
from .wheel import fetch, observation

# the published C2ST of NPE at 10^5 simulations (Lueckmann et al. 2021)
PUBLISHED = {
    "two_moons": 0.542,
    "slcp": 0.831,
    "slcp_distractors": 0.863,
    "gaussian_mixture": 0.555,
    "gaussian_linear": 0.506,
    "gaussian_linear_uniform": 0.509,
    "bernoulli_glm": 0.559,
    "bernoulli_glm_raw": 0.607,
}
WITH_PEER = ("two_moons", "slcp")


def run(setting: Setting, only: str | None = None) -> dict:
    """All tasks, or one of them; sbi's NPE gets as many minutes on two of them, if installed."""
    result: dict = {k: {} for k in ("c2st", "minutes", "peer", "each", "training", "calibration")}
    n = 1000 if setting.quick else 100_000
    for name in [only] if only else PUBLISHED:
        task = simulators.get(name)
        posterior, training = setting.learn(f"sbibm/{name}", task, n)
        each = scores(setting, name, posterior, "c2st")
        result["c2st"][name], result["each"][name] = mean(each), each
        result["minutes"][name], result["training"][name] = training["minutes"], training
        result["calibration"][name] = setting.cell(
            f"sbibm/{name}/calibration",
            lambda p=posterior, t=task: before_and_after(p, t, setting.quick),
        )
        if name in WITH_PEER and peers.available():
            peer = peers.npe(setting, f"sbibm/{name}/npe", task, n, training["minutes"])
            result["peer"][name] = mean(scores(setting, name, peer, "npe/c2st"))
    result["published_npe"] = PUBLISHED
    return result


def scores(setting: Setting, name: str, posterior, label: str) -> list[float]:
    """C2ST between the reference and as many draws, for each of the ten observations."""
    wheel = fetch(setting.cells)

    def score(number: int) -> dict:
        x, truth = observation(wheel, name, number)
        truth = truth[:500] if setting.quick else truth
        found = posterior.sample((len(truth),), x=x, generator=seeded(number))
        return {"c2st": c2st(truth, found)}

    numbers = range(1, 2) if setting.quick else range(1, 11)
    return [
        setting.cell(f"sbibm/{name}/{label}-{k}", lambda k=k: score(k))["c2st"] for k in numbers
    ]
