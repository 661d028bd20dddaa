"""How close a reconstruction is to the true image: PSNR and SSIM, one value per item of the
batch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import ShapeError


def psnr(x: Tensor, ref: Tensor, data_range: float = 1.0, clip: bool = True) -> Tensor:
    """Peak signal-to-noise ratio 10 log10(data_range^2 / MSE) in dB.

    Args:
        x: reconstructions (B, C, H, W).
        ref: true images, same shape, in [0, data_range].
        data_range: what white is.
        clip: clip x to [0, data_range] first, as a viewer of the picture does.

    Returns:
        (B,) float64; infinite where the images are equal, NaN where x is.

    Raises:
        ShapeError: different shapes, or not (B, C, H, W).

    Example:
        >>> x = torch.zeros(1, 1, 8, 8)
        >>> round(float(psnr(x + 0.1, x)), 2)
        20.0
    """
    _check(x, ref)
    x, ref = x.double(), ref.double()
    if clip:
        x = x.clamp(0, data_range)
    mse = (x - ref).square().flatten(1).mean(1)
    return 10 * torch.log10(data_range**2 / mse)


def psnr8(x: Tensor, ref: Tensor, quantize: bool = False) -> Tensor:
    """PSNR on the 8-bit range, the number of denoising tables: 10 log10(255^2 / MSE).

    Args:
        x, ref: images (B, C, H, W) in [0, 1]; x is clipped to [0, 1].
        quantize: round both to whole 8-bit values first, as if they were read back from PNG files.

    Returns:
        (B,) float64 in dB.

    Example:
        >>> x = torch.zeros(1, 1, 8, 8)
        >>> round(float(psnr8(x + 0.1, x)), 2)
        20.0
    """
    _check(x, ref)
    x, ref = 255 * x.double().clamp(0, 1), 255 * ref.double()
    if quantize:
        x, ref = x.round(), ref.clamp(0, 255).round()
    return psnr(x, ref, data_range=255.0)


def ssim(x: Tensor, ref: Tensor, data_range: float = 1.0, clip: bool = True) -> Tensor:
    """Structural similarity with a Gaussian window (Wang, Bovik, Sheikh & Simoncelli, 2004).

    The window is 11x11 with sigma 1.5, K1 = 0.01, K2 = 0.03; means are over the pixels whose window
    lies inside the image, colour is the mean over channels. Equal to scikit-image's
    ``structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False)``.

    Args:
        x, ref: images (B, C, H, W) in [0, data_range], at least 11x11.
        data_range: what white is.
        clip: clip x to [0, data_range] first.

    Returns:
        (B,) float64, at most 1.

    Raises:
        ShapeError: different shapes, not (B, C, H, W), or smaller than the window.

    Example:
        >>> x = torch.rand(1, 1, 16, 16)
        >>> round(float(ssim(x, x)), 3)
        1.0
    """
    _check(x, ref)
    if min(x.shape[-2:]) < 11:
        raise ShapeError(f"SSIM needs images of at least 11x11 pixels, not {tuple(x.shape[-2:])}")
    x, ref = x.double(), ref.double()
    if clip:
        x = x.clamp(0, data_range)
    mu_x, mu_r = _blur(x), _blur(ref)
    var_x = _blur(x * x) - mu_x**2
    var_r = _blur(ref * ref) - mu_r**2
    cov = _blur(x * ref) - mu_x * mu_r
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    luminance = (2 * mu_x * mu_r + c1) / (mu_x**2 + mu_r**2 + c1)
    structure = (2 * cov + c2) / (var_x + var_r + c2)
    return (luminance * structure).flatten(1).mean(1)


def _blur(x: Tensor) -> Tensor:
    """Gaussian 11x11 local mean, only where the window lies inside."""
    t = torch.arange(-5, 6, dtype=x.dtype, device=x.device)
    window = torch.exp(-(t**2) / (2 * 1.5**2))
    window = window / window.sum()
    planes = x.flatten(0, 1)[:, None]
    planes = F.conv2d(planes, window.view(1, 1, -1, 1))
    planes = F.conv2d(planes, window.view(1, 1, 1, -1))
    return planes.unflatten(0, x.shape[:2]).squeeze(2)


def _check(x: Tensor, ref: Tensor) -> None:
    if x.shape != ref.shape:
        raise ShapeError(
            f"the image has shape {tuple(x.shape)} but the reference has {tuple(ref.shape)}; "
            "give images of one shape"
        )
    if x.ndim != 4:
        raise ShapeError(f"images need shape (B, C, H, W), not {tuple(x.shape)}")
