"""A measurement, its operator and a prior, checked, and the pieces every solver needs of them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..errors import InnverseError, InputError, ShapeError
from ..flows.padding import round_up
from ..physics import (
    CallablePhysics,
    LinearPhysics,
    check_adjoint,
    check_measurement,
    check_operator,
    whiten,
)
from ..physics.base import GREY
from ..physics.checks import check_items, is_own
from ..physics.foreign_noise import as_noise
from ..physics.levenberg import levenberg_marquardt
from ..physics.noise import GaussianNoise, NoiseModel, NoNoise, PoissonNoise
from ..physics.real_numbers import in_real_numbers
from ..physics.rescaled import RescaledNoise
from ..physics.stacked import StackedNoise
from ..physics.whitened import divide
from ..progress import Report
from .measurement import differentiable, operator_for, safely, tensor_for

NOISELESS = 2e-3  # standard deviation that stands for "no noise": half a level of 8 bits


# Norms of an operator between which it is taken as it is. Others are brought to 1 first: absolute
# tolerances, and the level that stands for "no noise", mean images on [0, 1].
_SMALLEST, _LARGEST = 0.1, 10.0


@dataclass
class Problem:
    """y = A x + noise with a prior, in the form in which solvers want it.

    Noise that differs from value to value, and an operator of a norm far from 1, are divided out,
    see `Whitened`. What the user gave is ``given``.

    Attributes:
        y: (B, ...), real.
        physics: A.
        noise: standard deviation, one number or (B,); None if there is none or it is unknown.
        shape: (C, H, W) of one image.
        scale: what A was divided by: a weight lam of ||A x - y||^2 + lam R(x) becomes
            lam / scale^2.
        given: the measurement and the operator before anything was divided.
        model: the noise of what was given.
        unit: of the given y, in units of the caller's: not 1 where images have a scale of their own.
    """

    y: Tensor
    physics: LinearPhysics
    prior: object
    noise: float | Tensor | None
    shape: tuple[int, int, int]
    progress: Report
    scale: float
    given: tuple[Tensor, LinearPhysics]
    model: NoiseModel | None
    unit: float = 1.0

    @classmethod
    def build(
        cls, y, physics, prior: object, noise=None, image_shape=None, progress=None
    ) -> Problem:
        """Check everything a user can get wrong; raises InputError, ShapeError or UsageError."""
        physics = operator_for(physics, y, prior, image_shape)
        y = tensor_for(y, physics, prior)
        if y.numel() == 0:
            check_measurement(y)
        y, back = _first_images(y, physics, prior)
        if back.dim() != 4 or len(back) != len(y):
            raise ShapeError(
                f"A_adjoint maps the measurement {tuple(y.shape)} to {tuple(back.shape)}: expected "
                f"images ({len(y)}, C, H, W)"
            )
        model = as_noise(physics.noise if noise is None else noise)
        model = model.of(y) if isinstance(model, (GaussianNoise, StackedNoise)) else model
        y = _without_missing(physics.keep_measured(y), model)
        _check_counts(y, model)
        check_measurement(y)
        one = _serves_one(physics, back[:1])
        if not one and isinstance(physics, CallablePhysics):
            physics.items = len(back)
        sample = back[:1] if one else back
        (check_operator if physics.linear else check_adjoint)(physics, sample)
        measured = safely(physics, "A", sample)
        if y.is_complex() and not measured.is_complex():
            raise InputError(_NOT_COMPLEX)
        if one and len(back) > 1 and not is_own(physics):
            check_items(physics, back)
        if measured.shape[1:] != y.shape[1:]:
            raise ShapeError(
                f"A maps images {tuple(back.shape)} to measurements (B, "
                f"{', '.join(map(str, measured.shape[1:]))}), but y is {tuple(y.shape)}"
            )
        physics = differentiable(physics, sample)
        if y.is_complex() or measured.is_complex():
            y, physics, model = in_real_numbers(y, physics, model)
        channels, height, width = back.shape[1:]
        shape = channels, height, width
        _check_prior(prior, shape)
        scale = _scale(physics, sample) if physics.linear else 1.0
        told = progress or (lambda *_: None)
        found = cls(y, physics, prior, None, shape, told, scale, (y, physics), model)
        return found.measured_by(y, physics, model)

    def measured_by(self, y: Tensor, physics: LinearPhysics, model: NoiseModel | None) -> Problem:
        """The same problem with another measurement, by an operator of the same norm."""
        white, operator = whiten(y, physics, model)
        if self.scale != 1:
            white, operator = divide(white, operator, self.scale)
        return replace(
            self, y=white, physics=operator, noise=operator.sigma, given=(y, physics), model=model
        )

    def without_exact(self) -> tuple[Problem, Tensor]:
        """The problem with `NOISELESS` for single values whose noise is 0, and who has such (B,)."""
        y, physics = self.given
        filled = _filled(self.model, y, NOISELESS * self.scale)
        if filled is None or self.model is None:
            return self, torch.zeros(self.batch, dtype=torch.bool)
        found = (self.model.std(y).expand(y.shape) == 0).flatten(1).any(1)
        return self.measured_by(y, physics, filled), found

    @property
    def batch(self) -> int:
        return len(self.y)

    def deviation(self) -> Tensor:
        """Standard deviation of the noise of each item (B,); `NOISELESS` where there is none."""
        level = torch.as_tensor(0.0 if self.noise is None else self.noise)
        level = level.to(self.y).expand(self.batch)
        if not bool((level >= 0).all()):
            raise InputError(f"the noise level must be >= 0, got {float(level.min()):g}")
        return torch.where(level > 0, level, NOISELESS)

    def noise_level(self) -> Tensor:
        """`deviation`, but no less than searches resolve."""
        return self.deviation().clamp_min(NOISELESS)

    def residual(self, x: Tensor) -> Tensor:
        """||A x - y|| / ||y|| of each item, of the measurement as it was given."""
        y, physics = self.given
        with torch.no_grad():
            difference = (physics.A(x) - y).flatten(1).norm(dim=1)
        return difference / y.flatten(1).norm(dim=1).clamp_min(1e-12 * self.scale)

    def misfit(self, x: Tensor, idx: Tensor) -> Tensor:
        """||A x - y||^2 for images of the items ``idx`` of the batch; values weigh as `Whitened`."""
        physics = self.physics.select(idx)
        return (physics.A(x) - self.y[idx]).flatten(1).square().sum(1)

    @torch.no_grad()
    def first_guess(self, prior_sigma: float | Tensor = 0.3, tol: float | None = None) -> Tensor:
        """The image closest to a constant that explains y (Tikhonov, in closed form or by CG; for
        operators that are not linear such an image near grey, by Levenberg & Marquardt).

        ``prior_sigma`` is how far images stray from the constant: what keeps noise bounded where
        A hardly sees, which a pseudo-inverse would amplify without limit. ``tol`` is that of conjugate
        gradients, see `LinearPhysics.solve_normal`.
        """
        one = self.y.new_ones((self.batch, *self.shape))
        if not self.physics.linear:
            rho = (self.noise_level() / prior_sigma).square()
            found = levenberg_marquardt(self.physics, self.y, GREY * one, rho)
            return found.clamp(-0.5, 1.5)
        seen = self.physics.A(one).flatten(1)
        level = (seen * self.y.flatten(1)).sum(1) / seen.square().sum(1).clamp_min(1e-12)
        level = torch.where((level > 0) & (level < 1), level, 0.5).view(-1, 1, 1, 1)
        flat = level * one
        rho = (self.noise_level() / prior_sigma).square()
        rhs = self.physics.A_adjoint(self.y) + rho.view(-1, 1, 1, 1) * flat
        return self.physics.solve_normal(rhs, rho, x0=flat, tol=tol).clamp(-0.5, 1.5)

    def padded_shape(self, multiple: int) -> tuple[int, int, int]:
        """The shape the prior works on: sides rounded up; `crop` undoes it."""
        c, h, w = self.shape
        return c, round_up(h, multiple), round_up(w, multiple)

    def crop(self, x: Tensor) -> Tensor:
        return x[..., : self.shape[1], : self.shape[2]]


_NOT_COMPLEX = "the measurement is complex but A gives real ones: pass its real part, y.real"


@torch.no_grad()
def _first_images(y: Tensor, physics: LinearPhysics, prior) -> tuple[Tensor, Tensor]:
    """The adjoint's images, and y, in single precision if the operator knows no other."""
    if y.is_complex() and physics.measures_images:
        raise InputError(_NOT_COMPLEX)
    finite = y if bool(y.isfinite().all()) else y.nan_to_num()
    try:
        return y, safely(physics, "A_adjoint", finite)
    except InputError:
        if y.dtype not in (torch.float64, torch.complex128) or isinstance(prior, nn.Module):
            raise
    single = torch.complex64 if y.is_complex() else torch.float32
    return y.to(single), safely(physics, "A_adjoint", finite.to(single))


