"""Rounded values and JPEG pictures: against Pillow's files, exact probabilities and least squares."""

from __future__ import annotations

import io
import math

import numpy as np
import PIL.Image
import pytest
import torch
import torch.nn.functional as F

import innverse
from innverse import physics as P
from innverse.errors import InnverseError, ShapeError
from innverse.physics.jpeg import quantisation_tables


def _smooth(*shape, cells=6):
    small = torch.rand(1, shape[0], cells, cells, generator=torch.Generator().manual_seed(1))
    x = F.interpolate(small, shape[1:], mode="bicubic").clamp(0, 1)
    return (255 * x).round() / 255


def _by_pillow(x, **how):
    array = (255 * x[0]).round().byte().numpy()
    picture = PIL.Image.fromarray(array[0] if len(array) == 1 else array.transpose(1, 2, 0))
    file = io.BytesIO()
    picture.save(file, "JPEG", **how)
    opened = PIL.Image.open(file)
    back = np.asarray(opened, np.float32)
    back = back[None] if back.ndim == 2 else back.transpose(2, 0, 1)
    return torch.from_numpy(back.copy()) / 255, opened.quantization


@pytest.mark.parametrize("quality", [5, 30, 75, 95])
def test_a_gray_jpeg_is_pillows(quality):
    x = _smooth(1, 40, 37)
    theirs, tables = _by_pillow(x, quality=quality)
    ours = P.JPEG((1, 40, 37), quality)(x)[0]
    # libjpeg's cosines are integers: a level, where a coefficient lies between two
    off = 255 * (ours - theirs).abs()
    assert float(off.median()) == 0 and float((off > 1.01).float().mean()) < 0.05
    assert tables[0] == quantisation_tables(quality)[0].flatten().tolist()
    assert torch.equal(P.JPEG((1, 40, 37), tables=tables)(x)[0], ours)


@pytest.mark.parametrize("subsampling", [False, True])
def test_a_colour_jpeg_is_near_pillows(subsampling):
    x = _smooth(3, 48, 37, cells=3)
    theirs, tables = _by_pillow(x, quality=60, subsampling=2 if subsampling else 0)
    ours = P.JPEG((3, 48, 37), 60, subsampling)(x)[0]
    # libjpeg rounds luma and chroma between, and interpolates chroma
    assert 255 * float((ours - theirs).abs().mean()) < (3 if subsampling else 1)
    assert tables[1] == quantisation_tables(60)[1].flatten().tolist()


