"""What VAE and GAN share: a map G from k latents to images, k far below their dimension."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ShapeError, UsageError
from ..flows.arguments import as_count, as_data, reference
from ..flows.base import standard_normal
from ..models.pretrained import Pretrained
from ..showing.shown import Shown


class Generator(Shown, Pretrained, nn.Module):
    """x = G(z), z ~ N(0, I_k): samples lie in a k-dimensional subset of R^n.

    Args:
        shape: (C, H, W) of an image; unlike a flow, a generator makes this size only.
        latent: k, the number of latents.

    Images live on [0, 1]. ``name`` and ``config`` are what `innverse.generators.build` needs to
    make the same model again.

    Example:
        >>> isinstance(gan((1, 8, 8), latent=4, width=8), Generator)
        True
    """

    format = "innverse-generator"
    noise_range = None
    condition = 0
    multiple = 1

    def __init__(self, shape: tuple[int, int, int], latent: int):
        super().__init__()
        self.shape = tuple(int(n) for n in shape)
        self.latent = int(latent)
        self.name: str | None = None
        self.config: dict[str, Any] = {}

    def _card(self):
        from ..showing.model import card

        return card(self)

    @property
    def latent_shape(self) -> tuple[int]:
        return (self.latent,)

    def decode(self, z: Tensor) -> Tensor:
        """x = G(z); z (B, k) -> (B, C, H, W), differentiable. Raises ShapeError for others."""
        raise NotImplementedError

    def forward(self, z: Tensor) -> Tensor:
        """`decode`."""
        return self.decode(z)

    def sample(
        self,
        n: int | tuple[int, ...] = 1,
        c: None = None,
        temperature: float = 1.0,
        *,
        truncation: float | None = None,
        size: tuple[int, int] | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """``n`` images (n, *shape), without gradient; ``n`` may be a shape.

        The arguments are those of `Flow.sample`: ``temperature`` scales the latents, those beyond
        ``truncation`` standard deviations are drawn again. There is no condition ``c``, and no
        other ``size``.
        """
        if c is not None or size not in (None, self.shape[1:]):
            raise UsageError(
                f"this {self._kind} takes no condition and makes images of {self.shape[1:]} only"
            )
        lead = as_count(n)
        like = next(self.parameters())
        options = {"truncation": truncation, "generator": generator, "like": like}
        with torch.no_grad():
            x = self.decode(standard_normal((math.prod(lead), self.latent), temperature, **options))
        return x.reshape(*lead, *x.shape[1:])

    def initialize_(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """Nothing here depends on the first batch (`innverse.bijections.initialize`)."""
        return x

    def _latents(self, z: Tensor) -> Tensor:
        z = as_data(z, reference(self), images=False, what="z")
        if z.dim() != 2 or z.shape[1] != self.latent:
            raise ShapeError(f"this {self._kind} takes z (B, {self.latent}), got {tuple(z.shape)}")
        return z

    def _images(self, x: Tensor) -> Tensor:
        x = as_data(x, reference(self), images=True)
        if tuple(x.shape[1:]) != self.shape:
            want = ", ".join(map(str, self.shape))
            raise ShapeError(f"this {self._kind} takes (B, {want}), got {tuple(x.shape)}")
        return x

    @property
    def _kind(self) -> str:
        return self.name or type(self).__name__
