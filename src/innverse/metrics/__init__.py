"""Numbers that say how good a reconstruction or a density is."""

from .frechet import frechet as frechet
from .likelihood import bits_per_dim as bits_per_dim
from .neighbours import nearest as nearest
from .quality import psnr as psnr
from .quality import psnr8 as psnr8
from .quality import ssim as ssim
