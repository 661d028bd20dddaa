"""The problems of the demonstration: which photograph, which damage.

The photographs lie inside scikit-image, so nothing is downloaded. Everything random has a seed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ...data import open_images
from ...physics import Blur, FastCompressedSensing, Inpainting, LinearPhysics, motion_kernel

# On these photographs, none of which is shown, the weight of total variation was chosen for each
# problem (benchmarks/demo_tv.py), and so were the method and the settings of the flow.
TUNING_PHOTOGRAPHS = ("coins", "motorcycle_left", "rocket")


@dataclass(frozen=True)
class Problem:
    """A photograph and what happens to it.

    Attributes:
        photograph: name in scikit-image.
        region: top, left, height, width in the photograph, averaged down to the final side.
        side: height and width of the test image, area-averaged down from ``region``.
        colour: whether it is shown in colour (if a colour prior is at hand).
        physics: (image_shape, generator) -> operator with its noise.
        tv: the weight of total variation.
        method, options: how the flow is used.
    """

    key: str
    name: str
    story: str
    photograph: str
    region: tuple[int, int, int, int]
    side: int
    physics: Callable[[tuple[int, int, int], torch.Generator], LinearPhysics]
    tv: float
    method: str
    options: dict
    colour: bool = False

    def image(self, channels: int, scale: int = 1) -> Tensor:
        """The clean test image (1, C, side, side) in [0, 1]; ``scale`` shrinks it further."""
        source = open_images("skimage", subset=self.photograph, channels=channels)
        return crop(source[0].float() / 255, self.region, self.side // scale)


def crop(picture: Tensor, region: tuple[int, int, int, int], side: int) -> Tensor:
    """A region of (C, H, W), averaged down to (1, C, side, side)."""
    top, left, height, width = region
    part = picture[None, :, top : top + height, left : left + width]
    return F.adaptive_avg_pool2d(part, side)


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
    physics = problem.physics(tuple(truth.shape[1:]), generator)
    return Scene(problem, truth, physics, physics(truth, generator=generator))


def half_missing(shape, generator) -> Inpainting:
    return Inpainting.random(shape, 0.5, generator)


def written_over(shape, generator) -> Inpainting:
    return Inpainting(writing(shape[1], shape[2], generator), image_shape=shape)


def shaken(shape, generator) -> Blur:
    length = 15 * shape[1] / 256
    return Blur(motion_kernel(length, 30), boundary="reflect", noise=0.01, image_shape=shape)


def few_sums(shape, generator) -> FastCompressedSensing:
    n = shape[0] * shape[1] * shape[2]
    return FastCompressedSensing(n // 4, shape, generator=generator)


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


PROBLEMS = (
    Problem(
        key="missing",
        name="half of the pixels missing",
        story="Every second pixel, chosen at random, was never recorded.",
        photograph="camera",
        region=(0, 0, 512, 512),
        side=256,
        physics=half_missing,
        tv=3e-5,
        method="pnp",
        options={},
    ),
    Problem(
        key="written",
        name="text and scratches",
        story="Somebody wrote over the picture and scratched it.",
        photograph="chelsea",
        region=(0, 90, 300, 300),
        side=256,
        physics=written_over,
        tv=3e-5,
        method="pnp",
        options={},
        colour=True,
    ),
    Problem(
        key="shaken",
        name="motion blur and noise",
        story="The camera moved by 15 pixels during the exposure, and the sensor added noise of "
        "1 % of white.",
        photograph="coffee",
        region=(0, 90, 400, 400),
        side=256,
        physics=shaken,
        tv=8e-4,
        method="pnp",
        options={},
    ),
    Problem(
        key="sums",
        name="compressed sensing",
        story="Instead of pixels there are weighted sums of all of them with random signs, a "
        "quarter as many as there are pixels. What is shown as degraded is the least-squares image.",
        photograph="astronaut",
        region=(0, 96, 256, 256),
        side=128,
        physics=few_sums,
        tv=3e-5,
        method="pnp",
        options={},
    ),
)
