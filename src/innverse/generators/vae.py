"""The variational autoencoder (Kingma & Welling 2014, Rezende et al. 2014).

    z ~ N(0, I_k),   x | z ~ N(G(z), s^2 I_n),   q(z | x) = N(mu(x), diag sd(x)^2)

Its likelihood is an integral over z that no formula gives, only bounds from below:

    log p(x) >= log 1/K sum_i p(x | z_i) p(z_i) / q(z_i | x),   z_i ~ q(z | x)

in expectation; K = 1 is the ELBO, and the bound rises with K (IWAE, Burda et al. 2016).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from ..bijections.base import sum_per_item
from ..bijections.bounded import soft_bound
from ..errors import UsageError
from ..flows.arguments import as_tensor
from ..flows.base import standard_normal, standard_normal_log_prob
from ..flows.dequantized import dequantized
from ..gaussian import HALF_LOG_2PI
from ..metrics.likelihood import bits_per_dim
from ..nets.pyramid import DownPyramid, UpPyramid
from .base import Generator
from .registry import register

_CHUNK_NUMBERS = 2**20  # of x, decoded at once by `log_prob_bound`


class VAE(Generator):
    """p(x) = E N(x; G(z), s^2 I) with an encoder; a density on R^n that can only be bounded.

    Args:
        encoder: x (B, *shape) to (B, 2k): mean of q(z | x) and log of its standard deviation.
        decoder: G, z (B, k) to (B, *shape).
        shape, latent: of an image and k.
        scale: s, on the [0, 1] scale of images; where it starts if ``learned``.
        learned: train s with the rest (sigma-VAE, Rybkin et al. 2021).
        beta: weight of KL(q || p) in training, at least 1 (beta-VAE, Higgins et al. 2017). Above 1
            the codes fill the prior better, so samples are more coherent, at some cost of detail
            and likelihood. The bounds are those of the model itself, whatever the weight was.

    Example:
        >>> model = vae((1, 8, 8), latent=4, width=8)
        >>> x = torch.rand(3, 1, 8, 8)
        >>> model.encode(x).shape, model.log_prob_bound(x).shape
        (torch.Size([3, 4]), torch.Size([3]))
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        shape: tuple[int, int, int],
        latent: int,
        *,
        scale: float = 0.1,
        learned: bool = True,
        beta: float = 1.0,
    ):
        super().__init__(shape, latent)
        if not scale > 0:
            raise UsageError(f"scale={scale:g}: the standard deviation s must be > 0")
        if not beta >= 1:
            raise UsageError(f"beta={beta:g}: must be >= 1, or training minimises no bound")
        self.beta = beta
        self.encoder, self.decoder = encoder, decoder
        log_scale = torch.tensor(math.log(scale))
        if learned:
            self.log_scale = nn.Parameter(log_scale)
        else:
            self.register_buffer("log_scale", log_scale)

    @property
    def scale(self) -> float:
        """s, the standard deviation of an image around G(z)."""
        return math.exp(self.log_scale.item())

    # ---- code -------------------------------------------------------------------------------

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log standard deviation (B, k) each of q(z | x)."""
        mean, log_sd = self.encoder(self._images(x)).chunk(2, 1)
        dtype = torch.promote_types(mean.dtype, torch.float32)
        return mean.to(dtype), soft_bound(log_sd.to(dtype), 8.0)

    def encode(
        self, x: Tensor, *, sampled: bool = False, generator: torch.Generator | None = None
    ) -> Tensor:
        """The mean of q(z | x), or a draw from it; x (B, *shape) -> (B, k)."""
        mean, log_sd = self.posterior(x)
        if not sampled:
            return mean
        return mean + log_sd.exp() * standard_normal(mean.shape, generator=generator, like=mean)

    def decode(self, z: Tensor) -> Tensor:
        """G(z), the mean of x given z; (B, k) -> (B, *shape)."""
        return self.decoder(self._latents(z))

    def reconstruct(self, x: Tensor) -> Tensor:
        """G(encode(x)): close to x only as far as k numbers describe it."""
        return self.decode(self.encode(x))

    def sample(
        self,
        n: int | tuple[int, ...] = 1,
        c: None = None,
        temperature: float = 1.0,
        *,
        noisy: bool = False,
        generator: torch.Generator | None = None,
        **options,
    ) -> Tensor:
        """``n`` images G(z) (n, *shape); ``noisy``: with the N(0, s^2) of the model's density."""
        x = super().sample(n, c, temperature, generator=generator, **options)
        if noisy:
            x = x + self.scale * standard_normal(x.shape, generator=generator, like=x)
        return x

    # ---- density ----------------------------------------------------------------------------

    def elbo(self, x: Tensor, *, generator: torch.Generator | None = None) -> Tensor:
        """E log p(x | z) - KL(q(z | x) || p(z)) in nats (B,), from one draw and the exact KL."""
        return self._weighted(x, 1.0, generator)

    def _weighted(self, x: Tensor, beta: float, generator=None) -> Tensor:
        mean, log_sd = self.posterior(x)
        noise = standard_normal(mean.shape, generator=generator, like=mean)
        z = mean + log_sd.exp() * noise
        kl = 0.5 * (mean.square() + (2 * log_sd).exp() - 1).sum(1) - log_sd.sum(1)
        return self._log_likelihood(x, z) - beta * kl

    def log_prob_bound(
        self, x: Tensor, samples: int = 1, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """A lower bound on log p(x) in nats, in expectation; x (B, *shape) -> (B,).

        Importance-weighted with ``samples`` draws an item, 1 to 1000 or so: 1 is the ELBO, more
        are tighter. Without gradients the memory does not grow with ``samples``.
        """
        if samples < 1:
            raise UsageError(f"samples={samples}: at least 1")
        mean, log_sd = self.posterior(x)
        at_once = max(1, min(samples, _CHUNK_NUMBERS // max(1, x.numel())))
        total = torch.full_like(mean[:, 0], -math.inf)
        for first in range(0, samples, at_once):
            k = min(at_once, samples - first)
            noise = standard_normal((k, *mean.shape), generator=generator, like=mean)
            z = (mean + log_sd.exp() * noise).flatten(0, 1)
            log_q = standard_normal_log_prob(noise.flatten(0, 1)).view(k, -1) - log_sd.sum(1)
            repeated = x.repeat(k, *[1] * (x.dim() - 1))
            log_joint = self._log_likelihood(repeated, z) + standard_normal_log_prob(z)
            log_w = log_joint.view(k, -1) - log_q
            total = torch.logaddexp(total, log_w.logsumexp(0))
        return total - math.log(samples)

    def bits_per_dim(
        self,
        x: Tensor,
        samples: int = 1,
        *,
        levels: int = 256,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """An upper bound on -log2 p(x) per dimension, in the convention of `Flow.bits_per_dim`.

        Integers 0 .. levels - 1 are dequantised here; others are taken to be so already, on [0, 1].
        """
        x = dequantized(as_tensor(x, "x"), levels, generator)
        bound = self.log_prob_bound(x, samples, generator=generator)
        return bits_per_dim(bound, math.prod(x.shape[1:]), levels)

    def training_loss(self, x: Tensor) -> Tensor:
        """-ELBO in nats per dimension, its KL times ``beta``; draws from torch's global generator."""
        return -self._weighted(x, self.beta).mean() / math.prod(x.shape[1:])

    def _log_likelihood(self, x: Tensor, z: Tensor) -> Tensor:
        """log N(x; G(z), s^2 I) (B,)."""
        residual = (x - self.decode(z)) * (-self.log_scale).exp()
        return -0.5 * sum_per_item(residual.square()) - math.prod(x.shape[1:]) * (
            self.log_scale + HALF_LOG_2PI
        )


@register
def vae(
    shape: tuple[int, int, int],
    *,
    latent: int = 64,
    width: int = 32,
    growth: float = 2.0,
    refine: bool = True,
    scale: float = 0.1,
    learn_scale: bool = True,
    beta: float = 1.0,
) -> VAE:
    """A convolutional VAE for images (C, H, W), C = 1 or 3, sides 8 to 128.

    ``latent`` numbers describe an image. There are ``width`` channels at the finest level, and
    ``growth`` times as many at each coarser one; ``refine`` gives the decoder a second convolution
    a level. ``scale`` is s, learned or (``learn_scale=False``) fixed; ``beta`` is the weight of the
    KL in training. Choose it for a compact code
    and an encoder that is one pass; its samples are smooth, and what G cannot make is lost.

    Example:
        >>> vae((3, 8, 8), latent=4, width=8).latent_shape
        (4,)
    """
    if min(latent, width, growth) < 1:
        raise UsageError("vae: latent, width and growth must be >= 1")
    return VAE(
        DownPyramid(shape, 2 * latent, width, growth),
        UpPyramid(latent, shape, width, growth, refine=refine),
        shape,
        latent,
        scale=scale,
        learned=learn_scale,
        beta=beta,
    )
