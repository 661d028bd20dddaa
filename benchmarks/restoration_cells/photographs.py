"""Photographs: Set12 (gray), and their middle 64x64 pixels for what is dear.

Noise of 15, 25 and 50 of 255; half and 80 % of the pixels missing; a periodic Gaussian blur of
deviation 1.6 and the eight measured motions of Levin et al. 2009 in turn, each at 1 and 5 % noise; x2,
x3 and x4 smaller (a Gaussian of half the factor), 1 % noise. Masks and noise of a picture have its
number as seed.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from innverse.data import write_image
from innverse.errors import InnverseError
from innverse.physics import LinearPhysics
from innverse.studies import tasks
from innverse.studies.tasks import Task

from . import _methods, _pictures
from ._setting import NoData, Rows, Setting, judged, row

PLAIN = [
    *map(tasks.denoise, (15, 25, 50)),
    *map(tasks.inpaint, (0.5, 0.2)),
    *(tasks.deblur(noise=n) for n in (0.01, 0.05)),
    *map(tasks.sr, (2, 3, 4)),
]
MOTION = {f"deblur-motion-{100 * n:.0f}": n for n in (0.01, 0.05)}


def tables(setting: Setting) -> dict[str, Callable[[int], Task]]:
    """{name: the task of picture k}."""
    found = {t.name: (lambda k, t=t: t) for t in PLAIN}
    try:
        kernels = _pictures.kernels(setting)
    except NoData:
        return found
    moved = {
        name: (lambda k, n=n: tasks.deblur(kernels[k % len(kernels)], n))
        for name, n in MOTION.items()
    }
    return found | moved


def measured(
    task: Callable[[int], Task], pictures: list[Tensor]
) -> Iterator[tuple[Tensor, Tensor, LinearPhysics]]:
    """Each picture, its measurement and the operator."""
    for k, x in enumerate(pictures):
        y, physics = task(k).measure(x, torch.Generator().manual_seed(k))
        yield x, y, physics


def rows(setting: Setting) -> Rows:
    """One row after another, of the cells that the setting wants."""
    whole = _pictures.test(setting)
    name, side = ("synthetic", 16) if setting.quick else ("set12", _pictures.SMALL)
    datasets = {name: whole, f"{name}-{side}": [_pictures.middle(x, side) for x in whole]}
    cells = itertools.product(tables(setting).items(), datasets.items(), _methods.WAYS.items())
    for (task, make), (dataset, pictures), (method, way) in cells:
        if (way.small and pictures is whole) or not setting.wants(task, dataset, method):
            continue
        where, scores = setting.work / "pictures" / dataset / task, []
        where.mkdir(parents=True, exist_ok=True)
        try:
            for k, (x, y, physics) in enumerate(measured(make, pictures)):
                way_to = functools.partial(_methods.restored, method, task, y, physics, setting)
                score, found = judged(x, way_to)
                scores.append(score)
                if k == 0:
                    write_image(where / f"{method}.png", found)
                    write_image(where / "clean.png", x)
        except (NoData, InnverseError) as error:
            print(f"{task} / {dataset} / {method}: {error}", flush=True)
            continue
        yield row(task, dataset, method, scores)


def tune(setting: Setting) -> Iterator[tuple[str, str, dict[float, float]]]:
    """(method, task, {weight: PSNR}) on training pictures."""
    pictures = functools.cache(functools.partial(_pictures.training, setting))
    for (task, make), (method, way) in itertools.product(
        tables(setting).items(), _methods.WAYS.items()
    ):
        weights = way.weights(task)
        if not weights or not setting.wants(task, "training", method):
            continue
        mean = {}
        try:
            for weight in weights:
                setting.tuned.setdefault(method, {})[task] = weight
                some = [
                    judged(x, functools.partial(_methods.restored, method, task, y, a, setting))[0]
                    for x, y, a in measured(make, pictures(way.tuned_on))
                ]
                mean[weight] = sum(s.psnr for s in some) / len(some)
        except (NoData, InnverseError) as error:
            print(f"{task} / {method}: {error}", flush=True)
            continue
        yield method, task, mean
