"""Whether an image computed from the data alone shows what was measured."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F

from .problem import Problem

_SCALE = 8  # a smooth image is drawn on a grid so many times coarser
_ENOUGH = 0.75  # of its contrast


@torch.no_grad()
def shown(problem: Problem) -> bool:
    """Whether the nearest image that explains the measurement of a smooth random one shows it.

    A scan (tomography, magnetic resonance) sees what is smooth, random projections see no more of it
    than of anything else. Learned by trying: the operator may be anybody's.
    """
    _, height, width = problem.shape
    grid = max(2, height // _SCALE), max(2, width // _SCALE)
    g = torch.Generator().manual_seed(0)
    coarse = torch.rand((problem.batch, problem.shape[0], *grid), generator=g).to(problem.y.real)
    x = F.interpolate(coarse, (height, width), mode="bicubic", align_corners=False)
    found = replace(problem, y=problem.physics.A(x)).first_guess()
    off = (found - x).flatten(1).square().sum(1)
    contrast = (x - x.mean((1, 2, 3), keepdim=True)).flatten(1).square().sum(1)
    return bool((off < (1 - _ENOUGH) ** 2 * contrast).all())
