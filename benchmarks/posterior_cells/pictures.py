"""Real pictures that nobody trained on: what the error bars and the mean of the draws are worth.

Faces (celebahq of faces_test.tar, faces64) and crops of photographs (set12 of restoration_test.tar,
natural-gray) of 64x64 pixels: half the pixels missing at noise .05 and .02, a blur, and m/n = .2 at
noise .002. For each: how many of the pixels (of those missing, if any are) lie in central intervals
of 50, 68, 90 and 95 %, before and after a conformal repair, learned from pictures of another set (of
those held out of training) or, for each picture, from all others of the test; the mean beside the best
single pictures; and whether the chains have met. What is
covered is the clean picture x. Where the noise allows it, its own mean and deviation are asked for,
and an interval is mean +- z deviations; else it is that of the draws, which are of x plus noise of the
level sigma, and too wide before the repair. `--tasks faces/blur` is without pictures of another set,
`faces/blur*` with them.
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
from innverse.data.sources import open_images, split
from innverse.metrics import psnr
from innverse.metrics.calibration import (
    LEVELS,
    Recalibration,
    central_intervals,
    shared_factors,
)

from ._setting import Setting

PEERS = ("latent", "map", "pnp")
SAMPLER = {"draws": 800, "chains": 2, "warmup": 100}
CHUNK = 6  # pictures that are measured together
TAUGHT = 12  # pictures that a repair is learned from
ENOUGH = 6  # of the test, for each to be repaired by the others
SHARES = torch.linspace(0, 1, 401, dtype=torch.float64)  # at which the pixels of a picture are kept


@dataclass(frozen=True)
class Group:
    """Pictures and their prior; ``held_out`` of ``training`` were not trained on."""

    prior: str
    channels: int
    test: tuple[str, str]
    tests: int
    training: str
    held_out: int


GROUPS = {
    "photographs": Group(
        "natural-gray", 1, ("restoration_test.tar", "set12"), 12, "natural_train.tar", 24
    ),
    "faces": Group("faces64", 3, ("faces_test.tar", "celebahq"), 24, "faces64_train.tar", 256),
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
            found: dict[str, list[dict]] = {"test": [], "calibration": []}
            for part, each in found.items():
                if part != "test" and not setting.wants(f"{group}/{task}/{part}"):
                    continue
                x = pictures(setting, group, part)
                n = 2 if setting.quick else setting.pictures or len(x)
                each += [solved(setting, group, task, part, x, i) for i in range(min(n, len(x)))]
                result[f"{group}/{task}"] = judged(*found.values())
                setting.save(result)
            if setting.quick:
                break
    return result


def pictures(setting: Setting, name: str, part: str) -> Tensor:
    """(N, C, 64, 64): those of the test, or those that teach the repair."""
    kept = setting.work / f"{name}-{part}.pt"
    if not kept.exists():
        group = GROUPS[name]
        if part == "test":
            archive, subset = group.test
            source = open_images(setting.archive(archive), subset=subset, channels=group.channels)
            source = source.subset(range(group.tests))
        else:
            whole = open_images(setting.archive(group.training), channels=group.channels)
            source = split(whole, group.held_out)[1].subset(range(TAUGHT))
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


def solved(setting: Setting, group: str, task: str, part: str, x: Tensor, i: int) -> dict:
    """What is kept of the picture i: of its draws and, in the test, of the peers."""
    name = f"{group}-{task}-{part}/picture-{i:03d}"
    given = vars(TASKS[task]) | {"quick": setting.quick}
    if setting.quick:
        x = x[..., :16, :16]
    k = i // CHUNK * CHUNK
    op = TASKS[task].operator(task, tuple(x.shape[1:]))
    y = op(x[k : k + CHUNK], setting.generator(group, task, part, k))[i - k : i - k + 1]
    problem = y, op, innverse.load(GROUPS[group].prior)
    x = x[i : i + 1]
    drawn = setting.part(name, SAMPLER | given, lambda: sampled(setting, task, x, *problem))
    if part != "test":
        return drawn
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


def judged(tests: list[dict], others: list[dict]) -> dict:
    """Means over pictures with their standard errors, and medians and worst cases of gains in dB; a
    repair is learned from ``others``."""
    result: dict = {"pictures": len(tests), "levels": LEVELS}
    result["covered"] = over_pictures(torch.tensor([t["covered"] for t in tests]).double())
    needed, taught = (torch.tensor([t["scores"] for t in n]).double() for n in (tests, others))
    if len(tests) >= ENOUGH:
        rest = [torch.cat((needed[:i], needed[i + 1 :])) for i in range(len(tests))]
        factors = [repair_of(r).factors for r in rest]
        inside = torch.stack([within(n, f) for n, f in zip(needed, factors, strict=True)])
        result["covered_after_others"] = over_pictures(inside)
    if others:
        repair = repair_of(taught)
        result["covered_after"] = over_pictures(within(needed, repair.factors)) | {
            "learned_from": len(others),
            "error_of_repair": repair.standard_error().tolist(),
            "factors": repair.factors[:, 0].tolist(),
        }
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


def repair_of(taught: Tensor) -> Recalibration:
    """Learned from the factors (N, levels, D) that intervals need to hold their pixels."""
    return shared_factors(taught.transpose(0, 1), LEVELS)


def within(needed: Tensor, factors: Tensor) -> Tensor:
    """The shares (..., levels) of pixels that intervals hold once they are stretched by ``factors``."""
    return (needed <= factors).double().mean(-1)


def over_pictures(shares: Tensor) -> dict:
    """Of shares (N, levels); one picture alone has no standard error."""
    error = (shares.std(0) / len(shares) ** 0.5).tolist() if len(shares) > 1 else None
    return {"share": shares.mean(0).tolist(), "standard_error": error}


def short(test: dict) -> dict:
    return {k: v for k, v in test.items() if k != "scores"}


def table(result: dict) -> str:
    """Of each task: coverage before and after, gains in dB, chains."""
    rows, peers = [], PEERS
    for name, found in ((k, v) for k, v in result.items() if "/" in k):
        keys = "covered", "covered_after", "covered_after_others"
        shares = [
            " ".join(f"{100 * s:.0f}" for s in found.get(key, {"share": []})["share"])
            for key in keys
        ]
        gains = [f"{g['median']:+.2f} ({g['worst']:+.2f})" for g in found["gain"].values()]
        chains = [f"{found['r_hat']['median']:.2f}", f"{found['chains_met']}/{found['pictures']}"]
        rows.append([name, *shares, f"{found['db']['mean']:.2f}", *gains, *chains])
        peers = list(found["gain"])
    head = ["task", "covered, % at 50 68 90 95", "repaired by another set"]
    head += ["by the others of the set", "mean, dB"]
    head += [f"over {p}: median (worst)" for p in peers]
    return harness.table([*head, "R-hat of 99 %", "met"], rows)
