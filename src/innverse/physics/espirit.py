"""ESPIRiT: coil sensitivities as eigenvectors of what holds in every patch of k-space."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import UsageError
from .calibration import calibration_images, calibration_region, with_phase
from .fourier import ifft


def espirit_maps(
    kspace: Tensor,
    calibration: int | tuple[int, int] = 24,
    *,
    kernel: int = 6,
    rank: float = 0.02,
    crop: float = 0.8,
    phase: bool = False,
    sets: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Coil sensitivities from the middle of k-space (Uecker et al. 2014, Magn. Reson. Med. 71).

    All patches of k-space lie in one small space, that of the calibration region's: V V^H p = p with
    its right singular vectors V. Averaged over the patches that hold a sample this is a matrix among
    the coils at every pixel, W(r) = sum_v g_v(r) g_v(r)^H / kernel^2 with the Fourier transforms g_v of
    the vectors, and W s = s for the sensitivities s wherever there is an image. The eigenvalues are
    at most 1; a second one near 1 tells of an image that folds into itself.

    Args:
        kspace: (coils, H, W), complex, centred, zero where it was not measured.
        calibration: lines around the middle, in both directions, that were fully measured.
        kernel: side of the patches, in samples.
        rank: singular values below this part of the largest are noise.
        crop: sensitivities are 0 where the largest eigenvalue is below, outside of the body.
        phase: leave the phase of the image in the sensitivities, so that the image is real; else
            the first coil is real.
        sets: so many eigenvectors, each cropped by its own eigenvalue; 2 for a body that folds, see
            `MRI`.

    Returns:
        The sensitivities (coils, H, W), or (sets, coils, H, W), complex, with sum |S_j|^2 = 1 or 0;
        and all eigenvalues (coils, H, W), the largest first.

    Raises:
        InputError: lines of the calibration region were not measured.
        UsageError: patches larger than that, or no number of samples.

    Example:
        >>> kspace = torch.fft.fft2(torch.rand(2, 32, 32))
        >>> sensitivities, eigenvalues = espirit_maps(kspace, 16)
        >>> sensitivities.shape, bool((eigenvalues < 1.001).all())
        (torch.Size([2, 32, 32]), True)
    """
    region = calibration_region(kspace, calibration)
    if not 1 <= (sets or 1) <= len(kspace):
        raise UsageError(f"sets={sets}: {len(kspace)} coils tell apart 1 to {len(kspace)} sets")
    block = kspace[:, *region]
    coils, height, width = kspace.shape
    if not 2 <= kernel <= min(block.shape[1:]):
        raise UsageError(
            f"kernel={kernel}: patches have 2 samples or more a side, and fit into the calibration "
            f"region of {block.shape[1]}x{block.shape[2]}"
        )
    patches = block.unfold(1, kernel, 1).unfold(2, kernel, 1).permute(1, 2, 0, 3, 4)
    _, values, vectors = torch.linalg.svd(patches.flatten(0, 1).flatten(1), full_matrices=False)
    v = vectors[values > rank * values[0]]
    projection = (v.T @ v.conj()).view(coils, kernel, kernel, coils, kernel, kernel)
    # W between two coils depends on the differences of places within a patch alone
    side = 2 * kernel - 1
    between = kspace.new_zeros(coils, coils, side, side)
    for a in range(kernel):
        for b in range(kernel):
            at = slice(kernel - 1 - a, side - a), slice(kernel - 1 - b, side - b)
            between[:, :, *at] += projection[..., a, b].permute(0, 3, 1, 2)
    top, left = height // 2 - kernel + 1, width // 2 - kernel + 1
    whole = kspace.new_zeros(coils, coils, height, width)
    whole[..., top : top + side, left : left + side] = between
    w = ifft(whole) * (height * width) ** 0.5 / kernel**2
    eigenvalues, eigenvectors = torch.linalg.eigh(w.permute(2, 3, 0, 1))
    eigenvalues = eigenvalues.permute(2, 0, 1).flip(0)
    images = calibration_images(kspace, region)
    found = []
    for k in range(sets or 1):
        s = with_phase(eigenvectors[..., -1 - k].permute(2, 0, 1), images, phase)
        found.append(torch.where(eigenvalues[k] >= crop, s, 0))
    return (found[0] if sets is None else torch.stack(found)), eigenvalues
