"""Magnetic resonance: a quarter of k-space by eight simulated coils, and a measured head.

Simulated are the pictures of the CT cells, as magnitudes. Of the head, eight coils, every second or
fourth of the measured lines is kept besides the 24 around the middle, from which the coils are
estimated, by Walsh's way, by ESPIRiT, or by ESPIRiT with two sets, since this head is wider than the
field of view and folds; its image is real, with the phase of the middle, or complex. What is true,
for all, is the magnitude of what all lines give with two sets and a complex image, up to white; it has
the noise of the scan. Results are pictured likewise.

Weights on the head were chosen without that picture (`tune`): lines that were kept are left out, the
rest is reconstructed, and its k-space is compared with theirs, in the mean over both tasks: with the
coils of ESPIRiT for real images, and with two sets of them for complex ones, where the prior's usual
strength is nearly the best, and total variation's the best. That magnitudes are compared was decided
on this head, and so was how the data are averaged with the prior's picture in the end, since the
picture of all lines has their noise.
"""

from __future__ import annotations

import functools
import itertools
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from innverse.physics import MRI
from innverse.physics.fourier import as_complex
from innverse.physics.mri import ADVICE_COMPLEX, ADVICE_REAL, NamedMRI
from innverse.physics.scan import Scan
from innverse.studies import tasks

from . import ct
from ._methods import Way
from ._scans import TOTAL_VARIATION, Measured, plug_and_play, rows_of
from ._setting import NoData, Rows, Setting

HEAD, ZOO = "mri_brain_8ch.mat", "natural-gray"
COILS = {
    "head": {"sensitivities": "walsh", "complex_image": False},
    "head-espirit": {"sensitivities": "espirit", "sets": 1, "complex_image": False},
    "head-espirit-2": {"sensitivities": "espirit", "sets": 2, "complex_image": False},
    "head-complex-2": {"sensitivities": "espirit", "sets": 2, "complex_image": True},
}
TRUE = "head-complex-2"  # explains most of the data
THINNED = {f"mri-every-{n}": n for n in (2, 4)}
PNP, TV = "zoo prior, pnp", "total variation"
USUAL = 0.25  # strength, where nothing else is advised
STRENGTHS = (0.1, 0.25, 1.0, 3.0, 10.0, 30.0)
LEFT_OUT = slice(3, None, 6)  # of the kept lines beside the middle


def zero_filled(y, physics, weight, setting):
    return physics.classical(y)


WAYS = {
    "zero-filled": Way(zero_filled),
    TV: TOTAL_VARIATION,
    PNP: plug_and_play(ZOO, 1.0),
}


def advised(complex_image: bool, strength: float | None = None, steps: int = 30) -> Way:
    """As the operator of a scan with little noise advises."""
    advice = dict(ADVICE_COMPLEX if complex_image else ADVICE_REAL)
    usual = advice.pop("strength", USUAL)
    return plug_and_play(ZOO, usual if strength is None else strength, steps, **advice)


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
        for (task, every), (dataset, coils) in itertools.product(THINNED.items(), COILS.items()):
            ways = WAYS | {PNP: advised(coils["complex_image"])}
            ways = {name: _pictured(way) for name, way in ways.items()}
            head = functools.partial(_head, setting, every, coils)
            yield from rows_of(setting, task, dataset, ways, head)


def _pictured(way: Way) -> Way:
    def restore(y, physics, weight, setting):
        return physics.as_picture(way.restore(y, physics, weight, setting)).abs()

    return replace(way, restore=restore)


def _scan(setting: Setting, every: int, **options) -> Scan:
    return NamedMRI(every=every, **options).scan(setting.archive(HEAD))


def _head(setting: Setting, every: int, options: dict[str, Any]) -> list[Measured]:
    scan, true = _scan(setting, every, **options), _scan(setting, every, **COILS[TRUE])
    assert true.full is not None
    return [(true.physics.as_picture(true.full).clamp(0, 1), scan.y, scan.physics)]


def tune(setting: Setting) -> Iterator[tuple[str, str, dict[float, float]]]:
    """(method and coils, task, {weight: dB}): how much of the k-space on lines that were left out is
    foreseen, 0 where that is as good as zeros."""
    for (task, every), (dataset, coils) in itertools.product(THINNED.items(), COILS.items()):
        for method, weights in ((TV, TOTAL_VARIATION.grid), (PNP, STRENGTHS)):
            if not setting.wants(task, dataset, method):
                continue
            scan = _scan(setting, every, **coils)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                found = {w: _foreseen(scan, method, w, setting) for w in weights}
            yield f"{method}, {dataset}", task, found


def _foreseen(scan: Scan, method: str, weight: float, setting: Setting) -> float:
    physics, steps = scan.physics, 15
    assert isinstance(physics, MRI)
    mask, lines = physics.mask[0, 0], physics.mask[0, 0].any(0)
    middle = torch.arange(len(lines)) - len(lines) // 2
    beside = (lines & ((middle < -12) | (middle >= 12))).nonzero().flatten()
    held = torch.zeros_like(mask)
    held[:, beside[LEFT_OUT]] = mask[:, beside[LEFT_OUT]]
    coils = torch.view_as_complex(physics.sensitivities)
    parts = physics.complex_image
    rest, out = MRI(coils, mask - held, parts, physics.noise), MRI(coils, held, parts)
    y = rest.keep_measured(scan.y)
    rest.image_range = physics.image_range
    way = TOTAL_VARIATION if method == TV else advised(parts, weight, steps)
    x = way.restore(y, rest, weight, setting)
    return _share(out.keep_measured(scan.y) - out.A(x)) - _share(out.keep_measured(scan.y))


def _share(y: Tensor) -> float:
    return -10 * float(as_complex(y).abs().square().sum().log10())
