"""Magnetic resonance: a quarter of k-space by eight simulated coils, and a measured head.

Simulated are the pictures of the CT cells, as magnitudes. Of the head, eight coils, every second or
fourth of the measured lines is kept besides the 24 around the middle, from which the coils are
estimated, by Walsh's way, by ESPIRiT, or by ESPIRiT with two sets, since this head is wider than the
field of view and folds. What counts as true, for all, is the magnitude of what all lines and Walsh's
coils give, up to white; it has the noise of the scan. Results are seen by the coils and put together
likewise.

The strength of the prior on the head was chosen without that picture (`tune`): lines that were kept
are left out, the rest is reconstructed, and its k-space is compared with theirs; in the mean over both
tasks, with the coils of ESPIRiT. Total variation has its usual weight. That magnitudes are compared was
decided on this head, and so was to give the data the last word, since the picture of all lines has
their noise.
"""

from __future__ import annotations

import functools
import itertools
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

import innverse
from innverse.physics import MRI, espirit_maps
from innverse.physics.fourier import as_complex
from innverse.physics.mri import NamedMRI
from innverse.physics.scan import Scan
from innverse.studies import tasks

from . import ct
from ._methods import Way
from ._scans import TOTAL_VARIATION, Measured, plug_and_play, rows_of
from ._setting import NoData, Rows, Setting

HEAD, ZOO = "mri_brain_8ch.mat", "natural-gray"
COILS = {
    "head": ("walsh", None),
    "head-espirit": ("espirit", None),
    "head-espirit-2": ("espirit", 2),
}
THINNED = {f"mri-every-{n}": n for n in (2, 4)}
STRENGTH, STRENGTHS = 10.0, (1.0, 3.0, 10.0, 30.0)
LEFT_OUT = slice(3, None, 6)  # of the kept lines beside the middle


def zero_filled(y, physics, weight, setting):
    return physics.classical(y)


WAYS = {
    "zero-filled": Way(zero_filled),
    "total variation": TOTAL_VARIATION,
    "zoo prior, pnp": plug_and_play(ZOO, 1.0),
}


def held_strongly(strength: float = STRENGTH, steps: int = 30) -> Way:
    """What coils and gaps make of the noise, and what coils do not tell, is more than the noise of a
    measurement: the prior is held stronger."""
    return plug_and_play(ZOO, strength, steps, consistent=True)


ON_THE_HEAD = WAYS | {"zoo prior, pnp": held_strongly()}


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
            plain = functools.cache(functools.partial(_scan, setting, every))
            ways = {name: _pictured(way, plain) for name, way in ON_THE_HEAD.items()}
            head = functools.partial(_head, setting, every, *coils)
            yield from rows_of(setting, task, dataset, ways, head)


def _pictured(way: Way, plain: Callable[[], Scan]) -> Way:
    """What the coils see of a result, put together by Walsh's coils."""

    def restore(y, physics, weight, setting):
        images = physics.coil_images(way.restore(y, physics, weight, setting))
        return plain().physics.combined(images).abs()

    return replace(way, restore=restore)


def _scan(setting: Setting, every: int, coils: str = "walsh", sets: int | None = None) -> Scan:
    scan = NamedMRI(every=every, sensitivities=coils).scan(setting.archive(HEAD))
    if sets is not None:
        mask, noise = scan.physics.mask[0, 0], scan.physics.noise
        maps, _ = espirit_maps(as_complex(scan.y)[0], 24, phase=True, sets=sets)
        seen, scan.physics = scan.physics.image_range, MRI(maps, mask, noise=noise)
        scan.physics.image_range = seen
    return scan


def _head(setting: Setting, every: int, coils: str, sets: int | None) -> list[Measured]:
    scan, full = _scan(setting, every, coils, sets), _scan(setting, every).full
    assert full is not None
    return [(full.abs().clamp(0, 1), scan.y, scan.physics)]


def tune(setting: Setting) -> Iterator[tuple[str, str, dict[float, float]]]:
    """(method and coils, task, {weight: dB}): how much of the k-space on lines that were left out is
    foreseen, 0 where that is as good as zeros. Total variation has its usual weight, 1."""
    for (task, every), (dataset, coils) in itertools.product(THINNED.items(), COILS.items()):
        for method, weights in (("total variation", (1.0,)), ("zoo prior, pnp", STRENGTHS)):
            if not setting.wants(task, dataset, method):
                continue
            scan = _scan(setting, every, *coils)
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
    rest, out = MRI(coils, mask - held, noise=physics.noise), MRI(coils, held)
    y = rest.keep_measured(scan.y)
    rest.image_range = physics.image_range
    if method == "total variation":
        x = innverse.solve(y, rest, method="tv", steps=20 if setting.quick else 10 * steps).x
    else:
        x = held_strongly(weight, steps).restore(y, rest, weight, setting)
    return _share(out.keep_measured(scan.y) - out.A(x)) - _share(out.keep_measured(scan.y))


def _share(y: Tensor) -> float:
    return -10 * float(as_complex(y).abs().square().sum().log10())
