"""NIfTI volumes (nibabel): slices along the third axis, upright, with the affine kept."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InnverseError, InputError, ShapeError
from ...reading import open_regular
from ..atomic import atomic_write
from ..expansion import check_expansion, file_size
from ..stack import Stack, as_type, elements, found_range, spanned


def array(path: Path, name: str | None) -> np.ndarray:
    """The volume (X, Y, Z, ...) in its units."""
    return _load(path, name)[0]


def read(path: Path, name: str | None) -> Stack:
    """Rows of a slice are the second axis, from the front or the top of the head on."""
    values, image = _load(path, name)
    import nibabel

    if values.ndim < 2:
        raise ShapeError(f"{path} has shape {values.shape}: slices are (X, Y) or (X, Y, Z)")
    upside_down = nibabel.aff2axcodes(image.affine)[1] in ("A", "S")
    slices = values[:, ::-1] if upside_down else values
    slices = slices.reshape(*slices.shape[:2], -1, order="F").T[:, None]
    x_range, white = found_range(slices, str(path))
    if slices.dtype == np.uint16:  # 16 bits of a scanner: none of them is white
        x_range, white = spanned(float(slices.min()), float(slices.max())), False
    scale = image.dataobj.slope, image.dataobj.inter
    kept = values.shape, upside_down, image, scale
    return Stack(np.ascontiguousarray(slices), str(path), x_range, white, kept=kept)


def write(path: Path, stack: Stack, values: np.ndarray, spread: bool) -> Path:
    shape, upside_down, image, (slope, intercept) = stack.kept
    height, width = values.shape[-2:]
    volume = values[:, 0].T.reshape(width, height, *shape[2:], order="F").astype(np.float64)
    volume = volume[:, ::-1] if upside_down else volume
    factor = np.array([shape[0] / width, shape[1] / height, 1.0])
    affine = image.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ ((factor - 1) / 2)  # the field of view stays
    affine[:3, :3] *= factor
    dtype = image.get_data_dtype()
    if spread:
        dtype, slope, intercept = np.dtype(np.float32), 1.0, 0.0
    # nibabel writes values as they are beside a slope that is set
    new = type(image)(as_type((volume - intercept) / slope, dtype), affine, image.header)
    new.set_data_dtype(dtype)
    new.header.set_slope_inter(slope, intercept)
    content = new.to_bytes()
    return atomic_write(path, gzip.compress(content, 6) if path.suffix == ".gz" else content)


def _load(path: Path, name: str | None):
    try:
        import nibabel
    except ImportError:
        raise InnverseError(f'{path} needs nibabel: pip install "innverse[io]"') from None
    if name is not None:
        raise InputError(f"{path} is one volume: leave out {name!r}")
    open_regular(path).close()  # a pipe would be waited for
    try:
        image: Any = nibabel.load(path)
        header = image.header
        if image.shape and header.get_data_dtype().kind not in "fiub":
            raise InputError(f"{path} holds {header.get_data_dtype()}, no gray volume")
        size = elements(image.shape) * header.get_data_dtype().itemsize
        check_expansion(str(path), size, file_size(path))
        values = np.asanyarray(image.dataobj)  # slope and intercept applied
    except InputError:
        raise
    except Exception as error:  # of damaged files nibabel raises almost anything
        reason = " ".join(str(error).split())[:100]
        raise InputError(f"{path} is damaged or no NIfTI volume ({reason})") from None
    if values.dtype == np.float64:
        values = values.astype(np.float32)
    return values.astype(values.dtype.newbyteorder("="), copy=False), image
