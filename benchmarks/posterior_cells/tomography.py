"""Error bars of computed tomography: regions of 64x64 pixels of slices of other patients.

Parallel rays through a region of 64x64 pixels of 1.4 mm; the prior is that of configs/ct.toml, in
runs/restoration/ct/model. A quarter as many views as benchmarks/restoration.py takes for 256x256: 15
and 45 of 10^5 photons a ray, and 45 of 10^4. Regions of patients for tests; a repair is learned from
patients for validation. Draws are of the picture plus N(0, .01^2), so intervals are those of a picture
that was blurred by as much noise, and too wide before the repair.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

import innverse
from innverse.metrics import psnr
from innverse.physics import Tomography, TransmissionNoise
from innverse.studies import tasks
from innverse.studies.ct_slices import ct_slices

from ._setting import NoData, Setting
from .pictures import described, judged, table

__all__ = ["run", "table"]

SIDE = 64
TASKS = {"ct-15": (15, 1e5), "ct-45": (45, 1e5), "ct-45-low": (45, 1e4)}  # views, photons a ray
SAMPLER = {"sigma": 0.01, "draws": 200, "chains": 2, "warmup": 100}
CHUNK = 4
PARTS = {"test": "test", "calibration": "validation"}


def run(setting: Setting) -> dict:
    kept = {name: found for name, found in setting.there.items() if "/" in name}
    result: dict = {"sampler": SAMPLER} | kept
    for task in TASKS:
        if setting.wants(task):
            parts = (solved(setting, task, part) for part in ("test", "calibration"))
            result[f"slices/{task}"] = judged(*parts)
            setting.save(result)
            if setting.quick:
                break
    return result


def regions(setting: Setting, part: str) -> Tensor:
    """(N, 1, 64, 64): the same middle of the body from every slice of the part."""
    if setting.quick:
        return torch.rand(2, 1, 8, 8, generator=setting.generator(part)) / 4
    x = ct_slices(setting.archive("ct_slices_hu.npz"), PARTS[part])
    top, left = (n // 2 - SIDE // 2 for n in x.shape[-2:])
    x = x[..., top : top + SIDE, left : left + SIDE]
    return x[: setting.pictures]


def solved(setting: Setting, task: str, part: str) -> list[dict]:
    x, found = regions(setting, part), []
    for k in range(0, len(x), CHUNK):
        settings = SAMPLER | {"chunk": CHUNK, "quick": setting.quick, "task": TASKS[task]}
        some = x[k : k + CHUNK]

        def compute(k=k, some=some) -> dict:
            return {"each": one_chunk(setting, task, part, some, k)}

        found += setting.part(f"{task}-{part}/{k:03d}", settings, compute)["each"]
    return found


def one_chunk(setting: Setting, task: str, part: str, x: Tensor, k: int) -> list[dict]:
    views, photons = TASKS[task]
    shape = tuple(x.shape[1:])
    op = Tomography(shape, views, noise=TransmissionNoise(photons, tasks.WHITE / 256))
    y = op(x, setting.generator(task, part, k))
    sampler = SAMPLER | ({"draws": 16, "warmup": 4, "steps": 3} if setting.quick else {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of chains that have not met: the numbers say so
        found = innverse.solve(y, op, prior(setting), "posterior", seed=setting.seed, **sampler)
        db = {"mean": psnr(found.x, x), "draw": psnr(found.samples[-1], x)}
        db["tv"] = psnr(innverse.solve(y, op, method="tv", steps=600).x, x)
        db["pnp"] = psnr(innverse.solve(y, op, prior(setting), "pnp").x, x)
    return described(found, x, False, db)


def prior(setting: Setting):
    if setting.quick:
        return innverse.load("natural-gray")
    folder = setting.work.parents[1] / "restoration" / "ct" / "model"
    if not folder.exists():
        raise NoData(f"needs a prior in {folder}, of: innverse train configs/ct.toml")
    return innverse.load(str(folder))
