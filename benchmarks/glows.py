"""The same Glow in three libraries: L levels of K steps, 3x3 - 1x1 - 3x3 networks of one width.

A step is: normalise channels, mix channels, affine coupling. What differs is said in the table:
FrEIA's mixing is a fixed rotation and its factored-out half has a standard normal prior; normflows'
prior there is a mean and scale per channel; innverse's is one more coupling, as in Glow's paper.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

SHAPE = (3, 32, 32)


def networks(hidden: int):
    """The conditioner network (channels in, channels out), the last convolution at zero."""

    def build(n_in: int, n_out: int) -> nn.Module:
        last = nn.Conv2d(hidden, n_out, 3, padding=1)
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        return nn.Sequential(
            nn.Conv2d(n_in, hidden, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(hidden, hidden, 1),
            nn.ReLU(),
            last,
        )

    return build


class Innverse(nn.Module):
    def __init__(
        self, levels: int, steps: int, hidden: int, memory: str = "store", bf16=False, shape=SHAPE
    ):
        super().__init__()
        from innverse import flows, nets

        self.flow = flows.build(
            "glow",
            shape,
            levels=levels,
            steps=steps,
            hidden=hidden,
            split="conv",
        ).set_memory(memory)
        if bf16:
            nets.set_precision(self.flow, "bf16")

    def prepare(self, x: Tensor) -> None:
        from innverse.bijections import initialize

        initialize(self.flow.bijection, x)

    def log_prob(self, x: Tensor) -> Tensor:
        return self.flow.log_prob(x)

    def encode(self, x: Tensor):
        return self.flow.encode(x)

    def decode(self, z) -> Tensor:
        return self.flow.decode(z)


class FreiaGlow(nn.Module):
    def __init__(self, levels: int, steps: int, hidden: int, shape=SHAPE):
        super().__init__()
        import FrEIA.framework as ff
        import FrEIA.modules as fm

        self.size = math.prod(shape)
        nodes = [ff.InputNode(*shape, name="x")]
        outputs = []  # one per level, unflattened: its Flatten cannot read channels_last

        def add(*args, **kwargs):
            nodes.append(ff.Node(*args, **kwargs))
            return nodes[-1]

        last = nodes[0]
        for level in range(levels):
            last = add(last, fm.IRevNetDownsampling, {})
            for _ in range(steps):
                options = {
                    "subnet_constructor": networks(hidden),
                    "affine_clamping": 2.0,
                    "permute_soft": True,
                }
                last = add(last, fm.AllInOneBlock, options)
            if level < levels - 1:
                split = add(last, fm.Split, {})
                outputs.append(ff.OutputNode(split.out1))
                last = split.out0
        outputs.append(ff.OutputNode(last))
        self.inn = ff.GraphINN([*nodes, *outputs])

    def prepare(self, x: Tensor) -> None:
        """AllInOneBlock's global affine map has a fixed start."""

    def log_prob(self, x: Tensor) -> Tensor:
        latents, logdet = self.inn(x)
        energy = sum(z.square().sum((1, 2, 3)) for z in latents)
        return logdet - 0.5 * energy - 0.5 * self.size * math.log(2 * math.pi)

    def encode(self, x: Tensor):
        return self.inn(x, jac=False)[0]

    def decode(self, z) -> Tensor:
        return self.inn(z, rev=True, jac=False)[0]


class NormflowsGlow(nn.Module):
    def __init__(self, levels: int, steps: int, hidden: int, shape=SHAPE):
        super().__init__()
        import normflows as nf

        channels, height, width = shape
        bases, merges, flows = [], [], []
        for i in range(levels):  # its order is from latent to image: the coarsest level first
            depth = levels - i
            c = channels * 2 ** (depth + 1)
            size = (height // 2**depth, width // 2**depth)
            blocks = [
                nf.flows.GlowBlock(c, hidden, scale=True, split_mode="channel")
                for _ in range(steps)
            ]
            flows.append([*blocks, nf.flows.Squeeze()])
            if i == 0:
                bases.append(nf.distributions.GlowBase((c, *size)))
            else:
                merges.append(nf.flows.Merge())
                bases.append(nf.distributions.GlowBase((c // 2, *size)))
        self.model = nf.MultiscaleFlow(bases, flows, merges, class_cond=False)

    def prepare(self, x: Tensor) -> None:
        with torch.no_grad():  # its ActNorm initialises itself at the first call
            self.log_prob(x)

    def log_prob(self, x: Tensor) -> Tensor:
        return self.model.log_prob(x, None)

    def encode(self, x: Tensor):
        return self.model.inverse_and_log_det(x)[0]

    def decode(self, z) -> Tensor:
        return self.model.forward_and_log_det(z)[0]


LIBRARIES = {"innverse": Innverse, "FrEIA": FreiaGlow, "normflows": NormflowsGlow}


def textures(n: int, generator: torch.Generator, beta: float = 1.0, shape=SHAPE) -> Tensor:
    """Random pictures (n, 3, H, W) on [0, 1] with the 1/f amplitude of photographs, 8 bits.

    Colours are correlated and grey levels dequantised, so that a flow has something to learn.
    """
    _, height, width = shape
    fy = torch.fft.fftfreq(height)[:, None]
    fx = torch.fft.rfftfreq(width)[None]
    amplitude = (fy.square() + fx.square()).sqrt().clamp_min(1 / height) ** -beta
    noise = torch.randn((n, *shape), generator=generator)
    smooth = torch.fft.irfft2(torch.fft.rfft2(noise) * amplitude, s=(height, width))
    smooth = smooth / smooth.std((1, 2, 3), keepdim=True)
    colours = torch.tensor([[1.0, 0.2, 0.1], [1.0, -0.1, 0.1], [1.0, -0.1, -0.2]])
    picture = 0.5 + 0.18 * torch.einsum("ij,bjhw->bihw", colours, smooth)
    levels = (picture.clamp(0, 1) * 255).round()
    return (levels + torch.rand(levels.shape, generator=generator)) / 256
