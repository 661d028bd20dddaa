"""The problems of the demonstration: which photograph, which damage.

The photographs lie inside scikit-image, so nothing is downloaded. Everything random has a seed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...physics import Blur, FastCompressedSensing, Inpainting, LinearPhysics, motion_kernel
from ..pictures import crop, photograph
from ..table import read_table

__all__ = ["PROBLEMS", "TUNING_PHOTOGRAPHS", "Problem", "Scene", "make_scene", "writing"]

TABLE = read_table(__file__, "demo.toml")
TUNING_PHOTOGRAPHS = tuple(TABLE["tuning_photographs"])


@dataclass(frozen=True)
class Problem:
    """A photograph and what happens to it.

    Attributes:
        key: of its damage, below.
        photograph: name in scikit-image.
        region: top, left, height, width in the photograph, averaged down to the final side.
        side: height and width of the test image, area-averaged down from ``region``.
        tv: the weight of total variation.
        colour: whether it is shown in colour (if a colour prior is at hand).
    """

    key: str
    name: str
    story: str
    photograph: str
    region: tuple[int, int, int, int]
    side: int
    tv: float
    colour: bool = False

    def image(self, channels: int, scale: int = 1) -> Tensor:
        """The clean test image (1, C, side, side) in [0, 1]; ``scale`` shrinks it further."""
        return crop(photograph(self.photograph, channels), self.region, self.side // scale)[None]


PROBLEMS = tuple(Problem(**entry) for entry in TABLE["problem"])


@dataclass
class Scene:
    """A problem made concrete: truth, measurement, operator. Images (1, C, H, W)."""

    problem: Problem
    truth: Tensor
    physics: LinearPhysics
    y: Tensor

    @property
    def degraded(self) -> Tensor:
        """The measurement as a picture: itself, or the least-squares image."""
        return self.y if self.y.shape == self.truth.shape else self.physics.A_dagger(self.y)


def make_scene(problem: Problem, channels: int = 1, seed: int = 0, scale: int = 1) -> Scene:
    """Damage the photograph of a problem; ``scale`` = 2 halves its sides."""
    generator = torch.Generator().manual_seed(seed)
    truth = problem.image(channels, scale)
    physics = damage(problem.key, truth.shape, generator)
    return Scene(problem, truth, physics, physics(truth, generator=generator))


def damage(key: str, shape: torch.Size, generator: torch.Generator) -> LinearPhysics:
    """The operator, with its noise, of a problem on images of ``shape`` (1, C, H, W)."""
    _, c, h, w = shape
    if key == "missing":
        return Inpainting.random((c, h, w), 0.5, generator)
    if key == "written":
        return Inpainting(writing(h, w, generator), image_shape=(c, h, w))
    if key == "shaken":
        kernel = motion_kernel(15 * h / 256, 30)
        return Blur(kernel, boundary="reflect", noise=0.01, image_shape=(c, h, w))
    return FastCompressedSensing(c * h * w // 4, (c, h, w), generator=generator)


def writing(height: int, width: int, generator: torch.Generator) -> Tensor:
    """A mask (H, W): lines of text and scratches are zero, the rest is one."""
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    canvas = Image.new("L", (width, height), 255)
    draw = ImageDraw.Draw(canvas)
    unit = height / 256
    font = ImageFont.load_default(max(6, round(15 * unit)))
    words = "an invertible network maps every photograph to noise and back again, exactly; "
    line_height, offset = 30 * unit, 0
    for row in range(int(height / line_height) + 1):
        text = (words * 4)[offset : offset + 60]
        draw.text((4 * unit, (row + 0.3) * line_height), text, fill=0, font=font)
        offset = (offset + 23) % len(words)
    ends = torch.rand(10, 2, 2, generator=generator).mul(max(height, width)).tolist()
    for (x0, y0), (x1, y1) in ends:
        draw.line((x0, y0, x1, y1), fill=0, width=max(1, round(2 * unit)))
    return torch.from_numpy((np.asarray(canvas) > 127).astype(np.float32))
