"""Real pictures that nobody trained on: what the error bars and the mean of the draws are worth.

Faces (celebahq of faces_test.tar, faces64) and crops of photographs (set12 of restoration_test.tar,
natural-gray) of 64x64 pixels: half the pixels missing at noise .05 and .02, a blur, and m/n = .2 at
noise .002. For each: how many of the pixels (of those missing, if any are) lie in central intervals
of 50, 68, 90 and 95 %, before and after a conformal repair, for each picture learned from all the
others; the mean beside the best single pictures; and whether the chains have met. What is covered is
the clean picture x. Where the noise allows it, its own mean and deviation are asked for, and an
interval is mean +- z deviations; else it is that of the draws, which are of x plus noise of the level
sigma, and too wide before the repair.
"""

from __future__ import annotations

import itertools
import warnings
from dataclasses import dataclass

import harness
import torch
from torch import Tensor

import innverse
from innverse import physics
from innverse.data.resize import fit_all
from innverse.data.sources import open_images
from innverse.metrics import psnr
from innverse.metrics.calibration import LEVELS, central_intervals, shared_factors

from ._setting import Setting

PEERS = ("latent", "map", "pnp")
SAMPLER = {"draws": 500, "chains": 2, "warmup": 100}
CHUNK = 6  # pictures that are measured together
SHARES = torch.linspace(0, 1, 401, dtype=torch.float64)  # at which the pixels of a picture are kept


@dataclass(frozen=True)
class Group:
    """The first pictures of a subset of an archive, and their prior."""

    prior: str
    channels: int
    archive: str
    subset: str
    pictures: int


GROUPS = {
    "photographs": Group("natural-gray", 1, "restoration_test.tar", "set12", 12),
    "faces": Group("faces64", 3, "faces_test.tar", "celebahq", 24),
}


@dataclass(frozen=True)
class Task:
    """``of``: whether mean and deviation are those of the clean picture, where the noise allows it,
    and ``sigma`` of the prior what it allows."""

    noise: float
    sigma: float | None = None
    of: str = "clean"

    def operator(self, name: str, shape):
        g = torch.Generator().manual_seed(0)
        if name.startswith("half"):
            return physics.Inpainting.random(shape, 0.5, g, noise=self.noise)
        if name == "blur":
            return physics.Blur(physics.gaussian_kernel(1.5), noise=self.noise)
        m = round(0.2 * shape[0] * shape[1] * shape[2])
        return physics.CompressedSensing(m, shape, generator=g, noise=self.noise)


TASKS = {
    "half_05": Task(0.05),
    "half_02": Task(0.02),
    "blur": Task(0.02),
    "compressed": Task(0.002, 0.01, "noisy"),
}


def run(setting: Setting) -> dict:
    setting.archive("restoration_test.tar")
    kept = {name: found for name, found in setting.there.items() if "/" in name}
    result: dict = {"sampler": SAMPLER, "peers": PEERS} | kept
    for group, task in itertools.product(GROUPS, TASKS):
        if setting.wants(f"{group}/{task}"):
            x = pictures(setting, group)
            n = 2 if setting.quick else setting.pictures or len(x)
            each = [solved(setting, group, task, x, i) for i in range(min(n, len(x)))]
            result[f"{group}/{task}"] = judged(each)
            setting.save(result)
            if setting.quick:
                break
    return result


def pictures(setting: Setting, name: str) -> Tensor:
    """(N, C, 64, 64)."""
    kept = setting.work / f"{name}-test.pt"
    if not kept.exists():
        group = GROUPS[name]
        source = open_images(
            setting.archive(group.archive), subset=group.subset, channels=group.channels
        ).subset(range(group.pictures))
        if name == "faces":
            x = fit_all(source, (64, 64))
        else:
            x = torch.stack([middle(source[i]) for i in range(len(source))])
        kept.parent.mkdir(parents=True, exist_ok=True)
        torch.save(x.float() / 255 if x.dtype == torch.uint8 else x, kept)
    return torch.load(kept, weights_only=True)


