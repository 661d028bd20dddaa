"""The noise of a measurement, estimated from the measurement itself.

The first way that applies:

- what no image explains, y - A A^+ y, is noise alone where A has more rows than its rank;
- a noise-conditional density knows how likely the noisy image is at every level: the most likely one
  is the estimate (maximum likelihood), and texture that the prior knows does not count as noise;
- of k-space, the weakest tenth of its measured stretches: of pictures the outer frequencies;
- of an image-like measurement, the second differences in both directions at once (Immerkaer, CVIU
  64, 1996), in the smoothest tenth of all blocks; of a sinogram the same, where it shows air or the
  inside of something smooth.

Photons that were counted have no one level: their variance is `photon_gain` times the mean (as in Foi
et al., IEEE TIP 17, 2008, without the part of the electronics).
"""

from __future__ import annotations

import functools
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError, UsageError
from ..physics import Blur, Denoising, Downsampling, Inpainting, Tomography
from ..physics.base import name_of
from ..physics.fourier import KSpace
from ..protocols import noise_range
from .problem import Problem

_IMAGES = (Denoising, Inpainting, Blur, Downsampling)  # whose measurement is an image
_ENOUGH = 64  # degrees of freedom, blocks or quads that an estimate needs
_SIDE, _MOST = 192, 1024  # pixels of the crops on which likelihoods, and differences, are taken
_LEVELS = 18
_QUANTILE = 0.1  # of the blocks, from the smoothest on
_DAMPED = 1e-3  # of the largest eigenvalue of A^T A
_STRETCH = 16  # frequencies in a row
_DIM = 0.05  # of the brightest block: darker ones count too few photons to tell

# A given level contradicts the data beyond these. On 32 photographs of training data the estimates
# are never below 0.95 of the truth; above it they are by texture, at most by what stands here.
_TOO_LARGE = 0.7
_BELOW = 0.01  # of the light, that dark frames may leave negative
_TEXTURE = {"likelihood": 0.03, "differences": 0.12}


def estimate_noise(problem: Problem, prior: object = None) -> tuple[Tensor, str]:
    """The standard deviation of the noise of each item (B,), and in words how it was found.

    Raises:
        UsageError: a measurement in which noise cannot be told from signal, such as fewer random
            projections than pixels.
    """
    ways = (
        (_unexplained, "what no image explains"),
        (functools.partial(_most_likely, prior=prior), "maximum likelihood under the prior"),
        (_frequencies, "the weakest frequencies, to which fine texture adds"),
        (_differences, "differences of neighbouring pixels"),
        (functools.partial(_differences, kinds=(Tomography,)), "differences of neighbouring rays"),
    )
    for way, words in ways:
        level = way(problem)
        if level is not None:
            return level, words
    _, physics = problem.given
    raise UsageError(
        f"noise='auto' cannot tell noise from signal in this measurement of {name_of(physics)}: give "
        "the standard deviation, noise=0.01"
    )


@torch.no_grad()
def photon_gain(problem: Problem) -> float:
    """The gain of `PoissonNoise` behind a measurement that is a picture: variance over mean, from
    differences in the smoothest blocks; the median over the items.

    Raises:
        UsageError: a measurement that is no picture, is too small, or is not above zero.
        InputError: values far below zero.
    """
    y, physics = problem.given
    below = float((-y).clamp_min(0).sum() / y.abs().sum().clamp_min(1e-30))
    if below > _BELOW:
        raise InputError(
            f"{below:.0%} of the light is negative, and photons that are counted are not: give the "
            "counts as they were, or the standard deviation of the noise"
        )
    if y.dim() != 4 or y.is_complex() or not isinstance(physics, _IMAGES):
        raise UsageError(
            f"noise='counts' reads the gain from pictures, not from {name_of(physics)}: give "
            "noise=PoissonNoise(gain)"
        )
    known = torch.ones_like(y, dtype=torch.bool)
    if isinstance(physics, Inpainting):
        known = physics.mask.bool().expand_as(y)
    y, known = _middle(y, _MOST), _middle(known, _MOST)
    gains = [_gain_of_item(image, mask) for image, mask in zip(y, known, strict=True)]
    found = torch.tensor([gain for gain in gains if gain is not None])
    if not len(found):
        raise UsageError(
            "noise='counts' needs bright blocks of 8x8 known pixels, of values above 0: give "
            "noise=PoissonNoise(gain)"
        )
    return float(found.median())


