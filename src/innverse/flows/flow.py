"""Flow: a bijection and a standard normal make a density, a sampler and an exact code."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..bijections.base import Bijection
from ..constant import remember
from ..errors import InputError, ShapeError
from .base import standard_normal, standard_normal_log_prob
from .noise import NoiseLevel
from .padding import pad_to_multiple


class Flow(nn.Module):
    """p(x) = N(f(x); 0, I) |det df/dx|, exactly (Dinh et al. 2014; Kingma & Dhariwal 2018).

    Args:
        bijection: f, from data x to latent z of the same shape.
        shape: of one item, (D,) or (C, H, W). A convolutional flow takes other H and W too.
        noise: (low, high) if the flow is conditioned on a noise level; the condition ``c`` is
            then sigma, a float or a tensor (B,) or (B, 1), embedded in ``noise_width`` features.
        condition: the number of channels of any other condition (0: none).
        multiple: H and W must divide by this; other sizes are padded by reflection.
        name, config: what `innverse.flows.build` needs to make the same flow again.

    Attributes:
        symmetries: under which training turned the images at random, so that the density hardly
            tells them apart: any of "mirror" (left-right) and "transpose". `denoise` averages
            over them.

    Images live on [0, 1]. All methods are differentiable unless they say otherwise.
    """

    def __init__(
        self,
        bijection: Bijection,
        shape: tuple[int, ...],
        *,
        noise: tuple[float, float] | None = None,
        noise_width: int = 32,
        condition: int = 0,
        multiple: int = 1,
        name: str | None = None,
        config: dict[str, Any] | None = None,
    ):
        super().__init__()
        self.bijection = bijection
        self.shape = tuple(int(n) for n in shape)
        self.noise = NoiseLevel(*noise, noise_width) if noise is not None else None
        self.condition = condition
        self.multiple = multiple
        self.name, self.config = name, dict(config or {})
        self.symmetries: tuple[str, ...] = ()

    # ---- what it is -------------------------------------------------------------------------

    @property
    def latent_shape(self) -> tuple[int, ...]:
        return self.shape

    @property
    def noise_range(self) -> tuple[float, float] | None:
        """The (low, high) noise levels it is conditioned on, or None."""
        return None if self.noise is None else (self.noise.low, self.noise.high)

    @property
    def n_parameters(self) -> int:
        return sum(p.numel() for p in self.parameters())

    # ---- density and code -------------------------------------------------------------------

    def log_prob(self, x: Tensor, c: Tensor | float | None = None) -> Tensor:
        """log p(x | c) in nats of each item; x (B, *shape) -> (B,).

        An image whose sides do not divide by ``multiple`` is padded by reflection first: the
        value is that of the padded image. Raises ShapeError for other shapes.
        """
        z, logdet = self.bijection(self._prepare(x), self._condition(c, x))
        return standard_normal_log_prob(z) + logdet

    def bits_per_dim(
        self, x: Tensor, c: Tensor | float | None = None, *, levels: int = 256
    ) -> Tensor:
        """-log2 p(x) per dimension, for data on [0, 1] dequantised from ``levels`` levels.

        uint8 images are dequantised here, x = (v + u) / levels with u uniform (Theis et al.
        2016), by torch's global generator.
        """
        if x.dtype == torch.uint8:
            x = (x.float() + torch.rand(x.shape, device=x.device)) / levels
        x = self._prepare(x)
        return math.log2(levels) - self.log_prob(x, c) / (x[0].numel() * math.log(2))

    def encode(self, x: Tensor, c: Tensor | float | None = None) -> Tensor:
        """The exact latent z = f(x), of the shape of x (padded to ``multiple`` if need be)."""
        return self.bijection(self._prepare(x), self._condition(c, x))[0]

    def decode(self, z: Tensor, c: Tensor | float | None = None) -> Tensor:
        """x = f^-1(z)."""
        return self.bijection.inverse(self._checked(z), self._condition(c, z))[0]

    def sample(
        self,
        n: int = 1,
        c: Tensor | float | None = None,
        temperature: float = 1.0,
        *,
        truncation: float | None = None,
        size: tuple[int, int] | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """``n`` draws (n, *shape), without gradient; ``size`` = (H, W) overrides the image size.

        ``temperature`` scales the latent's standard deviation; coordinates of the latent beyond
        ``truncation`` standard deviations are drawn again. c is one condition for all draws, or n
        of them.
        """
        shape = self.shape if size is None else (self.shape[0], *size)
        like = next(self.parameters())
        with torch.no_grad():
            z = standard_normal(
                (n, *shape), temperature, truncation=truncation, generator=generator, like=like
            )
            if isinstance(c, Tensor) and c.dim() and len(c) == 1 < n:
                c = c.expand(n, *c.shape[1:])
            return self.decode(z, c)

    def interpolate(
        self, a: Tensor, b: Tensor, steps: int = 8, c: Tensor | float | None = None
    ) -> Tensor:
        """Images between a and b (each ``shape``), on the arc between their exact latents.

        Spherical interpolation keeps ||z|| at a typical value; returns (steps, *shape).
        """
        with torch.no_grad():
            z = self.encode(torch.stack((a, b)), c)
            u, v = (t.flatten() for t in z)
            cosine = torch.dot(u, v) / (u.norm() * v.norm()).clamp_min(1e-12)
            angle = cosine.clamp(-1, 1).acos().clamp_min(1e-4)
            t = torch.linspace(0, 1, steps, dtype=u.dtype, device=u.device)[:, None]
            arc = (((1 - t) * angle).sin() * u + (t * angle).sin() * v) / angle.sin()
            x = self.decode(arc.view(steps, *z.shape[1:]), c)
        return x[..., : a.shape[-2], : a.shape[-1]] if a.dim() == 3 else x

    # ---- views ------------------------------------------------------------------------------

    def at(self, c: Tensor | float) -> ConditionedFlow:
        """The flow with its condition fixed: the same methods without ``c``."""
        return ConditionedFlow(self, c)

    def dist(self, c: Tensor | None = None):
        """A `torch.distributions.Distribution` over x; its batch shape is that of ``c``."""
        from .distribution import FlowDistribution

        return FlowDistribution(self, c)

    def score(self, x: Tensor, c: Tensor | float | None = None) -> Tensor:
        """grad_x log p(x | c), without a graph of its own."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            return torch.autograd.grad(self.log_prob(x, c).sum(), x)[0]

    def denoise(self, y: Tensor, sigma: Tensor | float, shifts: int = 1) -> Tensor:
        """The minimum-mean-square estimate of x given y = x + N(0, sigma^2): see `denoise`."""
        from .denoise import denoise

        return denoise(self, y, sigma, shifts)

    # ---- training ---------------------------------------------------------------------------

    def fit(self, x, c=None, **options):
        """Train by maximum likelihood on rows x; returns the `History`: see `innverse.fit`."""
        from ..fitting import fit

        return fit(self, x, c, **options)

    # ---- files ------------------------------------------------------------------------------

    def save_pretrained(self, folder: str | Path, card: str | None = None) -> None:
        """Write config.json, model.safetensors and README.md (the hub's layout)."""
        from ..pretrained import save

        save(self, Path(folder), card)

    @classmethod
    def from_pretrained(cls, path_or_id: str | Path, **options) -> Flow:
        """Read what `save_pretrained` wrote: a folder, or a hub id with the ``hub`` extra."""
        from ..pretrained import load

        return load(path_or_id, **options)

    # ---- inside -----------------------------------------------------------------------------

    def initialize_(self, x: Tensor, c: Tensor | float | None = None) -> Tensor:
        return self.bijection.initialize_(self._prepare(x), self._condition(c, x))

    def _prepare(self, x: Tensor) -> Tensor:
        x = self._checked(x)
        return pad_to_multiple(x, self.multiple) if len(self.shape) == 3 else x

    def _checked(self, x: Tensor) -> Tensor:
        fits = x.dim() == len(self.shape) + 1 and x.shape[1] == self.shape[0]
        if not fits:
            want = ", ".join(map(str, self.shape if len(self.shape) == 1 else self.shape[:1]))
            tail = "" if len(self.shape) == 1 else ", H, W"
            raise ShapeError(f"this flow takes (B, {want}{tail}), got {tuple(x.shape)}")
        return x

    def _embedding(self, sigma: Tensor | float, x: Tensor) -> Tensor:
        c = self.noise(torch.as_tensor(sigma, dtype=x.dtype, device=x.device).reshape(-1))
        return c.expand(len(x), -1) if len(c) == 1 else c

    def _condition(self, c: Tensor | float | None, x: Tensor) -> Tensor | None:
        if self.noise is not None:
            if c is None:
                raise InputError(
                    "this flow is conditioned on the noise level: pass c=sigma, "
                    f"between {self.noise.low:g} and {self.noise.high:g}"
                )
            if isinstance(c, (int, float)):  # all items share it: the same object every time
                given = (c, len(x), x.dtype, x.device)
                return remember(self.noise, given, lambda: self._embedding(c, x))
            return self._embedding(c, x)
        if (c is None) != (self.condition == 0):
            raise InputError(
                f"this flow {'needs' if c is None else 'takes no'} condition"
                + (f" of {self.condition} channels: pass c" if c is None else ": leave c out")
            )
        return c


class ConditionedFlow:
    """A flow whose condition is fixed; made by `Flow.at`."""

    def __init__(self, flow: Flow, c: Tensor | float):
        self.flow, self.c = flow, c

    def __getattr__(self, name: str):
        return getattr(self.flow, name)

    def log_prob(self, x: Tensor) -> Tensor:
        return self.flow.log_prob(x, self.c)

    def encode(self, x: Tensor) -> Tensor:
        return self.flow.encode(x, self.c)

    def decode(self, z: Tensor) -> Tensor:
        return self.flow.decode(z, self.c)

    def bits_per_dim(self, x: Tensor, **options) -> Tensor:
        return self.flow.bits_per_dim(x, self.c, **options)

    def score(self, x: Tensor) -> Tensor:
        return self.flow.score(x, self.c)

    def sample(self, n: int = 1, **options) -> Tensor:
        return self.flow.sample(n, self.c, **options)

    def interpolate(self, a: Tensor, b: Tensor, steps: int = 8) -> Tensor:
        return self.flow.interpolate(a, b, steps, self.c)
