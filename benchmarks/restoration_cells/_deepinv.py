"""deepinv's total variation and wavelets, as its users have them: proximal gradient descent.

Its networks (DRUNet, DnCNN) load weights from the net, and its patch prior has none for photographs:
they are left out.
"""

from __future__ import annotations

import torch
from torch import Tensor

from innverse.physics import LinearPhysics

from ._setting import NoData, Setting

STEPS = 100


def by(prior: str):
    """Proximal gradient descent with a prior of `deepinv.optim.prior`."""

    def restore(y: Tensor, physics: LinearPhysics, weight: float, setting: Setting) -> Tensor:
        if not setting.peers:
            raise NoData("needs --peers, and deepinv")
        import deepinv

        made = getattr(deepinv.optim.prior, prior)()
        size = 0.95 / float(physics.norms_squared(physics.A_adjoint(y)).max())
        noise = max(float(physics.sigma or 0), 2e-3)
        x = physics.A_adjoint(y)
        for _ in range(3 if setting.quick else STEPS):
            down = x - size * physics.A_adjoint(physics.A(x) - y)
            x = made.prox(down, gamma=weight * noise * size)
        return x

    return torch.no_grad()(restore)


WAYS = {"deepinv total variation": by("TVPrior"), "deepinv wavelets": by("WaveletPrior")}
