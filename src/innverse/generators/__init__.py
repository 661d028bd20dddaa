"""The other generative models, with a low-dimensional latent: VAE, GAN, free-form injective flow.

All offer ``latent_shape``, ``decode(z)``, ``sample(n)`` and files, as flows do. A VAE also encodes,
and bounds the likelihood; a GAN has neither code nor likelihood; a free-form injective flow encodes,
and has the density of its manifold.
"""

from .base import Generator
from .freeform import FreeForm, freeform
from .gan import GAN, gan
from .registry import build, names, register
from .vae import VAE, vae

__all__ = [
    "GAN",
    "VAE",
    "FreeForm",
    "Generator",
    "build",
    "freeform",
    "gan",
    "names",
    "register",
    "vae",
]
