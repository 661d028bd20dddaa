"""Magnetic resonance: a quarter of k-space by eight simulated coils, and a measured head.

Simulated are the pictures of the CT cells, as magnitudes. Of the head, eight coils, every second or
fourth of the measured lines is kept besides the 24 around the middle, from which the coils are
estimated, by Walsh's way or by ESPIRiT. What counts as true, for both, is the magnitude of what all
lines and Walsh's coils give, up to white; it has the noise of the scan.

The strength of the prior on the head was chosen without that picture (`tune`): lines that were kept
are left out, the rest is reconstructed, and its k-space is compared with theirs. That magnitudes are
compared, and not real parts beyond black and white, was decided on this head.
"""

from __future__ import annotations

import functools
import itertools
import warnings
from collections.abc import Iterator

import torch
from torch import Tensor

import innverse
from innverse.physics import MRI
from innverse.physics.fourier import as_complex
from innverse.physics.mri import NamedMRI
from innverse.physics.scan import Scan
from innverse.studies import tasks

from . import ct
from ._scans import Measured, Way, plug_and_play, prior, rows_of, total_variation
from ._setting import NoData, Rows, Setting

HEAD, ZOO = "mri_brain_8ch.mat", "natural-gray"
COILS = {"head": "walsh", "head-espirit": "espirit"}
THINNED = {f"mri-every-{n}": n for n in (2, 4)}
STRENGTHS = (1.0, 3.0, 10.0)
LEFT_OUT = slice(3, None, 6)  # of the kept lines beside the middle


def zero_filled(y, physics, setting):
    return physics.classical(y)


WAYS = {
    "zero-filled": zero_filled,
    "total variation": total_variation,
    "zoo prior, pnp": plug_and_play(ZOO, strength=1.0),
}
ON_THE_HEAD = WAYS | {"zoo prior, pnp": plug_and_play(ZOO, strength=3.0)}


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
        ways = {name: _magnitude(way) for name, way in ON_THE_HEAD.items()}
        for task, dataset in itertools.product(THINNED, COILS):
            head = functools.partial(_head, setting, THINNED[task], COILS[dataset])
            yield from rows_of(setting, task, dataset, ways, head)


def _magnitude(way: Way) -> Way:
    return lambda y, physics, setting: way(y, physics, setting).abs()


def _scan(setting: Setting, every: int, coils: str) -> Scan:
    return NamedMRI(every=every, sensitivities=coils).scan(setting.archive(HEAD))


def _head(setting: Setting, every: int, coils: str) -> list[Measured]:
    scan, full = _scan(setting, every, coils), _scan(setting, every, "walsh").full
    assert full is not None
    return [(full.abs().clamp(0, 1), scan.y, scan.physics)]


def tune(setting: Setting) -> Iterator[tuple[str, str, dict[float, float]]]:
    """(method and coils, task, {strength: dB}): how much of the k-space on lines that were left out is
    foreseen, 0 where that is as good as zeros. Total variation has its usual weight, 1."""
    for (task, every), (dataset, coils) in itertools.product(THINNED.items(), COILS.items()):
        for method, strengths in (("total variation", (1.0,)), ("zoo prior, pnp", STRENGTHS)):
            if not setting.wants(task, dataset, method):
                continue
            scan = _scan(setting, every, coils)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                found = {s: _foreseen(scan, method, s, setting) for s in strengths}
            yield f"{method}, {dataset}", task, found


def _foreseen(scan: Scan, method: str, strength: float, setting: Setting) -> float:
    physics, steps = scan.physics, 2 if setting.quick else 15
    assert isinstance(physics, MRI)
    mask, lines = physics.mask[0, 0], physics.mask[0, 0].any(0)
    middle = torch.arange(len(lines)) - len(lines) // 2
    beside = (lines & ((middle < -12) | (middle >= 12))).nonzero().flatten()
    held = torch.zeros_like(mask)
    held[:, beside[LEFT_OUT]] = mask[:, beside[LEFT_OUT]]
    coils = torch.view_as_complex(physics.sensitivities)
    rest, out = MRI(coils, mask - held, noise=physics.noise), MRI(coils, held)
    y = rest.keep_measured(scan.y)
    if method == "total variation":
        x = innverse.solve(y, rest, method="tv", steps=10 * steps).x
    else:
        x = innverse.solve(y, rest, prior(setting, ZOO), "pnp", strength=strength, steps=steps).x
    return _share(out.keep_measured(scan.y) - out.A(x)) - _share(out.keep_measured(scan.y))


def _share(y: Tensor) -> float:
    return -10 * float(as_complex(y).abs().square().sum().log10())