def _serves_one(physics: LinearPhysics, x: Tensor) -> bool:
    """Whether the operator takes a single item (its masks or kernels are not one per item)."""
    if physics.items > 1:
        return False
    try:
        with torch.no_grad():
            return len(physics.A(x)) == 1
    except (InnverseError, RuntimeError):
        return False


def _without_missing(y: Tensor, model) -> Tensor:
    """y with zeros where the noise is infinite: what was not measured may hold anything."""
    if not isinstance(model.sigma, Tensor) or not bool(model.sigma.isinf().any()):
        return y
    return torch.where(model.std(y).isinf(), 0, y)


def _filled(model: NoiseModel | None, y: Tensor, level: float) -> NoiseModel | None:
    """The noise with ``level`` where single values have none; None where there are no such."""
    if isinstance(model, RescaledNoise):
        filled = _filled(model.model, model.given(y), level * model.span)
        return filled and RescaledNoise(filled, model.offset, model.span)
    if isinstance(model, StackedNoise):
        given = [*zip(model.models, model.split(y), strict=True)]
        found = [
            GaussianNoise(level) if _is_exact(part) else _filled(part, m, level)
            for part, m in given
        ]
        if all(f is None for f in found):
            return None
        return model.by([f or part for f, (part, _) in zip(found, given, strict=True)])
    if not isinstance(model, GaussianNoise) or not model.is_map:
        return None
    std = model.std(y)
    return GaussianNoise(torch.where(std > 0, std, level), True) if bool((std == 0).any()) else None


