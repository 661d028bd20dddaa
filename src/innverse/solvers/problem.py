"""A measurement, its operator and a prior, checked, and the pieces every solver needs of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InputError, ShapeError
from ..flows.padding import round_up
from ..physics import as_physics, check_adjoint, check_measurement

Progress = Callable[[float, float, str], None]

NOISELESS = 2e-3  # standard deviation that stands for "no noise": half a level of 8 bits


@dataclass
class Problem:
    """y = A x + noise with a prior; ``shape`` is that of one image."""

    y: Tensor
    physics: object
    prior: object
    noise: float | Tensor | None
    shape: tuple[int, int, int]
    progress: Progress

    @classmethod
    def build(cls, y, physics, prior, noise=None, image_shape=None, progress=None) -> Problem:
        """Check everything a user can get wrong; raises InputError, ShapeError or UsageError."""
        check_measurement(y)
        physics = as_physics(physics, image_shape)
        y = y.detach()
        with torch.no_grad():
            back = physics.A_adjoint(y)
        if back.dim() != 4 or len(back) != len(y):
            raise ShapeError(
                f"A_adjoint maps the measurement {tuple(y.shape)} to {tuple(back.shape)}: expected "
                f"images ({len(y)}, C, H, W)"
            )
        check_adjoint(physics, back[:1] if _fixed(physics, back[:1]) else back)
        channels = getattr(prior, "shape", back.shape[1:])[0]
        if back.shape[1] != channels:
            raise ShapeError(
                f"the images have {back.shape[1]} channels but the prior knows {channels}: choose "
                f"a {'colour' if back.shape[1] == 3 else 'gray'} prior or convert the images"
            )
        noise = getattr(physics, "sigma", None) if noise is None else noise
        shape = tuple(back.shape[1:])
        made = tuple(getattr(prior, "shape", shape))
        if made != tuple(getattr(prior, "latent_shape", made)) and made != shape:
            raise ShapeError(
                f"the images have shape {shape} but the prior makes images of {made} only"
            )
        return cls(y, physics, prior, noise, shape, progress or (lambda *_: None))

    @property
    def batch(self) -> int:
        return len(self.y)

    def noise_level(self) -> Tensor:
        """Standard deviation of the noise of each item (B,); a small floor if there is none."""
        level = torch.as_tensor(0.0 if self.noise is None else self.noise)
        level = level.to(self.y).expand(self.batch)
        if not bool((level >= 0).all()):
            raise InputError(f"the noise level must be >= 0, got {float(level.min()):g}")
        return level.clamp_min(NOISELESS)

    def residual(self, x: Tensor) -> Tensor:
        """||A x - y|| / ||y|| of each item."""
        with torch.no_grad():
            difference = (self.physics.A(x) - self.y).flatten(1).norm(dim=1)
        return difference / self.y.flatten(1).norm(dim=1).clamp_min(1e-12)

    def misfit(self, x: Tensor, idx: Tensor) -> Tensor:
        """||A x - y||^2 for images of the items ``idx`` of the batch."""
        physics = self.physics.select(idx)
        return (physics.A(x) - self.y[idx]).flatten(1).square().sum(1)

    @torch.no_grad()
    def first_guess(self, prior_sigma: float | Tensor = 0.3) -> Tensor:
        """The image closest to a constant that explains y (Tikhonov, in closed form or by CG).

        ``prior_sigma`` is how far images stray from the constant: what keeps noise bounded where
        A hardly sees, which a pseudo-inverse would amplify without limit.
        """
        one = self.y.new_ones((self.batch, *self.shape))
        seen = self.physics.A(one).flatten(1)
        level = (seen * self.y.flatten(1)).sum(1) / seen.square().sum(1).clamp_min(1e-12)
        level = torch.where((level > 0) & (level < 1), level, 0.5).view(-1, 1, 1, 1)
        flat = level * one
        rho = (self.noise_level() / prior_sigma).square()
        rhs = self.physics.A_adjoint(self.y) + rho.view(-1, 1, 1, 1) * flat
        return self.physics.solve_normal(rhs, rho, x0=flat).clamp(-0.5, 1.5)

    def padded_shape(self, multiple: int) -> tuple[int, int, int]:
        """The shape the prior works on: sides rounded up; `crop` undoes it."""
        c, h, w = self.shape
        return c, round_up(h, multiple), round_up(w, multiple)

    def crop(self, x: Tensor) -> Tensor:
        return x[..., : self.shape[1], : self.shape[2]]


def _fixed(physics, x: Tensor) -> bool:
    """Whether the operator takes a single item (its masks or kernels are not one per item)."""
    try:
        with torch.no_grad():
            physics.A(x)
        return True
    except (ShapeError, RuntimeError):
        return False
