"""What training minimises: exact negative log-likelihoods in nats per dimension.

Plain flows learn the density of 8-bit images after uniform dequantisation (Theis et al. 2016), so
that bits/dim is comparable across papers. Noise-conditional flows learn, for every sigma in a range,
the density of clean image + N(0, sigma^2); the score of that density is the minimum-mean-square
denoiser (Tweedie), and the optional score-matching term (Vincent 2011) trains that use directly.
A flow with a ``training_loss`` of its own (flow matching) is trained by that, and evaluated by its
likelihood.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..data import as_unit, dequantize
from ..data.crops import n_levels
from ..gaussian import HALF_LOG_2PI


def gaussian_entropy(sigma: Tensor) -> Tensor:
    """Entropy of N(0, sigma^2) in nats: the floor of the noise-conditional loss per dimension."""
    return HALF_LOG_2PI + 0.5 + sigma.log()


def log_uniform(u: Tensor, lo: float, hi: float) -> Tensor:
    """Map u uniform in [0, 1) to sigma log-uniform in [lo, hi)."""
    return torch.exp(math.log(lo) + u * (math.log(hi) - math.log(lo)))


def to_bits(nats_per_dim: float) -> float:
    """Bits/dim on the 0..255 scale from nats/dim on the [0, 1] scale."""
    return nats_per_dim / math.log(2) + 8.0


def measure(flow: nn.Module, noise_range: tuple[float, float] | None) -> str:
    """The name of what `Objective` reports of a training step beside the loss.

    ``"bits_per_dim"``, or ``"bits_per_dim_bound"`` from above (VAE); ``"gap"`` above the entropy of
    the noise; ``"matching"``, the error of a velocity, and ``"manifold_loss"``, which are no
    likelihoods; ``"critic_loss"``.
    """
    if hasattr(flow, "critic_loss"):
        return "critic_loss"
    if hasattr(flow, "log_prob_bound"):
        return "bits_per_dim_bound"
    if hasattr(flow, "project"):
        return "manifold_loss"
    if hasattr(flow, "training_loss"):
        return "matching"
    noisy = noise_range is not None or getattr(flow, "measurement", None) is not None
    return "gap" if noisy else "bits_per_dim"


class Objective(nn.Module):
    """The flow together with its loss, as one module, so that DDP can synchronise its gradients.

    All randomness comes in as arguments: ``forward`` is a pure function, but for flows that draw
    something themselves in training mode, from torch's global generator.

    Example:
        >>> flow = innverse.flows.build("glow", (1, 8, 8), levels=1, steps=1, hidden=8)
        >>> images = torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8)
        >>> loss, nats, score = Objective(flow)(images, torch.rand(4, 1, 8, 8))
        >>> loss.shape, bool(loss == nats), float(score)
        (torch.Size([]), True, 0.0)
    """

    flow: Any  # a flow or a VAE: its `log_prob` or `training_loss`

    def __init__(self, flow: nn.Module):
        super().__init__()
        self.flow = flow

    def forward(
        self,
        images: Tensor,
        noise: Tensor,
        sigma: Tensor | None = None,
        score_weight: float = 0.0,
        c: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Loss of a batch.

        Args:
            images: (B, C, H, W) uint8 or uint16.
            noise: (B, C, H, W); uniform in [0, 1) without sigma, standard normal with it.
            sigma: (B,) noise levels on the [0, 1] scale, or None for a plain flow.
            score_weight: weight of the score-matching term.
            c: the condition (B, k, H, W), if it is another than sigma.

        Returns:
            ``(loss, nll, score)``, scalars: what to minimise; the likelihood part in nats/dim as it
            is reported (for noise-conditional flows the gap above the entropy of the noise, for
            a flow with a ``training_loss`` in training mode that loss); the score-matching term
            (0 where it is off).
        """
        x = self.inputs(images, noise, sigma)
        dims = x[0].numel()
        if self.flow.training and hasattr(self.flow, "training_loss"):
            loss = self.flow.training_loss(x)
            return loss, loss.detach(), torch.zeros_like(loss)
        if sigma is None:
            nll = -self.flow.log_prob(x).mean() / dims
            return nll, nll.detach(), torch.zeros_like(nll)
        c = sigma[:, None] if c is None else c
        floor = gaussian_entropy(sigma).mean()
        if score_weight == 0:
            nll = -self.flow.log_prob(x, c).mean() / dims
            return nll, (nll - floor).detach(), torch.zeros_like(nll)
        x.requires_grad_()
        log_prob = self.flow.log_prob(x, c)
        (grad,) = torch.autograd.grad(log_prob.sum(), x, create_graph=True)
        nll = -log_prob.mean() / dims
        score = (sigma.view(-1, 1, 1, 1) * grad + noise).square().mean()
        return nll + score_weight * score, (nll - floor).detach(), score.detach()

    @staticmethod
    def inputs(images: Tensor, noise: Tensor, sigma: Tensor | None = None) -> Tensor:
        """What the flow sees: dequantised images, or images in [0, 1] plus noise."""
        if sigma is None:
            return dequantize(images.float(), noise=noise, levels=n_levels(images))
        return as_unit(images) + sigma.view(-1, 1, 1, 1) * noise
