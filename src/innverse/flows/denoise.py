"""The denoiser inside a noise-conditional density: Tweedie's formula."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor

from ..device import runs_ahead
from ..errors import UsageError
from .arguments import as_sigma
from .padding import pad_image, round_up

# The squeeze sees the grid of pixels; averaging over places on that grid (and over mirror images
# and transposes, where training did) removes what depends on it. Each row: shift down, right, and
# one of the eight symmetries of the square, of which a flow gets those that it was trained with.
_VIEWS = (
    (0, 0, 0),
    (1, 1, 1),
    (2, 3, 2),
    (3, 2, 4),
    (1, 2, 7),
    (3, 0, 6),
    (0, 1, 3),
    (2, 1, 5),
    (0, 3, 1),
    (3, 3, 3),
    (1, 0, 5),
    (2, 0, 7),
    (0, 2, 4),
    (1, 3, 6),
    (2, 2, 0),
    (3, 1, 2),
)


def denoise(flow, y: Tensor, sigma: Tensor | float, views: int | Sequence[int] = 1) -> Tensor:
    """E[x | y] for y = x + N(0, sigma^2), by y + sigma^2 grad log p(y; sigma) (Efron 2011).

    y (B, C, H, W) of any size on [0, 1], ``sigma`` a float or (B,) within ``flow.noise_range``.
    ``views`` (1 to 16) averages that many views, of which 4 give most of the gain; or it names the
    views to take. They are shifted, and turned by ``flow.symmetries``. The result has no graph.
    """
    if flow.noise is None:
        raise UsageError("denoise needs a noise-conditional flow (built with noise=(low, high))")
    chosen = views if isinstance(views, Sequence) else range(min(views, len(_VIEWS)))
    if not chosen or not all(0 <= k < len(_VIEWS) for k in chosen):
        raise UsageError(f"views={views!r}: 1 to {len(_VIEWS)} of them, or a list of their numbers")
    y = flow.as_data(y, "y")
    sigma = flow.noise.checked(as_sigma(sigma, len(y), y))
    if not runs_ahead(y.device) and bool((sigma == sigma[:1]).all()):
        sigma = sigma[:1]  # one level is folded into the networks' weights
    known = _bits(flow.symmetries)
    estimates = [
        _denoise_view(flow, y, sigma, down * flow.shift, right * flow.shift, symmetry & known)
        for down, right, symmetry in (_VIEWS[k] for k in chosen)
    ]
    return sum(estimates[1:], estimates[0]) / len(estimates)


def _denoise_view(flow, y: Tensor, sigma: Tensor, down: int, right: int, symmetry: int) -> Tensor:
    h, w = y.shape[-2:]
    bottom = round_up(h + down, flow.multiple) - h - down
    side = round_up(w + right, flow.multiple) - w - right
    view = _symmetry(pad_image(y, down, bottom, right, side), symmetry)
    score = flow.score(view.contiguous(), sigma)
    clean = _undo_symmetry(view + sigma.view(-1, 1, 1, 1).square() * score, symmetry)
    return clean[..., down : down + h, right : right + w]


def _bits(symmetries: Iterable[str]) -> int:
    """The bits of `_symmetry` that mirror images and transposes generate."""
    mirror, transpose = "mirror" in symmetries, "transpose" in symmetries
    return 1 * mirror + 2 * (mirror and transpose) + 4 * transpose


def _symmetry(x: Tensor, k: int) -> Tensor:
    """One of the eight symmetries of the square: bits are transpose, flip rows, flip columns."""
    x = x.transpose(-1, -2) if k & 4 else x
    x = x.flip(-2) if k & 2 else x
    return x.flip(-1) if k & 1 else x


def _undo_symmetry(x: Tensor, k: int) -> Tensor:
    x = x.flip(-1) if k & 1 else x
    x = x.flip(-2) if k & 2 else x
    return x.transpose(-1, -2) if k & 4 else x
