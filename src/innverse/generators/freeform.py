"""Free-form injective flows: any encoder f and decoder g, trained by likelihood on the manifold of g.

    minimise  E ||x - g(f(x))||^2 / (2 s^2) - log N(f(x); 0, I) - v^T f'(x) w,    w = g'(f(x)) v held

v is uniform on the sphere of radius sqrt(k), so E v v^T = I. Where g inverts f, the last term has the
gradient of the log-volume that f changes: no Jacobian is made, no layer need be invertible (Sorrenson
et al. 2023, arXiv 2306.01843).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import UsageError
from ..flows.base import standard_normal_log_prob
from ..flows.nearest import nearest
from ..flows.volume import Volume
from ..nets.pyramid import DownPyramid, UpPyramid
from .base import Generator
from .registry import register


class FreeForm(Generator):
    """A density on the k-dimensional manifold of a decoder that nothing makes invertible.

    Args:
        encoder: f, x (B, *shape) to z (B, k).
        decoder: g, z (B, k) to (B, *shape).
        shape, latent: of an image and k.
        spread: s, the weight of the reconstruction, as a standard deviation.
        exact_dims, probes: of the volume, see `innverse.flows.injective.InjectiveFlow`.

    `log_prob` is that of g alone, so a density wherever g is injective; that f inverts g is only as
    true as training made it.

    Example:
        >>> model = freeform((1, 8, 8), latent=4, width=8)
        >>> x = torch.rand(3, 1, 8, 8)
        >>> model.encode(x).shape, model.log_prob(x).shape
        (torch.Size([3, 4]), torch.Size([3]))
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        shape: tuple[int, int, int],
        latent: int,
        *,
        spread: float = 0.05,
        exact_dims: int = 256,
        probes: int = 8,
    ):
        super().__init__(shape, latent)
        if not spread > 0:
            raise UsageError(f"spread={spread:g}: a distance above 0")
        self.encoder, self.decoder, self.spread = encoder, decoder, spread
        self.volume = Volume(exact_dims, probes)

    def encode(self, x: Tensor) -> Tensor:
        """f(x); x (B, *shape) -> (B, k)."""
        return self.encoder(self._images(x))

    def decode(self, z: Tensor) -> Tensor:
        """g(z); (B, k) -> (B, *shape)."""
        return self.decoder(self._latents(z))

    def project(self, x: Tensor, steps: int = 0) -> tuple[Tensor, Tensor]:
        """g(f(x)), or after so many ``steps`` the nearest point, and its distance from x (B,)."""
        x = self._images(x)
        on_it = self.decoder(nearest(self.decoder, x, self.encoder(x), steps))
        return on_it, (x - on_it).flatten(1).norm(dim=1)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p in nats (B,) at g(f(x)), with respect to the volume of the manifold."""
        z = self.encode(x)
        return standard_normal_log_prob(z) - self.volume(self.decoder, z)

    def code_nats(self, x: Tensor) -> Tensor:
        """-log N(f(x); 0, I), in nats for each of the k: (B,)."""
        return -standard_normal_log_prob(self.encode(x)) / self.latent

    def training_loss(self, x: Tensor) -> Tensor:
        """What stands above, in nats per number of x; v from torch's global generator."""
        x = self._images(x)
        z = self.encoder(x)
        squares = (x - self.decoder(z)).flatten(1).square().sum(1)
        v = math.sqrt(self.latent) * F.normalize(torch.randn_like(z))
        likelihood = -standard_normal_log_prob(z) - self.surrogate(x, z, v)
        return (0.5 * squares / self.spread**2 + likelihood).mean() / math.prod(self.shape)

    def surrogate(self, x: Tensor, z: Tensor, v: Tensor) -> Tensor:
        """v^T f'(x) w (B,) of z = f(x) and directions v (B, k); only its gradient means something."""
        with torch.no_grad():
            w = torch.func.jvp(self.decoder, (z.detach(),), (v,))[1]
        return (v * torch.func.jvp(self.encoder, (x,), (w,))[1]).sum(1)


@register
def freeform(
    shape: tuple[int, int, int],
    *,
    latent: int = 64,
    width: int = 32,
    growth: float = 2.0,
    refine: bool = True,
    spread: float = 0.05,
) -> FreeForm:
    """A free-form injective flow of images, of the networks of the VAE (`innverse.generators.vae`).

    ``latent`` numbers describe an image, ``spread`` is the distance from the manifold that counts as
    much as one nat, per number of x. A yardstick for what the invertible layers of the injective flow
    are worth.

    Example:
        >>> freeform((3, 8, 8), latent=4, width=8).latent_shape
        (4,)
    """
    return FreeForm(
        DownPyramid(shape, latent, width, growth),
        UpPyramid(latent, shape, width, growth, refine=refine),
        shape,
        latent,
        spread=spread,
    )
