"""Numbers that say how good a reconstruction or a density is."""

from .frechet import frechet
from .likelihood import bits_per_dim
from .neighbours import nearest
from .quality import psnr, psnr8, ssim

__all__ = [
    "bits_per_dim",
    "frechet",
    "nearest",
    "psnr",
    "psnr8",
    "ssim",
]
