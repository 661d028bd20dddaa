"""A = multiplication with a mask."""

from __future__ import annotations

import torch
from torch import Tensor

from ..catalog import Operator
from ..data.masks import read_mask
from ..errors import ShapeError, UsageError
from ..options import SEEDS, anything, real, whole
from .base import per_item
from .mask import Masked, as_weights


class Inpainting(Masked):
    """y = mask * x (+ noise on the known pixels); unknown pixels are zero in y.

    Args:
        mask: known = 1, True or 255, missing = 0; (H, W), (1 or C, H, W) or one per item
            (B, 1 or C, H, W). Floating-point numbers between 0 and 1 are weights.
        noise: sigma or a noise model.
        image_shape: (C, H, W); needed only by callers that ask the operator for it.

    Example:
        >>> mask = (torch.rand(8, 8) > 0.5).float()  # 1: measured
        >>> physics = Inpainting(mask)
        >>> x = torch.rand(1, 1, 8, 8)
        >>> torch.equal(physics.A(x), mask * x)
        True
    """

    direct = measures_images = acts_per_channel = is_diagonal = True

    def __init__(self, mask: Tensor, noise=None, image_shape=None):
        super().__init__(image_shape, noise)
        mask = as_weights(mask)
        if mask.ndim not in (2, 3, 4):
            raise ShapeError(
                f"a mask has shape (H, W), (C, H, W) or (B, C, H, W), got {tuple(mask.shape)}"
            )
        mask = mask.reshape(*[1] * (4 - mask.ndim), *mask.shape)
        if self.image_shape is None and mask.shape[1] > 1:
            self.image_shape = tuple(mask.shape[1:])
        if self.image_shape is not None and (
            self.image_shape[-2:] != tuple(mask.shape[-2:])
            or mask.shape[1] not in (1, self.image_shape[0])
        ):
            raise ShapeError(
                f"the mask {tuple(mask.shape[1:])} does not fit images of {self.image_shape}"
            )
        self.register_buffer("mask", mask)

    @classmethod
    def random(cls, shape, keep: float = 0.5, generator=None, noise=None) -> Inpainting:
        """Keep a fraction of the pixels, chosen at random, the same in all channels.

        Args:
            shape: (C, H, W) of the image.
            keep: fraction of known pixels in (0, 1].
            generator: source of randomness.
        """
        if not 0 < keep <= 1:
            raise UsageError(f"keep must be in (0, 1], got {keep}")
        _, height, width = shape
        n = height * width
        mask = torch.zeros(n)
        mask[torch.randperm(n, generator=generator)[: max(1, round(keep * n))]] = 1
        return cls(mask.reshape(1, 1, height, width), noise, shape)

    def A(self, x: Tensor) -> Tensor:
        self.check_image(x, self.mask.shape[-2:])
        return self._mask(x) * x

    def A_adjoint(self, y: Tensor) -> Tensor:
        return self.A(y)

    def diagonal(self, x):
        return self.mask.to(x.dtype)

    def norms_squared(self, x_shape, iters=30):
        return self.mask.square().flatten(1).amax(1)

    def A_dagger(self, y):
        self.check_image(y, self.mask.shape[-2:])
        known = self.mask != 0
        return torch.where(known, y / torch.where(known, self.mask, 1).to(y.dtype), 0)

    def solve_normal(self, rhs, rho, x0=None, **options):
        return rhs / (self.mask.to(rhs.dtype) ** 2 + per_item(rho, rhs))


def bayer_mask(size: tuple[int, int], pattern: str = "RGGB") -> Tensor:
    """The pixels (3, H, W) that a camera has behind a mosaic of red, green and blue filters.

    Args:
        size: (H, W).
        pattern: the filters of the upper left 2x2 pixels, row by row.

    Example:
        >>> bayer_mask((4, 4)).mean((1, 2)).tolist()  # green twice
        [0.25, 0.5, 0.25]
    """
    if len(pattern) != 4 or not set(pattern) <= set("RGB"):
        raise UsageError(
            f"the pattern of a mosaic is four of R, G, B, such as RGGB, got {pattern!r}"
        )
    mask = torch.zeros(3, *size)
    for k, colour in enumerate(pattern):
        mask["RGB".index(colour), k // 2 :: 2, k % 2 :: 2] = 1
    return mask


class NamedInpainting(Operator):
    """Pictures with missing pixels."""

    operator = Inpainting

    mask: str | Tensor | None = anything(
        None,
        "Picture of the photograph's size, black = missing; or bayer, a mosaic of colours.",
        excludes=("keep", "seed"),
        required="a picture, black = missing; or simulate, and keep a part of a clean picture",
    )
    keep: float = real(
        0.5, "Fraction of the pixels kept at random, without a mask.", above=0, high=1
    )
    seed: int = whole(0, "Of the pixels kept.", *SEEDS)

    def build(self, shape):
        if self.mask is None:
            return Inpainting.random(shape, self.keep, torch.Generator().manual_seed(self.seed))
        if isinstance(self.mask, str) and self.mask == "bayer":
            if shape[0] != 3:
                raise ShapeError(f"mask bayer is for images of 3 channels, not {shape}")
            return Inpainting(bayer_mask(shape[-2:]), image_shape=shape)
        return Inpainting(read_mask(self.mask, shape[-2:]), image_shape=shape)
