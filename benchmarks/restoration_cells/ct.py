"""Computed tomography: slices of patients that nothing was trained or tuned on, and a measured tooth.

Parallel rays through 360 mm of a slice of 256x256 pixels, -1000 to 2000 Hounsfield units on 0 to 1: 60
and 180 views of 10^5 photons a ray, 180 of 10^4, and 120 degrees only; four slices of four patients.
The tooth's every second or fourth view is reconstructed, and compared with filtered back-projection of
all views. One's own prior is that of configs/ct.toml, in --work/ct/model; the patch flow is that of
configs/texture.toml, learned from six slices of patients for training, in --work/ct-patches/model (both
as benchmarks/ct_slices.py says). Weights of each task are chosen on slices of two patients for
validation. On the tooth total variation takes its usual weight, and the priors, which never saw one,
are held stronger, that of bodies down to a level above the noise: better on every second of its views.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import torch
from torch import Tensor

from innverse.physics import Tomography
from innverse.physics.tomography import NamedTomography
from innverse.studies import tasks
from innverse.studies.ct_slices import ct_slices

from ._methods import Way
from ._scans import OWN, TOTAL_VARIATION, Measured, plug_and_play, rows_of, tuned
from ._setting import NoData, Rows, Setting

TASKS = [tasks.ct(60), tasks.ct(180), tasks.ct(180, 1e4), tasks.ct(120, span=120)]
EVERY = (2, 4)  # views of the tooth
SLICES, TOOTH = "ct_slices_hu.npz", "ct_tooth_sinogram.h5"
N, TUNED_ON = 4, 2


def back_projection(y: Tensor, physics: Tomography, weight: float, setting: Setting) -> Tensor:
    """With the window that was best on other patients."""
    return physics.filtered_back_projection(y, "hann")


WAYS = {
    "filtered back-projection": Way(back_projection),
    "total variation": TOTAL_VARIATION,
    "zoo prior, pnp": plug_and_play("natural-gray"),
    "patch flow, pnp": plug_and_play("ct-patches"),
    f"{OWN}, pnp": plug_and_play("ct"),
}
ON_THE_TOOTH = WAYS | {
    "zoo prior, pnp": plug_and_play("natural-gray", 1.0),
    f"{OWN}, pnp": plug_and_play("ct", 0.03, option="sigma", strength=1.0),
}


def rows(setting: Setting) -> Rows:
    """One row after another, of the cells that the setting wants."""
    name = "synthetic" if setting.quick else "ct-slices"
    try:
        slices = _slices(setting)
    except NoData as missing:
        print(f"ct: {missing}", flush=True)
    else:
        for task in TASKS:
            measured = functools.partial(_measured, task, slices)
            yield from rows_of(setting, task.name, name, WAYS, measured)
    if setting.data is not None and (setting.data / TOOTH).exists():
        for every in EVERY:
            measured = functools.partial(_tooth, setting, every)
            yield from rows_of(setting, f"ct-every-{every}", "tooth", ON_THE_TOOTH, measured)


def tune(setting: Setting) -> Iterator[tuple[str, str, dict[float, float]]]:
    """On slices of patients for validation."""
    slices = _slices(setting, "validation")[-TUNED_ON:]
    for task in TASKS:
        yield from tuned(setting, task.name, WAYS, functools.partial(_measured, task, slices))


def _slices(setting: Setting, part: str = "test") -> Tensor:
    if setting.quick:
        x = torch.zeros(1, 1, 32, 32)
        x[..., 8:24, 6:26] = 0.3
        return x
    slices = ct_slices(setting.archive(SLICES), part)
    return slices[:: max(1, len(slices) // N)][:N]


def _measured(task: tasks.Task, slices: Tensor) -> list[Measured]:
    each = [task.measure(x[None], torch.Generator().manual_seed(k)) for k, x in enumerate(slices)]
    return [(x[None], *scan) for x, scan in zip(slices, each, strict=True)]


def _tooth(setting: Setting, every: int) -> list[Measured]:
    scan = NamedTomography(every=every, binning=2).scan(setting.archive(TOOTH))
    return [(scan.full, scan.y, scan.physics)]