def _gain_of_item(y: Tensor, known: Tensor) -> float | None:
    if min(y.shape[-2:]) < 10:
        return None
    r, whole = _second_differences(y).square(), _all_known(known, 3)
    here, side = y[:, 1:-1, 1:-1], 8
    h, w = r.shape[-2] // side * side, r.shape[-1] // side * side
    energy, mean, use = (
        t[:, :h, :w].float().unfold(1, side, side).unfold(2, side, side).mean((-1, -2))
        for t in (r, here, whole)
    )
    ratio = (energy / mean)[(use == 1) & (mean > _DIM * mean.max().clamp_min(1e-30))]
    return float(_quantile(ratio) / _white(side)) if ratio.numel() >= _ENOUGH // 4 else None


def contradictions(problem: Problem, prior: object = None, scale: float = 1.0) -> list[str | None]:
    """Per item, what speaks against the noise level that was given; None if nothing does.

    ``scale`` is what a noise of 1 is for the user.
    """
    silent: list[str | None] = [None] * problem.batch
    if not has_one_level(problem):
        return silent
    level = torch.as_tensor(problem.noise, dtype=torch.float64).flatten().cpu()
    level = level.expand(problem.batch) * problem.scale
    smooth = _differences(problem)
    if smooth is None:
        return silent
    rough, texture = smooth, _TEXTURE["differences"]
    # the likelihood knows texture from noise, but takes long: ask it where there is a doubt
    if bool((smooth.cpu() > 2 * level + _TEXTURE["likelihood"]).any()):
        likely = _most_likely(problem, prior)
        if likely is not None:
            rough, texture = likely, _TEXTURE["likelihood"]
        elif isinstance(problem.given[1], Downsampling):
            texture = math.inf  # small pictures of large ones are full of fine texture
    found = []
    for given, low, high in zip(level.tolist(), smooth.tolist(), rough.tolist(), strict=True):
        if low < _TOO_LARGE * given:
            found.append(_words(scale * given, scale * low))
        elif high > 2 * given + texture:
            found.append(_words(scale * given, scale * high))
        else:
            found.append(None)
    return found


def has_one_level(problem: Problem) -> bool:
    """Whether the noise is one number per item: white, and the same for all pixels."""
    noise = problem.noise
    if noise is None or (problem.model is not None and problem.model.depends_on_signal):
        return False
    if type(problem.physics).__name__ == "Whitened":
        return False
    return torch.as_tensor(noise).numel() in (1, problem.batch)


def _words(given: float, seen: float) -> str:
    return (
        f"noise={given:.3g} was given, but the data look like {seen:.2g}: noise='auto' estimates it"
    )


@torch.no_grad()
def _unexplained(problem: Problem) -> Tensor | None:
    """Root mean square of y - A A^+ y over the dimensions that no image reaches.

    Where A^+ has no closed form it is damped, which ends soon, and by so little that what is left of
    pictures is below the noise.
    """
    y, physics = problem.given
    if isinstance(physics, _IMAGES):
        return None  # every y is explained, or nearly
    if y[0].numel() <= 1.05 * math.prod(problem.shape) and not y.is_complex():
        return None
    probe = torch.randn(y.shape, generator=torch.Generator().manual_seed(0), dtype=y.real.dtype)
    probe = probe.to(y) * (y != 0)
    rho = _DAMPED * physics.norm_squared(physics.A_adjoint(y), 6)

    def rest(y: Tensor) -> Tensor:
        if physics.direct:
            x = physics.A_dagger(y)
        else:
            x = physics.solve_normal(physics.A_adjoint(y), rho)
        return (y - physics.A(x)).flatten(1).abs().square().sum(1)

    free = rest(probe)
    return (rest(y) / free).sqrt() if bool((free > _ENOUGH).all()) else None


@torch.no_grad()
def _most_likely(problem: Problem, prior) -> Tensor | None:
    """argmax over sigma of log p(y; sigma), by a grid in log sigma and a parabola through its top."""
    span = noise_range(prior)
    y, physics = problem.given
    if span is None or not isinstance(physics, Denoising):
        return None
    y = _middle(y, _SIDE)
    step = math.log(span[1] / span[0]) / (_LEVELS - 1)
    levels = [span[0] * math.exp(k * step) for k in range(_LEVELS)]
    levels[-1] = span[1]
    log_p = torch.stack([prior.log_prob(y, level) for level in levels]).double()
    log_p = torch.where(log_p.isfinite(), log_p, -math.inf)
    top = log_p.argmax(0)
    middle = top.clamp(1, _LEVELS - 2)
    before, here, after = (log_p.gather(0, (middle + k)[None])[0] for k in (-1, 0, 1))
    bend = before - 2 * here + after
    shift = torch.where(bend < 0, 0.5 * (before - after) / bend, top - middle)
    shift = torch.where(shift.isfinite(), shift, 0).clamp(-1, 1)
    return (span[0] * torch.exp(step * (middle + shift))).to(problem.y)


