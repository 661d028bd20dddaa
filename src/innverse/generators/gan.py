"""The generative adversarial network (Goodfellow et al. 2014), convolutional (Radford et al. 2016).

A critic D tells images from samples, the generator G learns to please it. Trained by the hinge loss

    L_D = E max(0, 1 - D(x)) + E max(0, 1 + D(G(z))),   L_G = -E D(G(z))

(Lim & Ye 2017), with every layer of D at spectral norm 1 (Miyato et al. 2018). There is neither a
likelihood nor a code: how good G is, only its samples tell.
"""

from __future__ import annotations

from torch import Tensor, nn

from ..errors import UsageError
from ..nets.pyramid import DownPyramid, UpPyramid
from .base import Generator
from .registry import register


class GAN(Generator):
    """A generator with the critic that trained it.

    Args:
        generator: G, z (B, k) to images (B, *shape) in [0, 1].
        critic: D, images to one number (B, 1), high for real ones.
        shape, latent: of an image and k.

    It has no ``encode`` and no ``log_prob``: what needs one says so.

    Example:
        >>> model = gan((1, 8, 8), latent=4, width=8)
        >>> model.sample(3).shape, model.decode(torch.randn(3, 4)).shape
        (torch.Size([3, 1, 8, 8]), torch.Size([3, 1, 8, 8]))
    """

    def __init__(
        self, generator: nn.Module, critic: nn.Module, shape: tuple[int, int, int], latent: int
    ):
        super().__init__(shape, latent)
        self.generator, self.critic = generator, critic

    def decode(self, z: Tensor) -> Tensor:
        """x = G(z); (B, k) -> (B, *shape)."""
        return self.generator(self._latents(z))

    def judge(self, x: Tensor) -> Tensor:
        """D(x) of each image, high for what looks real; (B, *shape) -> (B,)."""
        return self.critic(2 * self._images(x) - 1)[:, 0].float()

    def critic_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """What D minimises, a scalar."""
        return (1 - self.judge(real)).relu().mean() + (1 + self.judge(fake)).relu().mean()

    def generator_loss(self, fake: Tensor) -> Tensor:
        """What G minimises, a scalar."""
        return -self.judge(fake).mean()


@register
def gan(
    shape: tuple[int, int, int],
    *,
    latent: int = 100,
    width: int = 32,
    growth: float = 2.0,
    critic_width: int | None = None,
) -> GAN:
    """A DCGAN for images (C, H, W), C = 1 or 3, sides 8 to 128.

    ``latent`` numbers make an image. Generator and critic have ``width`` (the critic
    ``critic_width``) channels at the finest level and ``growth`` times as many at each coarser one.
    Choose it for sharp samples where neither a likelihood nor a code is needed; nothing tells
    which images it cannot make.

    Example:
        >>> gan((3, 8, 8), latent=4, width=8).sample(2).shape
        torch.Size([2, 3, 8, 8])
    """
    critic_width = width if critic_width is None else critic_width
    if min(latent, width, critic_width, growth) < 1:
        raise UsageError("gan: latent, width, critic_width and growth must be >= 1")
    return GAN(
        UpPyramid(latent, shape, width, growth, batch_norm=True),
        DownPyramid(shape, 1, critic_width, growth, spectral=True),
        shape,
        latent,
    )