def _is_exact(model: NoiseModel) -> bool:
    if isinstance(model, GaussianNoise):
        return not isinstance(model.sigma, Tensor) and model.sigma == 0
    return isinstance(model, NoNoise)


def _check_counts(y: Tensor, model) -> None:
    """Photons are counted from 0 on."""
    if type(model) is not PoissonNoise or y.is_complex():
        return
    negative = int((y < -0.5 * model.gain).sum())
    if negative:
        raise InputError(
            f"{negative} of {y.numel()} photon counts are negative, down to {float(y.min()):.3g}: give "
            "them as they were counted, or PoissonGaussianNoise(gain, sigma) where they were read with "
            "noise"
        )


def _check_prior(prior: object, shape: tuple[int, ...]) -> None:
    channels = getattr(prior, "shape", shape)[0]
    if shape[0] != channels:
        one = f", or give innverse.solvers.EachChannel(prior, {shape[0]})" if channels == 1 else ""
        raise ShapeError(
            f"the images have {shape[0]} channels but the prior knows {channels}: choose "
            f"a {'colour' if shape[0] == 3 else 'gray'} prior or convert the images{one}"
        )
    made = tuple(getattr(prior, "shape", shape))
    if made != tuple(getattr(prior, "latent_shape", made)) and made != shape:
        raise ShapeError(f"the images have shape {shape} but the prior makes images of {made} only")


def _scale(physics: LinearPhysics, sample: Tensor) -> float:
    """||A|| where it is far from 1, else 1."""
    rough = physics.norm_squared(sample, 6) ** 0.5
    if _SMALLEST <= rough <= _LARGEST:
        return 1.0
    return physics.norm_squared(sample) ** 0.5
