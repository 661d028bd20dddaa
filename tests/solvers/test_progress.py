"""What `solve` tells of its progress: something by every method, in order, also inside long steps."""

from __future__ import annotations

import pytest
import torch

from innverse import flows, solve
from innverse.bijections import initialize
from innverse.physics import Denoising, Inpainting
from innverse.progress import Progress
from innverse.solvers.solve import METHODS


@pytest.fixture(scope="module")
def flow():
    torch.manual_seed(0)
    made = flows.build("glow", (1, 16, 16), levels=1, steps=1, hidden=4, noise=(0.01, 0.4))
    initialize(made, torch.rand(8, 1, 16, 16), 0.1)
    return made.eval()


def told(*args, **kwargs) -> list[tuple[float, float]]:
    seen = []
    solve(*args, progress=lambda done, total, note: seen.append((done, total)), **kwargs)
    return seen


@pytest.mark.parametrize("method", [name for name in METHODS if name != "amortised"])
def test_every_method_tells_of_its_progress_and_never_goes_back(flow, method):
    physics = Inpainting.random((1, 16, 16), keep=0.6)
    y = physics(torch.rand(2, 1, 16, 16))
    options = {
        "adaptive": {"tune_steps": 5},
        "posterior": {"noise": 0.1, "draws": 8, "chains": 2, "warmup": 3, "steps": 2},
        "exchange": {"noise": 0.1, "draws": 8, "chains": 2, "warmup": 3, "steps": 2, "levels": 3},
        "smc": {"noise": 0.1, "draws": 8, "runs": 2, "moves": 1, "steps": 2, "effective": 0.2},
        "langevin": {"noise": 0.1, "draws": 4, "levels": 2, "steps": 3},
        "variational": {"noise": 0.1, "draws": 4, "steps": 3},
    }
    seen = told(y, physics, flow, method=method, **{"steps": 20} | options.get(method, {}))
    assert seen and all(0 <= done <= total for done, total in seen)
    assert len({total for _, total in seen}) == 1 and seen == sorted(seen)


@pytest.mark.parametrize("physics", ["inpainting", "denoising"])
def test_a_picture_in_tiles_tells_of_every_tile(flow, physics):
    shape = (1, 100, 200)  # 2 x 3 tiles
    if physics == "denoising":
        operator, whole = Denoising(0.1, image_shape=shape), 6
    else:  # the last of three steps looks at two views
        operator, whole = Inpainting.random(shape, keep=0.6), 6 * (2 + 2)
    y = operator(torch.rand(1, *shape))
    options = {"steps": 3} if physics == "inpainting" else {}
    seen = told(y, operator, flow, method="pnp", views=2, tile=96, **options)
    assert {total for _, total in seen} == {whole} and seen[-1] == (whole, whole)
    assert seen == sorted(seen) and len(seen) == (18 if physics == "inpainting" else 6)


def test_a_progress_takes_what_solve_tells(flow):
    physics = Inpainting.random((1, 16, 16), keep=0.6)
    with Progress("solving", quiet=True) as progress:
        solve(physics(torch.rand(1, 1, 16, 16)), physics, flow, "pnp", steps=3, progress=progress)
    assert progress.fraction == 1 and progress.note.startswith("sigma")
