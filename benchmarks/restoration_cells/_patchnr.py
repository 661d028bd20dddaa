"""PatchNR's way (Altekrueger et al. 2023, arXiv 2205.12021): descent on data and patches at once.

    min_x  ||A x - y||^2 / (2 s^2) - weight log p(patches of x)

by Adam. Theirs is a mean over patches drawn at random in each step; here it is that over a grid of
patches laid at random, whose product is what a patch flow calls the density of a picture.
"""

from __future__ import annotations

import torch
from torch import Tensor

from innverse.physics import LinearPhysics

STEPS, RATE = 300, 0.02


def restore(
    y: Tensor,
    physics: LinearPhysics,
    noise: float,
    flow,
    weight: float,
    x: Tensor,
    steps: int = STEPS,
) -> Tensor:
    """From the first guess x, at the lowest noise level that the flow knows; the rate falls to 0."""
    level = None if flow.noise_range is None else flow.noise_range[0]
    x = x.clone().requires_grad_()
    adam = torch.optim.Adam([x], RATE)
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    g, side = torch.Generator().manual_seed(0), flow.multiple
    with torch.enable_grad():
        for _ in range(steps):
            top, left = torch.randint(side, (2,), generator=g).tolist()
            rows, columns = ((n - at) // side * side for n, at in zip(x.shape[-2:], (top, left)))
            grid = x[..., top : top + rows, left : left + columns]
            data = (physics.A(x) - y).square().sum() / (2 * noise**2)
            (x.grad,) = torch.autograd.grad(data - weight * flow.log_prob(grid, level).sum(), x)
            adam.step()
            fall.step()
    return x.detach()
