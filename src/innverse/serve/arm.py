"""A simulator to play with: which postures of an arm reach a point? (Kruse et al. 2021)"""

from __future__ import annotations

import threading
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field

from ..errors import InputError
from ..progress import Report
from .jobs import Product

_SIMULATIONS, _EPOCHS = 20_000, 12


class Point(BaseModel):
    """Where the hand is."""

    model_config = ConfigDict(extra="forbid")

    x: float = Field(ge=-3, le=3)
    y: float = Field(ge=-3, le=3)
    draws: int = Field(200, ge=10, le=2000)
    seed: int = Field(0, ge=0, lt=2**31)


class Arm:
    """The posterior, learned once, and its draws in milliseconds."""

    def __init__(self):
        self._posterior: Any = None
        self._lock = threading.Lock()

    @property
    def ready(self) -> bool:
        return self._posterior is not None

    def learn(self, report: Report) -> Product:
        """Up to a minute of training, which runs to its end once it has begun."""
        from ..amortized import fit
        from ..data.simulators import InverseKinematics

        if self.ready:
            return Product({"ready": True})
        arm, g = InverseKinematics(), torch.Generator().manual_seed(0)
        theta, x = arm.pairs(_SIMULATIONS, g)
        report(0.02, 1, "simulated")
        found = fit(theta, x, names=arm.names, max_epochs=_EPOCHS, seed=0, progress=False)
        report(1, 1, "learned")
        self._posterior = found
        return Product({"ready": True})

    def draws(self, point: Point) -> dict[str, Any]:
        """Parameters, their names, and the joints of each posture.

        Raises:
            InputError: nothing is learned yet.
        """
        from ..data.simulators import InverseKinematics

        if not self.ready:
            raise InputError("the posterior is not learned yet: start it first")
        arm = InverseKinematics()
        g = torch.Generator().manual_seed(point.seed)  # jobs draw from the global one meanwhile
        at = torch.tensor([point.x, point.y])
        with self._lock:
            theta = self._posterior.sample((point.draws,), x=at, generator=g)
        theta = torch.as_tensor(theta).float().reshape(-1, 4)
        return {
            "names": arm.names,
            "theta": theta.tolist(),
            "joints": arm.joints(theta).tolist(),
        }