def middle(picture: Tensor, side: int = 64) -> Tensor:
    top, left = ((n - side) // 2 for n in picture.shape[-2:])
    return picture[:, top : top + side, left : left + side]


def solved(setting: Setting, group: str, task: str, x: Tensor, i: int) -> dict:
    """What is kept of the picture i: of its draws, and of the peers."""
    name, given = f"{group}-{task}/{i:03d}", vars(TASKS[task]) | {"quick": setting.quick}
    if setting.quick:
        x = x[..., :16, :16]
    k = i // CHUNK * CHUNK
    op = TASKS[task].operator(task, tuple(x.shape[1:]))
    y = op(x[k : k + CHUNK], setting.generator(group, task, "test", k))[i - k : i - k + 1]
    problem = y, op, innverse.load(GROUPS[group].prior)
    x = x[i : i + 1]
    drawn = setting.part(name, SAMPLER | given, lambda: sampled(setting, task, x, *problem))
    peers = setting.part(f"{name}-peers", given, lambda: of_peers(setting, x, *problem))
    return drawn | {"db": drawn["db"] | peers}


def sampled(setting: Setting, task: str, x: Tensor, y: Tensor, op, prior) -> dict:
    given = TASKS[task]
    sampler = SAMPLER if not setting.quick else {"draws": 16, "chains": 2, "warmup": 4, "steps": 3}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of chains that have not met: the numbers say so
        found = innverse.solve(
            y, op, prior, "posterior", sigma=given.sigma, of=given.of, seed=setting.seed,
            image_shape=tuple(x.shape[1:]), **sampler,
        )  # fmt: skip
    db = {"mean": psnr(found.x, x), "draw": psnr(found.samples[-1], x)}
    unseen = torch.ones_like(x[0], dtype=torch.bool)
    if isinstance(op, physics.Inpainting):
        unseen = (op.mask[0] == 0).expand_as(unseen)
    return described(found, x, given.of == "clean", db, unseen)[0]


def of_peers(setting: Setting, x: Tensor, y: Tensor, op, prior) -> dict[str, float]:
    """PSNR of each."""
    found = {}
    for peer in PEERS:
        more = {"steps": 4} if setting.quick and peer == "latent" else {}
        solution = innverse.solve(y, op, prior, peer, image_shape=tuple(x.shape[1:]), **more)
        found[peer] = float(psnr(solution.x, x))
    return found


def described(
    found, x: Tensor, clean: bool, db: dict[str, Tensor], where: Tensor | None = None
) -> list[dict]:
    """What is kept of each picture (B, C, H, W); coverage is of the pixels ``where`` (C, H, W)."""
    scores = needed_factors(found, x, clean)  # (levels, B, D)
    if where is not None:
        scores = scores[..., where.flatten()]
    said = found.diagnostics
    return [
        {
            "db": {name: float(v[i]) for name, v in db.items()},
            "covered": (scores[:, i] <= 1).double().mean(1).tolist(),
            "scores": scores[:, i].quantile(SHARES, 1).T.tolist(),
            "r_hat": float(said["r_hat"][i].quantile(0.99)),
            "r_hat_all": float(said["r_hat"][i].max()),
            "ess_bulk": float(said["ess_bulk"][i].median()),
            "acceptance": float(said["acceptance"][i]),
            "evaluations": int(found.evaluations[i]),
            "status": found.status[i],
        }
        for i in range(len(x))
    ]


def needed_factors(found, x: Tensor, clean: bool) -> Tensor:
    """How many times wider intervals would have to be on the side of x to hold it, (levels, B, D)."""
    truth, mean, std = (t.flatten(1).double() for t in (x, found.x, found.std))
    if clean:
        z = torch.special.ndtri((1 + torch.tensor(LEVELS).double()) / 2).view(-1, 1, 1)
        return (truth - mean).abs() / (z * std.clamp_min(1e-9))
    draws = found.samples.flatten(2).double()
    low, high = central_intervals(draws, LEVELS)
    centre = draws.median(0).values
    up, down = (truth - centre) / (high - centre), (centre - truth) / (centre - low)
    return torch.where(truth >= centre, up, down).nan_to_num(0.0).clamp(max=1e6)


def judged(tests: list[dict], others: list[dict] | None = None) -> dict:
    """Means over pictures with their standard errors, and medians and worst cases of gains in dB. A
    repair is learned from ``others``, or for each picture from the rest of them."""
    covered = torch.tensor([t["covered"] for t in tests]).double()
    needed, taught = (
        torch.tensor([t["scores"] for t in n]).double() for n in (tests, others or [])
    )
    inside = []
    for i, scores in enumerate(needed):  # (levels, SHARES)
        rest = torch.cat([needed[:i], needed[i + 1 :]]) if others is None else taught
        repair = shared_factors(rest.transpose(0, 1), LEVELS)
        inside.append((scores <= repair.factors).double().mean(1))
    result: dict = {"pictures": len(tests), "levels": LEVELS}
    result["covered"] = over_pictures(covered)
    result["covered_after"] = over_pictures(torch.stack(inside))
    db = {name: torch.tensor([t["db"][name] for t in tests]) for name in tests[0]["db"]}
    result["db"] = {name: float(v.mean()) for name, v in db.items()}
    peers = [name for name in db if name not in ("mean", "draw")]
    result["gain"] = {
        peer: {"median": float(gain.quantile(0.5)), "worst": float(gain.min())}
        for peer in peers
        for gain in [db["mean"] - db[peer]]
    }
    for key in ("r_hat", "r_hat_all", "ess_bulk", "acceptance", "evaluations"):
        values = torch.tensor([t[key] for t in tests]).double()
        low, middle, high = values.quantile(torch.tensor([0, 0.5, 1]).double()).tolist()
        result[key] = {"smallest": low, "median": middle, "largest": high}
    met = [t["r_hat"] <= 1.05 and t["r_hat_all"] <= 1.1 for t in tests]
    return result | {"chains_met": sum(met), "each": [short(t) for t in tests]}


def over_pictures(shares: Tensor) -> dict:
    """Of shares (N, levels)."""
    error = shares.std(0) / len(shares) ** 0.5
    return {"share": shares.mean(0).tolist(), "standard_error": error.tolist()}


def short(test: dict) -> dict:
    return {k: v for k, v in test.items() if k != "scores"}


def table(result: dict) -> str:
    """Of each task: coverage before and after, gains in dB, chains."""
    rows, peers = [], PEERS
    for name, found in ((k, v) for k, v in result.items() if "/" in k):
        both = found["covered"], found["covered_after"]
        shares = [" ".join(f"{100 * s:.0f}" for s in c["share"]) for c in both]
        gains = [f"{g['median']:+.2f} ({g['worst']:+.2f})" for g in found["gain"].values()]
        chains = [f"{found['r_hat']['median']:.2f}", f"{found['chains_met']}/{found['pictures']}"]
        rows.append([name, *shares, f"{found['db']['mean']:.2f}", *gains, *chains])
        peers = list(found["gain"])
    head = ["task", "covered, % at 50 68 90 95", "after repair", "mean, dB"]
    head += [f"over {p}: median (worst)" for p in peers]
    return harness.table([*head, "R-hat of 99 %", "met"], rows)
