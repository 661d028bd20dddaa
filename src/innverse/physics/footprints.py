"""Which detector bins a pixel casts its shadow on, and how much: the matrix of a tomograph.

The shadow of a square pixel on the detector is nearly a trapezoid, between the projections of its
corners, as high as the chord of the ray through its centre (separable footprints, Long, Fessler &
Balter 2010; for parallel rays it is exact). A bin gets the mean of the shadow over its width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_AT_ONCE = 2**18  # pixels times views
_NOTHING = 1e-9


@dataclass(frozen=True)
class Geometry:
    """Where rays run; lengths in pixels, so that line integrals are in pixels too.

    Attributes:
        size: (H, W) of the image, whose middle is the axis of rotation.
        angles: of the views in degrees, anti-clockwise.
        detectors: bins of the detector.
        spacing: width of a bin.
        centre: the bin, counted from 0, on which the axis falls, (detectors - 1) / 2 in the middle.
        source, detector: fan beam: distances from the axis to the source and to the detector; None
            for parallel rays.
    """

    size: tuple[int, int]
    angles: tuple[float, ...]
    detectors: int
    spacing: float
    centre: float
    source: float | None = None
    detector: float = 0.0


def back_projection_matrix(geometry: Geometry) -> Tensor:
    """The adjoint of the line integrals, a sparse CSR matrix (H * W, views * detectors), float32.

    Made for some thousand pixels at a time, which is what bounds its memory.
    """
    height, width = geometry.size
    views = torch.tensor(geometry.angles, dtype=torch.float64).deg2rad()
    step = max(1, _AT_ONCE // len(views))
    counts, found, weights = [], [], []
    for pixels in torch.arange(height * width).split(step):
        y = (height - 1) / 2 - pixels.div(width, rounding_mode="floor")[:, None].double()
        x = (pixels % width)[:, None].double() - (width - 1) / 2
        bins, values = _shadows(geometry, views, x, y)
        seen = (values > _NOTHING) & (bins >= 0) & (bins < geometry.detectors)
        rays = bins + geometry.detectors * torch.arange(len(views))[:, None]
        counts.append(seen.flatten(1).sum(1))
        found.append(rays[seen].int())
        weights.append(values[seen].float())
    crow = torch.cat((torch.zeros(1, dtype=torch.long), torch.cat(counts).cumsum(0)))
    index = torch.int32 if int(crow[-1]) < 2**31 else torch.int64
    shape = (height * width, len(views) * geometry.detectors)
    return _sparse(crow.to(index), torch.cat(found).to(index), torch.cat(weights), shape)


def transposed(matrix: Tensor) -> Tensor:
    """The transpose of a CSR matrix, in rows as well: the adjoint reads memory in order."""
    by_column = matrix.to_sparse_csc()
    return _sparse(
        by_column.ccol_indices(),
        by_column.row_indices(),
        by_column.values(),
        matrix.shape[::-1],
    )


def converted(matrix: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The same matrix in another type or place; what can be shared of its memory is."""
    crow, columns = matrix.crow_indices().to(device), matrix.col_indices().to(device)
    return _sparse(crow, columns, matrix.values().to(device, dtype), matrix.shape)


def _sparse(crow: Tensor, columns: Tensor, values: Tensor, shape: Sequence[int]) -> Tensor:
    return torch.sparse_csr_tensor(crow, columns, values, [*shape], check_invariants=False)


def _shadows(g: Geometry, angle: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The bins that pixels (N, 1) reach in views (V,), and their weights, both (N, V, reach)."""
    corners = [
        projected(g, *turned(angle, x + dx, y + dy)) / g.spacing + g.centre + 0.5
        for dx in (-0.5, 0.5)
        for dy in (-0.5, 0.5)
    ]
    t0, t1, t2, t3 = _sorted(*corners)
    direction = angle
    if g.source is not None:
        along, across = turned(angle, x, y)
        direction = angle + torch.atan2(across, g.source - along)
    # of the ray through the centre
    chord = 1 / torch.maximum(direction.cos().abs(), direction.sin().abs())
    first = t0.floor()
    edges = first[..., None] + torch.arange(int((t3.ceil() - first).max()) + 1)
    areas = _area_below(edges, *(t[..., None] for t in (t0, t1, t2, t3)))
    return edges[..., :-1].long(), chord[..., None] * areas.diff(dim=-1)


def _sorted(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> tuple[Tensor, ...]:
    """Four tensors in rising order, by a network of comparisons."""
    a, b = torch.minimum(a, b), torch.maximum(a, b)
    c, d = torch.minimum(c, d), torch.maximum(c, d)
    a, c = torch.minimum(a, c), torch.maximum(a, c)
    b, d = torch.minimum(b, d), torch.maximum(b, d)
    return a, torch.minimum(b, c), torch.maximum(b, c), d


def turned(angle: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates along the rays, towards the source, and along the detector."""
    c, s = angle.cos(), angle.sin()
    return -x * s + y * c, x * c + y * s


def projected(g: Geometry, along: Tensor, across: Tensor) -> Tensor:
    """Where a point falls on the detector, from the axis' shadow on."""
    if g.source is None:
        return across
    return across * (g.source + g.detector) / (g.source - along)


def _area_below(t: Tensor, t0: Tensor, t1: Tensor, t2: Tensor, t3: Tensor) -> Tensor:
    """The area left of t of a trapezoid of height 1 over t0 <= t1 <= t2 <= t3."""
    rise = (t1 - t0).clamp_min(1e-12)
    fall = (t3 - t2).clamp_min(1e-12)
    up = (t.clamp(t0, t1) - t0).square() / (2 * rise)
    flat = t.clamp(t1, t2) - t1
    v = t.clamp(t2, t3) - t2
    return up + flat + v - v.square() / (2 * fall)
