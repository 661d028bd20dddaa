"""Several measurements of one image as one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ShapeError, UsageError
from .base import LinearPhysics
from .foreign_noise import as_noise
from .noise import GaussianNoise, NoiseModel
from .real_numbers import parts as real_parts
from .real_numbers import whole


class Stacked(LinearPhysics):
    """A x = (A_1 x, A_2 x, ...), every part flattened and put after the other, (B, m).

    Complex parts are kept as real and imaginary parts. Calling it measures, each part with its own
    noise; `flatten` makes such a vector of the measurements of the parts.

    Args:
        parts: the operators.
        image_shape: (C, H, W); by default that of the first part that knows one.

    Example:
        >>> both = Stacked([Denoising(), Downsampling(2)])
        >>> x = torch.rand(1, 1, 8, 8)
        >>> both.A(x).shape  # one vector of 64 + 16 numbers
        torch.Size([1, 80])
    """

    parts: Any  # a list of operators, to PyTorch a ModuleList

    def __init__(self, parts: Sequence[LinearPhysics], image_shape=None):
        if not parts:
            raise UsageError("a stack of operators needs at least one")
        shapes = [p.image_shape for p in parts if p.image_shape is not None]
        if len(set(shapes)) > 1:
            raise ShapeError(f"the stacked operators measure images of {shapes[0]} and {shapes[1]}")
        image_shape = shapes[0] if image_shape is None and shapes else image_shape
        super().__init__(image_shape)
        self.parts = nn.ModuleList(parts)
        self.linear = all(p.linear for p in parts)
        self._shapes: list[tuple[tuple[int, ...], bool]] | None = None
        self.noise = StackedNoise(self)

    @property
    def items(self) -> int:
        return max(p.items for p in self.parts)

    def A(self, x: Tensor) -> Tensor:
        return self._joined([p.A(x) for p in self.parts])

    def A_adjoint(self, y: Tensor) -> Tensor:
        if not self.linear:
            return self.at_grey(y).A_adjoint(y)
        parts = self.split(y)
        return sum(p.A_adjoint(m) for p, m in zip(self.parts, parts, strict=True))

    def at(self, x: Tensor) -> LinearPhysics:
        if self.linear:
            return self
        return self._with([p.at(x) for p in self.parts])

    def flatten(self, measured: Sequence[Tensor]) -> Tensor:
        """The measurements of the parts as one (B, m)."""
        if len(measured) != len(self.parts):
            raise ShapeError(f"{len(measured)} measurements for {len(self.parts)} operators")
        if len({len(m) for m in measured}) > 1:
            raise ShapeError("the measurements of the operators have different numbers of items")
        return self._joined(measured)

    def _joined(self, measured: Sequence[Tensor]) -> Tensor:
        self._shapes = [(tuple(m.shape[1:]), m.is_complex()) for m in measured]
        return torch.cat([_flat(m) for m in measured], 1)

    def split(self, y: Tensor) -> list[Tensor]:
        """The measurements of the parts from (B, m)."""
        if self._shapes is None and self.image_shape is not None:
            with torch.no_grad():
                self.A(y.new_zeros((max(1, self.items), *self.image_shape)))
        if self._shapes is None:
            raise UsageError("the stack does not know the shapes of its parts: give image_shape")
        sizes = [math.prod(shape) * (2 if pair else 1) for shape, pair in self._shapes]
        self.check_data(y, (sum(sizes),))
        return [
            whole(m.reshape(-1, *shape, 2)) if pair else m.reshape(-1, *shape)
            for m, (shape, pair) in zip(y.split(sizes, 1), self._shapes, strict=True)
        ]

    def forward(self, x, generator=None):
        return self._joined([p(x, generator) for p in self.parts])

    def keep_measured(self, y):
        parts = zip(self.parts, self.split(y), strict=True)
        return torch.cat([_flat(p.keep_measured(m)) for p, m in parts], 1)

    def select(self, idx):
        chosen = self._with([p.select(idx) for p in self.parts])
        if not isinstance(self.noise, StackedNoise):
            chosen.noise = self.noise.select(idx)
        return chosen

    def _with(self, parts: list[LinearPhysics]) -> Stacked:
        """The same stack of other operators, with their noise if it has that of its parts."""
        other = self._copy(parts=nn.ModuleList(parts), linear=all(p.linear for p in parts))
        if isinstance(self.noise, StackedNoise):
            other.noise = StackedNoise(other)
        return other


class StackedNoise(NoiseModel):
    """The noise of every part of a `Stacked` operator."""

    def __init__(self, stack: Stacked):
        super().__init__()
        self._stack = (stack,)  # no submodule: the stack holds the noise

    @property
    def models(self) -> list[NoiseModel]:
        return [as_noise(p.noise) for p in self._stack[0].parts]

    def split(self, y: Tensor) -> list[Tensor]:
        """The measurements of the parts."""
        return self._stack[0].split(y)

    def select(self, idx: Tensor) -> NoiseModel:
        return self._stack[0].select(idx).noise

    def of(self, y: Tensor) -> NoiseModel:
        """The same noise, its maps with the axes of the measurements of the parts."""
        found = zip(self.models, self.split(y), strict=True)
        return self.by([m.of(part) if isinstance(m, GaussianNoise) else m for m, part in found])

    def by(self, models: Sequence[NoiseModel]) -> NoiseModel:
        """That of the same parts with other noise."""
        stack = self._stack[0]
        parts = zip(stack.parts, models, strict=True)
        return stack._with([p._copy(noise=m) for p, m in parts]).noise

    @property
    def depends_on_signal(self) -> bool:
        return any(m.depends_on_signal for m in self.models)

    @property
    def sigma(self):  # ty: ignore[incompatible-property-override]  # the parts may change theirs
        levels = [m.sigma for m in self.models]
        if all(level is None for level in levels):
            return None
        first = levels[0]
        if isinstance(first, float) and not self.depends_on_signal:
            if all(isinstance(level, float) and level == first for level in levels):
                return first
        known = [torch.as_tensor(0.0 if level is None else level).mean() for level in levels]
        return float(torch.stack([k.double() for k in known]).square().mean().sqrt())

    def std(self, clean: Tensor) -> Tensor:
        parts = zip(self.models, self.split(clean), strict=True)
        levels = [(model.std(m).to(m.real.dtype).expand(m.shape), m) for model, m in parts]
        flat = [_flat(torch.complex(s, s) if m.is_complex() else s) for s, m in levels]
        return torch.cat(flat, 1)

    def forward(self, y: Tensor, generator=None) -> Tensor:
        parts = zip(self.models, self.split(y), strict=True)
        return torch.cat([_flat(model(m, generator)) for model, m in parts], 1)


def _flat(m: Tensor) -> Tensor:
    return (real_parts(m) if m.is_complex() else m).flatten(1)
