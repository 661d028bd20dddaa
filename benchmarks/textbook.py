"""Flows, total variation and crops as a textbook writes them in PyTorch: no tricks.

What `benchmarks/guard.py` compares innverse with.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def normal_log_prob(z: Tensor) -> Tensor:
    return (-0.5 * z.square() - 0.5 * math.log(2 * math.pi)).flatten(1).sum(1)


class ActNorm(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.shift = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        logdet = self.log_scale.sum() * x.shape[2] * x.shape[3]
        return (x + self.shift) * self.log_scale.exp(), logdet.expand(len(x))


class Conv1x1(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.linalg.qr(torch.randn(channels, channels))[0])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        logdet = torch.linalg.slogdet(self.weight)[1] * x.shape[2] * x.shape[3]
        return F.conv2d(x, self.weight[..., None, None]), logdet.expand(len(x))


class Coupling(nn.Module):
    def __init__(self, net: nn.Module):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        a, b = x.chunk(2, 1)
        log_scale, shift = self.net(a).chunk(2, 1)
        log_scale = 2 * torch.tanh(log_scale)
        return torch.cat((a, b * log_scale.exp() + shift), 1), log_scale.flatten(1).sum(1)


def conv_net(channels: int, n_out: int, hidden: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, hidden, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(hidden, hidden, 1),
        nn.ReLU(),
        nn.Conv2d(hidden, n_out, 3, padding=1),
    )


class Glow(nn.Module):
    def __init__(self, levels: int, steps: int, hidden: int, channels: int = 3):
        super().__init__()
        self.levels, self.priors = nn.ModuleList(), nn.ModuleList()
        for level in range(levels):
            channels *= 4
            layers = [
                layer
                for _ in range(steps)
                for layer in (
                    ActNorm(channels),
                    Conv1x1(channels),
                    Coupling(conv_net(channels // 2, channels, hidden)),
                )
            ]
            self.levels.append(nn.ModuleList(layers))
            if level < levels - 1:
                channels //= 2
                self.priors.append(nn.Conv2d(channels, 2 * channels, 3, padding=1))

    def log_prob(self, x: Tensor) -> Tensor:
        total = x.new_zeros(len(x))
        for i, layers in enumerate(self.levels):
            x = F.pixel_unshuffle(x, 2)
            for layer in layers:
                x, logdet = layer(x)
                total = total + logdet
            if i < len(self.priors):
                x, z = x.chunk(2, 1)
                mean, log_scale = self.priors[i](x).chunk(2, 1)
                total = total - log_scale.flatten(1).sum(1)
                total = total + normal_log_prob((z - mean) * (-log_scale).exp())
        return total + normal_log_prob(x)


def perceptron(n_in: int, n_out: int, width: int) -> nn.Module:
    return nn.Sequential(
        nn.Linear(n_in, width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.ReLU(),
        nn.Linear(width, n_out),
    )


class RealNVP(nn.Module):
    def __init__(self, d: int, layers: int, width: int):
        super().__init__()
        nets = (perceptron(d // 2, d, width) for _ in range(layers))
        self.couplings = nn.ModuleList(Coupling(net) for net in nets)

    def log_prob(self, x: Tensor) -> Tensor:
        total = x.new_zeros(len(x))
        for coupling in self.couplings:
            x, logdet = coupling(x.flip(1))
            total = total + logdet
        return total + normal_log_prob(x)


class SplineFlow(nn.Module):
    """Rational-quadratic splines on [-bound, bound] (Durkan et al. 2019)."""

    def __init__(self, d: int, layers: int, width: int, bins: int = 8, bound: float = 5.0):
        super().__init__()
        self.bins, self.bound = bins, bound
        n = d // 2
        self.nets = nn.ModuleList(perceptron(n, n * (3 * bins - 1), width) for _ in range(layers))

    def log_prob(self, x: Tensor) -> Tensor:
        total = x.new_zeros(len(x))
        for net in self.nets:
            a, b = x.flip(1).chunk(2, 1)
            b, logdet = self.spline(b, net(a).unflatten(1, (b.shape[1], -1)))
            x, total = torch.cat((a, b), 1), total + logdet.sum(1)
        return total + normal_log_prob(x)

    def spline(self, x: Tensor, p: Tensor) -> tuple[Tensor, Tensor]:
        k, bound, least = self.bins, self.bound, 1e-3
        widths = 2 * bound * (least + (1 - k * least) * p[..., :k].softmax(-1))
        heights = 2 * bound * (least + (1 - k * least) * p[..., k : 2 * k].softmax(-1))
        slopes = F.pad(least + F.softplus(p[..., 2 * k :]), (1, 1), value=1.0)
        left = F.pad(widths.cumsum(-1), (1, 0)) - bound
        low = F.pad(heights.cumsum(-1), (1, 0)) - bound
        inside = x.abs() < bound
        at = x.clamp(-bound, bound)[..., None]
        i = (at >= left[..., 1:-1]).sum(-1, keepdim=True)
        x0, w, y0, h = (t.gather(-1, i) for t in (left, widths, low, heights))
        d0, d1 = slopes.gather(-1, i), slopes.gather(-1, i + 1)
        s, t = h / w, (at - x0) / w
        u = t * (1 - t)
        below = s + (d0 + d1 - 2 * s) * u
        z = y0 + h * (s * t**2 + d0 * u) / below
        top = d1 * t**2 + 2 * s * u + d0 * (1 - t) ** 2
        logdet = 2 * s.log() + top.log() - 2 * below.log()
        z, logdet = z.squeeze(-1), logdet.squeeze(-1)
        return torch.where(inside, z, x), torch.where(inside, logdet, 0.0)


def total_variation(y: Tensor, mask: Tensor, lam: float, iterations: int) -> Tensor:
    """Chambolle & Pock (2011), Algorithm 1, for min_x 1/2 ||mask x - y||^2 + lam TV(x)."""
    step = 1 / math.sqrt(8)
    x = ahead = y.clone()
    down, right = torch.zeros_like(y), torch.zeros_like(y)
    for _ in range(iterations):
        down = down + step * F.pad(ahead.diff(dim=-2), (0, 0, 0, 1))
        right = right + step * F.pad(ahead.diff(dim=-1), (0, 1))
        size = (down.square() + right.square()).sqrt().div(lam).clamp_min(1)
        down, right = down / size, right / size
        spread = (
            down + right - F.pad(down[..., :-1, :], (0, 0, 1, 0)) - F.pad(right[..., :-1], (1, 0))
        )
        last, x = x, (x + step * spread + step * mask * y) / (1 + step * mask)
        ahead = 2 * x - last
    return x


def crops(images: list[Tensor], side: int, batch: int) -> Tensor:
    """Random crops of random images, half of them mirrored."""
    found = []
    for i in torch.randint(len(images), (batch,)).tolist():
        image = images[i]
        top = int(torch.randint(image.shape[1] - side + 1, ()))
        left = int(torch.randint(image.shape[2] - side + 1, ()))
        crop = image[:, top : top + side, left : left + side]
        found.append(crop.flip(2) if torch.rand(()) < 0.5 else crop)
    return torch.stack(found)
