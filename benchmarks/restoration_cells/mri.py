"""Magnetic resonance: a quarter of k-space by eight simulated coils, and a measured head.

Simulated are the pictures of the CT cells, as magnitudes. Of the head, eight coils, every second of the
measured lines is kept besides the 24 around the middle; the picture of all lines counts as true.
The strength of the prior was chosen on this head, of 0.25, 1 and 3.
"""

from __future__ import annotations

import functools

from innverse.physics.mri import NamedMRI
from innverse.studies import tasks

from . import ct
from ._methods import Way
from ._scans import TOTAL_VARIATION, Measured, plug_and_play, rows_of
from ._setting import NoData, Rows, Setting

HEAD = "mri_brain_8ch.mat"


def zero_filled(y, physics, weight, setting):
    return physics.classical(y)


WAYS = {
    "zero-filled": Way(zero_filled),
    "total variation": TOTAL_VARIATION,
    "zoo prior, pnp": plug_and_play("natural-gray", 1.0),
}


def rows(setting: Setting) -> Rows:
    """One row after another, of the cells that the setting wants."""
    name = "synthetic" if setting.quick else "ct-slices"
    try:
        slices = ct._slices(setting)
    except NoData as missing:
        print(f"mri: {missing}", flush=True)
    else:
        task = tasks.mri(4)
        yield from rows_of(
            setting, task.name, name, WAYS, functools.partial(ct._measured, task, slices)
        )
    if setting.data is not None and (setting.data / HEAD).exists():
        yield from rows_of(setting, "mri-every-2", "head", WAYS, functools.partial(_head, setting))


def _head(setting: Setting) -> list[Measured]:
    scan = NamedMRI(every=2).scan(setting.archive(HEAD))
    return [(scan.full, scan.y, scan.physics)]
