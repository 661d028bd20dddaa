"""RealNVP, for vectors and for images."""

from __future__ import annotations

from ..bijections import Affine
from ..errors import UsageError
from .couplings import couplings
from .flow import Flow
from .realnvp_images import realnvp_images
from .registry import register

_VECTORS = {"layers": 8, "width": 128, "depth": 2, "mix": "permute", "norm": True}
_VECTORS |= {"standardize": True}
_IMAGES = {"levels": 3, "hidden": 64, "blocks": 2, "logit": 0.0, "gaussianize": 0}


@register
def realnvp(
    shape: tuple[int, ...],
    *,
    layers: int | None = None,
    width: int | None = None,
    depth: int | None = None,
    mix: str | None = None,
    norm: bool | None = None,
    standardize: bool | None = None,
    levels: int | None = None,
    hidden: int | None = None,
    blocks: int | None = None,
    logit: float | None = None,
    gaussianize: int | None = None,
    condition: int = 0,
    how: str = "concat",
    activation: str = "silu",
    bound: float = 2.0,
    memory: str = "store",
    anchor_every: int | None = None,
) -> Flow:
    """Affine couplings (Dinh et al. 2016, arXiv 1605.08803).

    For vectors a mixing of the coordinates stands between them; for images they are split by
    checkerboards and by channels, on several scales (see `realnvp_images`).

    Args:
        shape: (D,) with D >= 2, or (C, H, W); being convolutional, the flow of images takes any
            H and W that divide by 2**(levels - 1), and pads others.
        layers, width, depth: vectors: number of couplings (8); hidden width (128) and depth (2)
            of each network.
        mix: vectors: between the couplings ``"permute"`` (fixed, random; the default), ``"lu"``
            (a learned matrix) or ``"swap"`` (the halves take turns).
        norm: vectors: ActNorm before every coupling and at the end (the default).
        standardize: vectors: begin with a `Standardize`, which `initialize` sets to the units of
            the data (the default).
        levels, hidden, blocks: images: number of scales (3); channels (64) and residual blocks
            (2) of each network.
        logit: images: alpha in (0, 0.5) of `Logit` before the couplings, as in the paper (.05);
            0 (the default) leaves it out, and values outside [0, 1] are then allowed.
        gaussianize: images: bins of a learned histogram of the pixels in place of the logit, see
            `Gaussianize`: 256 for 8-bit images that are mostly black; 0 (the default) for none.
        condition: the size k of a condition c, a vector (B, k), for images also a map
            (B, k, h, w).
        how: a vector condition enters the networks by ``"concat"`` or ``"film"``.
        activation: ``"relu"``, ``"silu"`` or ``"gelu"`` in the networks.
        bound: log-scales stay within (-bound, bound).
        memory, anchor_every: what back-propagation keeps, see `Chain`.

    Raises:
        UsageError: a shape that is neither; an option that belongs to the other kind of shape.
    """
    if len(shape) not in (1, 3):
        raise UsageError(f"realnvp is for vectors (D,) or images (C, H, W), got {tuple(shape)}")
    of_vectors = {"layers": layers, "width": width, "depth": depth, "mix": mix, "norm": norm}
    of_vectors |= {"standardize": standardize}
    of_images = {
        "levels": levels,
        "hidden": hidden,
        "blocks": blocks,
        "logit": logit,
        "gaussianize": gaussianize,
    }
    common = {
        "condition": condition,
        "how": how,
        "activation": activation,
        "memory": memory,
        "anchor_every": anchor_every,
    }
    if len(shape) == 1:
        _refuse(of_images, "images (C, H, W)", shape, _VECTORS)
        chosen = _filled(of_vectors, _VECTORS)
        return couplings("realnvp", shape, Affine(bound), **chosen, **common)
    _refuse(of_vectors, "vectors (D,)", shape, _IMAGES)
    chosen = _filled(of_images, _IMAGES)
    if chosen["levels"] < 1:
        raise UsageError(f"levels={levels}: at least 1")
    if not 0 <= chosen["logit"] < 0.5:
        raise UsageError(f"logit={logit}: choose alpha between 0 (none) and 0.5")
    if chosen["logit"] and chosen["gaussianize"]:
        raise UsageError("logit and gaussianize do the same work: choose one")
    return realnvp_images(shape, **chosen, bound=bound, **common)


def _refuse(options: dict, kind: str, shape: tuple[int, ...], instead: dict) -> None:
    for name, value in options.items():
        if value is not None:
            raise UsageError(
                f"realnvp's option {name!r} is for {kind}, and the shape is {tuple(shape)}: "
                f"choose from {', '.join(instead)}"
            )


def _filled(options: dict, defaults: dict) -> dict:
    return {k: default if options[k] is None else options[k] for k, default in defaults.items()}