@torch.no_grad()
def _frequencies(problem: Problem) -> Tensor | None:
    """Root mean square of the weakest stretches of k-space along its columns."""
    y, physics = problem.given
    if not isinstance(physics, KSpace) or y.shape[-2] < _STRETCH:
        return None
    known = (physics.mask != 0).expand_as(y).unfold(2, _STRETCH, _STRETCH).all(-1)
    energy = y.square().unfold(2, _STRETCH, _STRETCH).mean(-1)
    some = [e[k] for e, k in zip(energy, known, strict=True)]
    if min(map(len, some)) < _ENOUGH:
        return None
    return torch.stack([(_quantile(e) / _white_stretch()).sqrt() for e in some]).to(y)


@torch.no_grad()
def _differences(problem: Problem, kinds: tuple[type, ...] = _IMAGES) -> Tensor | None:
    """From [1 -2 1] x [1 -2 1] in the smoothest blocks; from 2x2 where pixels are missing."""
    y, physics = problem.given
    if y.dim() != 4 or y.is_complex() or not isinstance(physics, kinds):
        return None
    known = torch.ones_like(y, dtype=torch.bool)
    if isinstance(physics, Inpainting):
        known = physics.mask.bool().expand_as(y)
    y, known = _middle(y, _MOST), _middle(known, _MOST)
    # a picture that was clipped has no noise where it is black or white
    ends = y.flatten(1).amin(1).view(-1, 1, 1, 1), y.flatten(1).amax(1).view(-1, 1, 1, 1)
    clipped = known & ((y == ends[0]) | (y == ends[1]))
    parts = zip(y, known & ~clipped, clipped.flatten(1).float().mean(1).tolist(), strict=True)
    found = [_of_item(image, mask, share) for image, mask, share in parts]
    return None if None in found else torch.tensor(found).to(y)


def _of_item(y: Tensor, known: Tensor, clipped: float) -> float | None:
    if min(y.shape[-2:]) < 6:
        return None
    r, whole = _second_differences(y), _all_known(known, 3)
    for side in (8, 4) if min(r.shape[-2:]) >= 8 else ():
        h, w = r.shape[-2] // side * side, r.shape[-1] // side * side
        cut = r[:, :h, :w].square().unfold(1, side, side).unfold(2, side, side)
        use = whole[:, :h, :w].unfold(1, side, side).unfold(2, side, side).flatten(-2).all(-1)
        energy = cut.mean((-1, -2))[use]
        if energy.numel() >= _ENOUGH:
            return float((_quantile(energy) / _white(side)).sqrt())
    if clipped > 0.02:  # of single pixels the noise that was not clipped is no fair sample
        return None
    a, b, c, d = y[:, :-1, :-1], y[:, 1:, :-1], y[:, :-1, 1:], y[:, 1:, 1:]
    quads = ((a - b - c + d) / 2).abs()[_all_known(known, 2)]
    if quads.numel() < _ENOUGH:
        return None
    # the smaller half of |N(0, 1)|: its median is the first quartile of all, 0.3186
    return float(quads.double().quantile(0.25)) / 0.3186


def _second_differences(y: Tensor) -> Tensor:
    """In both directions at once, of white noise of variance 1 with that variance, (C, H, W)."""
    kernel = y.new_tensor([[1, -2, 1], [-2, 4, -2], [1, -2, 1]]).div(6).view(1, 1, 3, 3)
    return F.conv2d(y[:, None], kernel)[:, 0]


def _all_known(known: Tensor, side: int) -> Tensor:
    return -F.max_pool2d(-known.float(), side, 1) > 0


def _quantile(values: Tensor) -> Tensor:
    return values.double().sort().values[int(_QUANTILE * (len(values) - 1))]


@functools.cache
def _white(side: int) -> float:
    """What `_quantile` is for white noise of variance 1."""
    noise = torch.randn(1, 802, 802, generator=torch.Generator().manual_seed(0))
    energy = F.avg_pool2d(_second_differences(noise).square(), side)
    return float(_quantile(energy.flatten()))


@functools.cache
def _white_stretch() -> float:
    """What `_quantile` is for stretches of white noise of variance 1."""
    noise = torch.randn(100_000, _STRETCH, generator=torch.Generator().manual_seed(0))
    return float(_quantile(noise.square().mean(1)))


def _middle(y: Tensor, side: int) -> Tensor:
    h, w = y.shape[-2:]
    top, left = max(0, (h - side) // 2), max(0, (w - side) // 2)
    return y[..., top : top + side, left : left + side]
