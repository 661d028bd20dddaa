"""The calibration region of coils: the middle of k-space, where every line was measured."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import InputError
from .fourier import ifft


def calibration_size(mask: Tensor) -> tuple[int, int]:
    """Height and width of the largest fully measured block around the middle of a mask (H, W)."""
    height, width = mask.shape
    rows, columns = _run(mask.any(1)), _run(mask.any(0))
    top, left = height // 2 - rows // 2, width // 2 - columns // 2
    block = mask[top : top + rows, left : left + columns]
    if rows * columns == 0 or not bool((block != 0).all()):
        return 0, 0
    return rows, columns


def _run(line: Tensor) -> int:
    """The length of the run of ones around the middle."""
    ones = (line != 0).int()
    middle = len(ones) // 2
    after = int(ones[middle:].cumprod(0).sum())
    before = int(ones[:middle].flip(0).cumprod(0).sum())
    return min(2 * before + 1, 2 * after)


def calibration_region(kspace: Tensor, calibration: int | tuple[int, int]) -> tuple[slice, slice]:
    """Rows and columns of the region within k-space (coils, H, W).

    Raises:
        InputError: no such k-space, or lines of the region were not measured.
    """
    if kspace.ndim != 3 or not kspace.is_complex():
        raise InputError(
            f"k-space must be complex, (coils, H, W), got {kspace.dtype} {tuple(kspace.shape)}"
        )
    _, height, width = kspace.shape
    both = isinstance(calibration, (tuple, list))
    rows, columns = calibration if both else (calibration, calibration)
    rows, columns = min(rows, height), min(columns, width)
    top, left = height // 2 - rows // 2, width // 2 - columns // 2
    region = slice(top, top + rows), slice(left, left + columns)
    missing = int((kspace[:, *region].abs().sum(0) == 0).sum())
    if missing:
        raise InputError(
            f"{missing} of {rows * columns} frequencies of the {rows}x{columns} calibration region "
            "were not measured: choose a smaller calibration, or give sensitivities"
        )
    return region


def calibration_images(kspace: Tensor, region: tuple[slice, slice]) -> Tensor:
    """What the coils see by the region alone, (coils, H, W), smooth at its border."""
    low, block = torch.zeros_like(kspace), kspace[:, *region]
    down, across = (
        torch.hann_window(n + 2, periodic=False, dtype=kspace.real.dtype, device=kspace.device)[
            1:-1
        ]
        for n in block.shape[1:]
    )
    low[:, *region] = block * (down[:, None] * across)
    return ifft(low)


def with_phase(s: Tensor, images: Tensor, phase: bool) -> Tensor:
    """Sensitivities (coils, H, W), whose common phase is open, with that of the ``images`` behind the
    coils, or with a real first coil."""
    reference = (s.conj() * images).sum(0) if phase else s[0].conj()
    return s * torch.polar(torch.ones_like(reference.real), reference.angle())
