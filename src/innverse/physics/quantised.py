"""Values that were rounded: bits of a camera, 8-bit files."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..catalog import Operator
from ..errors import UsageError
from ..options import whole
from ..shapes import tensor_of
from .base import LinearPhysics
from .denoising import Denoising
from .noise import GaussianNoise, NoiseModel, NoNoise

_SOFT = 0.05  # of a step: how soft the ends of a cell are where nothing else softens them


class QuantisationNoise(NoiseModel):
    """y = step round((A x + sigma e - offset) / step) + offset: a value tells the cell it lay in.

    Of a value that lay anywhere in its cell the deviation is step / sqrt(12), which is what most
    solvers go by, with sigma added in squares. "posterior" and its like sample with the probability
    of the cell itself, see `log_likelihood`.

    Args:
        step: distance of neighbouring levels, > 0: a number, or a map that broadcasts against the
            measurement.
        sigma: deviation of Gaussian noise before the rounding, >= 0.
        limits: (low, high) to which values are clipped before: the outermost cells have no end. None
            for no limits.
        offset: a level, by default 0; a number or a map.

    Attributes:
        basis: an operator after which the rounding took place, of measurements, or None for the
            values themselves.

    Example:
        >>> noise = QuantisationNoise(0.25)
        >>> noise(torch.tensor([[0.1, 0.2, 0.9]]))
        tensor([[0.0000, 0.2500, 1.0000]])
    """

    def __init__(self, step, sigma: float = 0.0, limits=None, offset=0.0):
        super().__init__()
        words = "the step of a quantisation must be a number or a tensor"
        steps = tensor_of(step, words, torch.float64)
        if steps.numel() == 0 or not bool(((steps > 0) & steps.isfinite()).all()):
            raise UsageError("the step of a quantisation must be finite and > 0")
        if not 0 <= sigma < math.inf:
            raise UsageError(f"noise sigma must be finite and >= 0, got {sigma}")
        if limits is not None and not limits[0] < limits[1]:
            raise UsageError(f"limits={limits}: give (low, high) with low < high")
        self.read_sigma, self.limits = float(sigma), limits
        self.basis: LinearPhysics | None = None
        self.register_buffer("step", steps)
        self.register_buffer("offset", torch.as_tensor(offset, dtype=steps.dtype))
        total = (steps.double().square() / 12 + sigma**2).sqrt()
        self.usual = GaussianNoise(float(total) if total.ndim == 0 else total)

    step: Tensor
    offset: Tensor
    _soft_pixels = 0.0

    @property
    def sigma(self):  # ty: ignore[incompatible-property-override]  # of the rounding too
        return self.usual.sigma

    def std(self, clean: Tensor) -> Tensor:
        return self.usual.std(clean)

    def forward(self, y: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return self.rounded(self._before(y, generator))

    def _before(self, y: Tensor, generator) -> Tensor:
        return GaussianNoise(self.read_sigma)(y, generator) if self.read_sigma else y

    def rounded(self, y: Tensor) -> Tensor:
        """The level nearest to each value."""
        y = y if self.limits is None else y.clamp(*self.limits)
        step, offset = self.step.to(y), self.offset.to(y)
        return step * ((y - offset) / step).round() + offset

    def log_likelihood(self, clean: Tensor, y: Tensor) -> Tensor:
        """log of the probability of the cells of y (B, ...), each item's sum (B,).

        With e ~ N(0, 1) before the rounding it is Phi(b / sigma) - Phi(a / sigma), where a and b are
        the ends of the cell, seen from the noiseless value. Without noise, where it would be 0 or 1,
        a deviation of 1/20 step softens the ends.
        """
        step = self.step.to(clean)
        soft = (self.read_sigma**2 + self._soft_pixels**2 + (_SOFT * step).square()).sqrt()
        middle = self.rounded(y) - clean
        a, b = (middle - step / 2) / soft, (middle + step / 2) / soft
        if self.limits is not None:
            low, high = self.limits
            a = torch.where(y <= low + step / 2, -_FAR, a)
            b = torch.where(y >= high - step / 2, _FAR, b)
        # on the side where neither end rounds to one
        left, right = torch.where(a + b > 0, -b, a), torch.where(a + b > 0, -a, b)
        below = torch.special.log_ndtr(left) - torch.special.log_ndtr(right)
        log_p = torch.special.log_ndtr(right) + torch.log1p(-below.exp())
        return log_p.flatten(1).sum(1)

    def with_level(self, noise: NoiseModel) -> QuantisationNoise:
        """The same rounding of values with ``noise``, which must be one Gaussian level, or none."""
        if isinstance(noise, NoNoise):
            return self
        if not isinstance(noise, GaussianNoise) or not isinstance(noise.sigma, float):
            raise UsageError(
                "values are rounded after Gaussian noise of one level: give sigma as a number"
            )
        return self._with_sigma(noise.sigma)

    def select(self, idx: Tensor) -> QuantisationNoise:
        step, offset = (
            t[idx] if t.ndim == 4 and len(t) > 1 else t for t in (self.step, self.offset)
        )
        if step is self.step and offset is self.offset:
            return self
        return QuantisationNoise(step, self.read_sigma, self.limits, offset)

    def _with_sigma(self, sigma: float) -> QuantisationNoise:
        return QuantisationNoise(self.step, sigma, self.limits, self.offset)

    def extra_repr(self) -> str:
        return f"step={tuple(self.step.shape) or float(self.step)}, sigma={self.read_sigma}"


_FAR = 1e4  # deviations


class NamedQuantisation(Operator):
    """Pictures of few gray levels."""

    operator = Denoising
    rounds = True

    bits: int = whole(3, "Of a value: 2^bits levels from 0 to 1.", 1, 16)

    def build(self, shape):
        return Denoising(QuantisationNoise(1 / (2**self.bits - 1), limits=(0.0, 1.0)), shape)
