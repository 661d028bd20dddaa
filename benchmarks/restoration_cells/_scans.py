"""What CT and MRI share: ways to reconstruct, a row of a task, pictures of the first slice."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, Sequence

from torch import Tensor

import innverse
from innverse.data import write_image
from innverse.errors import InnverseError
from innverse.physics import LinearPhysics, whiten
from innverse.solvers import EachChannel
from innverse.solvers.baselines.tv import default_lam

from ._methods import Way
from ._setting import NoData, Setting, judged, row

Measured = tuple[Tensor, Tensor, LinearPhysics]
"""The picture x (1, 1, H, W) that counts as true, its measurement, the operator."""

OWN = "own prior"


def total_variation(y: Tensor, physics: LinearPhysics, weight: float, setting: Setting) -> Tensor:
    """``weight`` times what the method takes by itself."""
    lam = weight * default_lam(whiten(y, physics)[1].sigma, physics)
    return innverse.solve(y, physics, method="tv", lam=lam, steps=20 if setting.quick else 600).x


def plug_and_play(
    of: str, usual: float = 0.25, steps: int = 30, option: str = "strength", **more: float
) -> Way:
    """With the prior for photographs of the zoo, or with one's own; the weight is ``option``."""

    def restore(y: Tensor, physics: LinearPhysics, weight: float, setting: Setting) -> Tensor:
        given = more | {option: weight, "steps": 2 if setting.quick else steps}
        model, channels = prior(setting, of), physics.image_shape[0]
        model = model if channels == 1 else EachChannel(model, channels)
        return innverse.solve(y, physics, model, "pnp", **given).x

    return Way(restore, (usual / 2, usual, 2 * usual), usual=usual)


TOTAL_VARIATION = Way(total_variation, (0.125, 0.25, 0.5, 1.0, 2.0))


PRIORS: dict[str, Callable] = {
    "natural-gray": functools.cache(lambda: innverse.load("natural-gray"))
}


def prior(setting: Setting, of: str):
    """A model of the zoo, one that was put into `PRIORS`, or that in a folder below --work."""
    folder = setting.work / of / "model"
    if of not in PRIORS and folder.exists():
        PRIORS[of] = functools.cache(lambda: innverse.load(str(folder)))
    if of not in PRIORS and setting.quick:
        return PRIORS["natural-gray"]()
    if of not in PRIORS:
        raise NoData(f"needs a prior in {folder}, of: innverse train configs/{of}.toml")
    return PRIORS[of]()


def rows_of(
    setting: Setting,
    task: str,
    dataset: str,
    ways: dict[str, Way],
    measured: Callable[[], Sequence[Measured]],
) -> Iterator[dict]:
    """A row of each way that is wanted; what is measured is made only where one is."""
    wanted = {name: way for name, way in ways.items() if setting.wants(task, dataset, name)}
    if not wanted:
        return
    scans = measured()
    where = setting.work / "pictures" / dataset / task
    where.mkdir(parents=True, exist_ok=True)
    write_image(where / "true.png", scans[0][0].clamp(0, 1))
    for name, way in wanted.items():
        scores, weight = [], setting.tuned.get(name, {}).get(task, way.usual)
        try:
            for k, (x, y, physics) in enumerate(scans):
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", UserWarning)
                    found = functools.partial(restored, way, y, physics, weight, setting)
                    score, found = judged(x, found)
                scores.append(score)
                if k == 0:
                    write_image(where / f"{name}.png", found)
        except (NoData, InnverseError) as error:
            print(f"{task} / {dataset} / {name}: {error}", flush=True)
            continue
        yield row(task, dataset, name, scores)


def restored(
    way: Way, y: Tensor, physics: LinearPhysics, weight: float, setting: Setting
) -> Tensor:
    return way.restore(y, physics, weight, setting).clamp(0, 1)


def tuned(
    setting: Setting, task: str, ways: dict[str, Way], measured: Callable[[], Sequence[Measured]]
) -> Iterator[tuple[str, str, dict[float, float]]]:
    """(method, task, {weight: PSNR}) of each way that is wanted and has weights."""
    wanted = [(n, w) for n, w in ways.items() if w.grid and setting.wants(task, "training", n)]
    scans = measured() if wanted else ()
    for name, way in wanted:
        mean = {}
        try:
            for weight in way.grid:
                again = [
                    (x, functools.partial(restored, way, y, a, weight, setting))
                    for x, y, a in scans
                ]
                mean[weight] = sum(judged(x, found)[0].psnr for x, found in again) / len(scans)
        except (NoData, InnverseError) as error:
            print(f"{task} / {name}: {error}", flush=True)
            continue
        yield name, task, mean
