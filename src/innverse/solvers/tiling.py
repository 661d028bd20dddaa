"""Large images through the denoiser in overlapping tiles, so that memory stays bounded."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from ..errors import UsageError
from ..flows.denoise import denoise

_AUTO = 512  # about 1.5 GB of activations for the shipped priors
_MARGIN = 24  # beyond it the denoiser's answer hardly depends on a pixel


def denoise_tiled(
    prior,
    y: Tensor,
    sigma: Tensor,
    views: Iterable[int] = (0,),
    tile: int | str | None = "auto",
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Tensor:
    """`flows.denoise.denoise` of (B, C, H, W), tile by tile where a side exceeds ``tile``.

    ``tile`` is a side in pixels, "auto" or None (never tile). ``report(done, total)`` is called
    after every piece.
    """
    views = list(views)
    side = _side(tile)
    h, w = y.shape[-2:]
    if side is None or (h <= side and w <= side):
        pieces, clean = list(_parts(y, sigma)), []
        for part, s in pieces:
            clean.append(denoise(prior, part, s, views))
            report(len(clean), len(pieces))
        return torch.cat(clean)
    out = torch.empty_like(y)
    tiles = list(itertools.product(_spans(h, side), _spans(w, side)))
    for k, ((top, bottom), (left, right)) in enumerate(tiles):
        y0, x0 = max(0, top - _MARGIN), max(0, left - _MARGIN)
        # reach to a whole multiple, so that all tiles see the squeeze on the same grid
        y0, x0 = y0 - y0 % prior.multiple, x0 - x0 % prior.multiple
        y1, x1 = min(h, bottom + _MARGIN), min(w, right + _MARGIN)

        def within(done: int, total: int, k: int = k) -> None:
            report(k * total + done, len(tiles) * total)

        clean = denoise_tiled(prior, y[..., y0:y1, x0:x1], sigma, views, None, within)
        out[..., top:bottom, left:right] = clean[
            ..., top - y0 : bottom - y0, left - x0 : right - x0
        ]
    return out


@torch.no_grad()
def code_untiled(
    prior, x: Tensor, sigma: Tensor, tile: int | str | None = "auto"
) -> tuple[Tensor | None, Tensor | None]:
    """The latents of images (B, C, H, W) and their log p in nats (B,), at ``sigma`` (B,).

    (None, None) where `denoise_tiled` would tile: a latent of pieces is no latent of the image.
    """
    side, (h, w) = _side(tile), x.shape[-2:]
    if side is not None and (h > side or w > side):
        return None, None
    z = torch.cat([prior.encode(part, s) for part, s in _parts(x, sigma)])
    return z, torch.cat([prior.log_prob(part, s) for part, s in _parts(x, sigma)])


def _parts(x: Tensor, sigma: Tensor) -> Iterable[tuple[Tensor, Tensor]]:
    """As many images at a time as memory allows, with their levels."""
    per_call = max(1, _AUTO**2 // (x.shape[-2] * x.shape[-1]))
    return zip(x.split(per_call), sigma.split(per_call), strict=True)


def _side(tile: int | str | None) -> int | None:
    if tile == "auto":
        return _AUTO
    if tile is None or tile == "none":
        return None
    if not isinstance(tile, int):
        raise UsageError(f"tile={tile!r}: give 'auto', 'none', or a side in pixels")
    if tile < 4 * _MARGIN:
        raise UsageError(f"tile={tile}: tiles need at least {4 * _MARGIN} pixels")
    return tile


def _spans(n: int, side: int) -> list[tuple[int, int]]:
    """Cut 0..n into equal spans of at most ``side``."""
    count = -(-n // side)
    edges = [round(i * n / count) for i in range(count + 1)]
    return list(zip(edges[:-1], edges[1:], strict=True))
