"""The other two generative models, with a low-dimensional latent: VAE and GAN.

Both offer ``latent_shape``, ``decode(z)``, ``sample(n)`` and files, as flows do. A VAE also encodes,
and bounds the likelihood; a GAN has neither code nor likelihood.
"""

from .base import Generator
from .gan import GAN, gan
from .registry import build, names, register
from .vae import VAE, vae

__all__ = ["GAN", "VAE", "Generator", "build", "gan", "names", "register", "vae"]