@pytest.mark.parametrize(("shape", "sub"), [((1, 16, 16), 0), ((3, 16, 24), 0), ((3, 17, 10), 1)])
def test_a_jpeg_differs_from_its_picture_by_less_than_half_a_step_in_each_coefficient(shape, sub):
    physics = P.JPEG(shape, 40, bool(sub))
    x = torch.rand(4, *shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noise, t = physics.noise, physics.noise.basis
    assert P.check_adjoint(t, x, tol=1e-12) < 1e-12
    exact = noise.codec.decode(noise.rounded(t.A(physics.A(x))))
    if shape[1] % 16 == 0 and not sub:  # whole blocks: decoding is the inverse
        off = ((t.A(exact) - t.A(x)) / noise.step).abs()
        assert float(off.max()) <= 0.5 + 1e-9
        again = noise.rounded(t.A(exact))
        assert torch.allclose(t.A(exact), again, atol=1e-9)  # once is enough
    spread = ((noise.rounded(t.A(x)) - t.A(x)) / noise.step).square().mean().sqrt()
    assert float(spread) < 0.5
    assert float(noise.usual.sigma.square().mean()) == pytest.approx(
        float(noise.step.square().mean()) / 12
    )


def test_the_probability_of_a_cell_is_exact():
    noise = P.QuantisationNoise(0.5, sigma=0.2, limits=(0.0, 1.0))
    clean = torch.tensor([[0.1], [0.45], [0.8], [2.0], [-3.0]], dtype=torch.float64)
    # the ends of a cell are softened by 1/20 of a step besides
    cdf = torch.distributions.Normal(clean, math.hypot(0.2, 0.05 * 0.5)).cdf
    levels = {0.0: (-math.inf, 0.25), 0.5: (0.25, 0.75), 1.0: (0.75, math.inf)}
    for level, (low, high) in levels.items():
        exact = (cdf(torch.tensor(high)) - cdf(torch.tensor(low))).flatten()
        found = noise.log_likelihood(clean, torch.full_like(clean, level)).exp()
        assert torch.allclose(found, exact, atol=1e-12)
    # far outside a cell it falls off like a Gaussian, with a gradient that leads back
    far = torch.tensor([[5.0]], dtype=torch.float64, requires_grad=True)
    value = noise.log_likelihood(far, torch.tensor([[0.5]], dtype=torch.float64))
    (slope,) = torch.autograd.grad(value.sum(), far)
    assert math.isfinite(float(value)) and float(slope) < 0


def test_rounding_has_the_deviation_that_solvers_go_by():
    noise = P.QuantisationNoise(0.1, sigma=0.05)
    clean = torch.rand(1, 1, 200, 200, generator=torch.Generator().manual_seed(0))
    y = noise(clean, torch.Generator().manual_seed(1))
    assert float((y - clean).std()) == pytest.approx(noise.sigma, rel=0.02)
    few = P.build("quantisation", (1, 8, 8), bits=2)(torch.linspace(-1, 2, 64).view(1, 1, 8, 8))
    assert few.unique().tolist() == pytest.approx([0, 1 / 3, 2 / 3, 1])
    assert P.build("quantisation", (1, 8, 8), bits=2, sigma=0.1).sigma == pytest.approx(
        math.hypot(0.1, 1 / 3 / math.sqrt(12))
    )


def test_the_deviations_of_rounded_coefficients_are_those_that_they_have():
    # a picture whose coefficients follow a Laplace distribution that falls with the frequency
    g = torch.Generator().manual_seed(0)
    u = torch.rand(1, 1, 256, 256, generator=g, dtype=torch.float64) - 0.5
    f = (torch.arange(8.0)[:, None] ** 2 + torch.arange(8.0) ** 2).sqrt().clamp_min(1)
    c = -u.sign() * torch.log1p(-2 * u.abs()) * (0.6 / f).repeat(32, 32)
    noise = P.JPEG((1, 256, 256), 20).noise
    levels = noise.rounded(c + noise.offset)
    off = (levels - noise.offset - c).square()
    expected = noise.std(levels).square()
    for band in (slice(0, 2), slice(2, 5), slice(5, 8)):
        at = torch.arange(256).view(32, 8)[:, band].flatten()
        found, told = (v[0, 0][at][:, at].mean() for v in (off, expected))
        assert float(told) == pytest.approx(float(found), rel=0.1)


@pytest.mark.parametrize("shape", [(1, 24, 24), (3, 20, 16)])
def test_solvers_weigh_each_coefficient_by_its_step(shape):
    x = torch.full((1, *shape), 0.3)
    x[..., 5:15, 3:11], x[:, :1, 9:, 7:] = 0.7, 0.9
    physics = P.JPEG(shape, 10)
    y = physics(x)
    found = innverse.solve(y, physics, method="tv")
    before, after = ((v - x).square().mean() for v in (y, found.x))
    assert float(after) < 0.95 * float(before)
    assert bool(found.converged.all())
    # gray: the least-squares step is in closed form, whatever the weights
    _, a = P.whiten(y, physics)
    assert P.check_adjoint(a, x) < 1e-4
    assert a.direct == (shape == (1, 24, 24))
    rhs = torch.randn(1, *shape, dtype=torch.float64)
    solved = a.solve_normal(rhs, 0.3)
    assert torch.allclose(a.A_normal(solved) + 0.3 * solved, rhs, atol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: P.JPEG((2, 8, 8)),
        lambda: P.JPEG((1, 8, 8), quality=0),
        lambda: P.JPEG((1, 8, 8), quality=50.5),
        lambda: P.JPEG((1, 8, 8), tables=[[1, 2, 3]]),
        lambda: P.JPEG((1, 8, 8), tables=[[0] * 64]),
        lambda: P.QuantisationNoise(0.0),
        lambda: P.QuantisationNoise(float("nan")),
        lambda: P.QuantisationNoise(0.1, sigma=-1),
        lambda: P.QuantisationNoise(0.1, limits=(1, 0)),
        lambda: P.build("jpeg", (1, 8, 8), quality=200),
        lambda: P.build("jpeg", (1, 8, 8), gain=0.1),
        lambda: P.build("quantisation", (1, 8, 8), bits=0),
        lambda: P.ChannelMixing([[0.0, 0.0]]),
        lambda: P.ChannelMixing([0.5, 0.5]),
        lambda: P.ChannelMixing([[1.0, 2.0]]).A(torch.ones(1, 3, 4, 4)),
        lambda: P.build("grayscale", (2, 8, 8)),
    ],
)
def test_what_makes_no_sense_is_one_line(make):
    with pytest.raises(InnverseError) as e:
        make()
    assert "\n" not in str(e.value)


def test_the_wrong_size_is_named():
    with pytest.raises(ShapeError, match=r"JPEG measures images of shape \(B, 1, 8, 8\)"):
        P.JPEG((1, 8, 8)).A(torch.ones(1, 1, 9, 8))
