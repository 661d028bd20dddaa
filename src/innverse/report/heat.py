"""Numbers of pixels as colours that everybody can tell apart, with their scale beside them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import PIL.Image
import PIL.ImageDraw
import torch
from torch import Tensor

from ..data.image_io import to_pil
from .lettering import enlarge, fit, font

# viridis (van der Walt & Smith 2015): from dark to bright for every kind of colour vision, and in gray
_COLOURS = (
    (68, 1, 84), (71, 44, 122), (59, 81, 139), (44, 113, 142), (33, 144, 141), (39, 173, 129),
    (92, 200, 99), (170, 220, 50), (253, 231, 37),
)  # fmt: skip


@dataclass
class Heat:
    """A map of numbers >= 0, dark where they are small.

    Attributes:
        values: (H, W), or (C, H, W), of which the root mean square over the channels is shown.
        high: what is brightest; by default the largest value. The darkest is 0.

    Example:
        >>> heat = Heat(torch.tensor([[0.0, 0.5], [0.25, 1.0]]), high=0.5)
        >>> heat.image().getpixel((1, 0)) == heat.image().getpixel((1, 1))
        True
    """

    values: Tensor
    high: float | None = None

    def __post_init__(self):
        values = self.values.detach().double().cpu()
        if values.dim() == 3:
            values = values.square().mean(0).sqrt()
        self.values = values
        if self.high is None:
            finite = values[values.isfinite()]
            self.high = float(finite.max()) if finite.numel() else 0.0

    @property
    def top(self) -> float:
        """``high`` as it is."""
        return self.high or 0.0

    @property
    def ends(self) -> tuple[str, str]:
        """The words at both ends of the scale."""
        return "0", f"{self.top:.2g}" if self.top < 100 else f"{self.top:.0f}"

    def image(self) -> PIL.Image.Image:
        """The map alone, pixel for pixel."""
        scaled = self.values.nan_to_num(0.0, 1e30, 0.0) / (self.top or 1.0)
        return PIL.Image.fromarray(_coloured(scaled))

    def picture(self, title: str, cell: int = 256) -> PIL.Image.Image:
        """The map, enlarged by a whole factor to about ``cell`` pixels, with title and scale below."""
        image = enlarge(self.image(), cell)
        width = max(image.width, cell // 2)
        size = max(15, width // 16)
        gap = size // 2
        sheet = PIL.Image.new(
            "RGB", (width + 2 * gap, image.height + 2 * gap + 3 * size), "#ffffff"
        )
        sheet.paste(image, (gap + (width - image.width) // 2, gap))
        draw = PIL.ImageDraw.Draw(sheet)
        y = image.height + gap + size // 4
        draw.text((gap, y), *fit(title, size, width, "#1a1a1a"))
        self.draw_scale(sheet, gap, y + round(1.4 * size), width, round(0.85 * size))
        return sheet

    def draw_scale(self, sheet: PIL.Image.Image, x: int, y: int, width: int, size: int) -> None:
        """The colours from 0 to ``high`` between their numbers, in letters of ``size``."""
        draw = PIL.ImageDraw.Draw(sheet)
        low, high = self.ends
        letters = font(size)
        before, after = (round(letters.getlength(t)) + size // 2 for t in (low, high))
        strip = _coloured(torch.linspace(0, 1, max(2, width - before - after))[None])
        bar = PIL.Image.fromarray(strip).resize((strip.shape[1], size))
        draw.text((x, y), low, "#6b6b6b", letters)
        sheet.paste(bar, (x + before, y + size // 6))
        draw.text((x + width - after + size // 2, y), high, "#6b6b6b", letters)


def gradient() -> str:
    """The colours as CSS has them."""
    return f"linear-gradient(to right, {', '.join(f'rgb{c}' for c in _COLOURS)})"


def _coloured(values: Tensor) -> np.ndarray:
    """Of numbers on [0, 1] (H, W), bytes (H, W, 3)."""
    table = torch.tensor(_COLOURS, dtype=torch.float64)
    place = values.double().clamp(0, 1) * (len(table) - 1)
    below = place.floor().long().clamp_max(len(table) - 2)
    colour = torch.lerp(table[below], table[below + 1], (place - below)[..., None])
    return colour.round().to(torch.uint8).numpy()


def as_picture(image: Tensor | PIL.Image.Image | Heat) -> PIL.Image.Image:
    """A tensor in [0, 1], a Pillow image or a map, as a Pillow image."""
    return image.image() if isinstance(image, Heat) else to_pil(image)
