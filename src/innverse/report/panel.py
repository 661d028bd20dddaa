"""Pictures of pictures: captioned panels and plain grids, drawn with Pillow alone."""

from __future__ import annotations

import math
from collections.abc import Sequence

import PIL.Image
import PIL.ImageDraw
from torch import Tensor

from ..data.image_io import to_pil
from ..errors import UsageError
from .heat import Heat, as_picture
from .lettering import enlarge, fit

_PAPER, _INK, _SOFT = "#ffffff", "#1a1a1a", "#6b6b6b"


def panel(
    images: Sequence[tuple[str, str, Tensor | PIL.Image.Image | Heat]],
    columns: int | None = None,
    cell: int = 256,
    gap: int = 16,
) -> PIL.Image.Image:
    """Images side by side, each with a title and a subtitle below it.

    Images narrower than ``cell`` are enlarged by a whole factor, without smoothing, so that single
    pixels stay visible; larger ones are shown pixel by pixel. Captions too long for their column
    are set smaller, and then shortened.

    Args:
        images: (title, subtitle, tensor (C, H, W) in [0, 1], Pillow image or `Heat`, which has its
            scale in place of a subtitle).
        columns: images per row; None puts all in one row.
        cell: width in pixels that small images are enlarged towards.
        gap: white space between the cells.

    Raises:
        UsageError: no images.

    Example:
        >>> panel([("truth", "", torch.rand(1, 8, 8)), ("flow", "31 dB", torch.rand(1, 8, 8))]).mode
        'RGB'
    """
    if not images:
        raise UsageError("a panel needs at least one image")
    pictures = [enlarge(as_picture(image).convert("RGB"), cell) for _, _, image in images]
    columns = min(columns or len(images), len(images))
    rows = math.ceil(len(images) / columns)
    width = max(cell // 2, *(p.width for p in pictures))
    large = max(15, width // 16)
    caption = round(1.45 * large) if any(title for title, _, _ in images) else 0
    caption += (
        round(1.35 * large) if any(text or isinstance(i, Heat) for _, text, i in images) else 0
    )

    heights = [
        max(p.height for p in pictures[r * columns : (r + 1) * columns]) for r in range(rows)
    ]
    sheet = PIL.Image.new(
        "RGB",
        (gap + columns * (width + gap), gap + sum(h + caption + gap for h in heights)),
        _PAPER,
    )
    draw = PIL.ImageDraw.Draw(sheet)
    y = gap
    for r in range(rows):
        for k in range(r * columns, min((r + 1) * columns, len(images))):
            x = gap + (k % columns) * (width + gap)
            picture, (title, subtitle, image) = pictures[k], images[k]
            sheet.paste(
                picture, (x + (width - picture.width) // 2, y + heights[r] - picture.height)
            )
            line = y + heights[r] + round(0.3 * large)
            if title:
                draw.text((x, line), *fit(title, large, width, _INK))
                line += round(1.35 * large)
            if isinstance(image, Heat):
                image.draw_scale(sheet, x, line, width, round(0.85 * large))
            elif subtitle:
                draw.text((x, line), *fit(subtitle, round(0.85 * large), width, _SOFT))
        y += heights[r] + caption + gap
    return sheet


def grid(
    tensor: Tensor,
    columns: int | None = None,
    pad: int = 2,
    scale: int = 1,
    background: float = 1.0,
) -> PIL.Image.Image:
    """All images of a batch in one picture.

    Args:
        tensor: (N, C, H, W) in [0, 1], C = 1 or 3.
        columns: images per row; None makes the picture about square.
        pad: pixels between the images and around them.
        scale: whole factor by which each pixel is enlarged.
        background: gray value of the padding.

    Raises:
        UsageError: not a batch of images, or none in it.

    Example:
        >>> grid(torch.rand(6, 3, 8, 8), columns=3).size
        (32, 22)
    """
    if tensor.ndim != 4 or len(tensor) == 0:
        raise UsageError(f"a grid needs images (N, C, H, W), not {tuple(tensor.shape)}")
    n, c, h, w = tensor.shape
    columns = min(columns or math.ceil(math.sqrt(n * h / w)), n)
    rows = math.ceil(n / columns)
    sheet = tensor.new_full((c, rows * (h + pad) + pad, columns * (w + pad) + pad), background)
    for i, image in enumerate(tensor.detach()):
        top, left = pad + i // columns * (h + pad), pad + i % columns * (w + pad)
        sheet[:, top : top + h, left : left + w] = image
    picture = to_pil(sheet)
    return enlarge(picture, scale * picture.width)
