"""Image, noise level and operator drawn together, against a grid where all is Gaussian."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from innverse.errors import UsageError
from innverse.physics import Blur, Denoising, Inpainting, LinearPhysics, gaussian_kernel
from innverse.solvers import joint_posterior
from innverse.solvers.posterior.modes.unknown import OnePerItem

from .test_hmc import SHAPE, Gaussian

LEVELS, WIDTHS, TRUE = (0.05, 1.0), (0.35, 1.2), 0.2


class Repeated(LinearPhysics):
    """The same blur measured six times: the differences tell the noise, the mean the width."""

    direct = True

    def __init__(self, width: float):
        super().__init__()
        self.one = Blur(gaussian_kernel(width, 3).double())

    def A(self, x):
        return self.one.A(x).repeat(1, 6, 1, 1)

    def A_adjoint(self, y):
        return self.one.A_adjoint(y.sum(1, keepdim=True))

    def solve_normal(self, rhs, rho, x0=None, *, tol=None, max_iter=0):
        return self.one.solve_normal(rhs / 6, rho / 6)


blur = Repeated


def measured(physics, n: int = 1) -> Tensor:
    g = torch.Generator().manual_seed(5)
    y = physics.A(Gaussian().sample(n, g))
    return y + TRUE * torch.randn(y.shape, generator=g, dtype=torch.float64)


def grid(y: Tensor, make, widths: Tensor, levels: Tensor, black=0.0, span=1.0) -> Tensor:
    """p(width, level | y) with log-uniform priors, on a grid of both, of images black + span u."""
    prior, eye = Gaussian(), torch.eye(16, dtype=torch.float64)
    table = torch.empty(len(widths), len(levels), dtype=torch.float64)
    for i, width in enumerate(widths.tolist()):
        a = make(width).A(eye.view(16, *SHAPE)).flatten(1).T
        for j, level in enumerate(levels.tolist()):
            covariance = (
                span**2 * a @ prior.covariance @ a.T + level**2 * torch.eye(len(a)).double()
            )
            mean = a @ (black + span * prior.mean)
            law = torch.distributions.MultivariateNormal(mean, covariance)
            table[i, j] = law.log_prob(y.flatten())
    return table.flatten().softmax(0).view_as(table)


def moments(log_values: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    mean = (weights * log_values).sum()
    return mean, (weights * (log_values - mean).square()).sum().sqrt()


def agrees(draws: Tensor, size: Tensor, log_values: Tensor, weights: Tensor, least=80) -> None:
    mean, std = moments(log_values, weights)
    error = std / size.sqrt()
    assert abs(draws.log().mean() - mean) < 4 * error
    assert abs(draws.log().std() - std) < 4 * error  # of heavier tails than a normal's
    assert size > least


def log_grid(bounds: tuple[float, float], n: int) -> Tensor:
    """The middles of n cells."""
    t = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    return bounds[0] * (bounds[1] / bounds[0]) ** t


def test_the_noise_level_is_what_a_grid_says():
    y = measured(blur(0.8))
    found = joint_posterior(
        y, blur(0.8), Gaussian(), noise=LEVELS, init=y[:, :1],
        draws=1200, chains=10, warmup=40, steps=5,
    )  # fmt: skip
    levels = log_grid((0.1, 0.4), 60)
    weights = grid(y, blur, torch.tensor([0.8]), levels)[0]
    agrees(found.noise, found.ess["noise"], levels.log(), weights)
    assert found.noise.shape == (1200, 1) and found.parameter is None
    assert found.converged.all(), (found.images.status, found.r_hat)
    assert ((found.noise > LEVELS[0]) & (found.noise < LEVELS[1])).all()


def test_noise_level_and_width_are_what_a_grid_says():
    y = measured(blur(0.8))
    found = joint_posterior(
        y, blur, Gaussian(), noise=LEVELS, parameter=WIDTHS, init=y[:, :1],
        draws=480, chains=4, warmup=40, steps=5,
    )  # fmt: skip
    widths, levels = log_grid(WIDTHS, 20), log_grid((0.1, 0.4), 20)
    weights = grid(y, blur, widths, levels)
    agrees(found.parameter, found.ess["parameter"], widths.log(), weights.sum(1), least=10)
    agrees(found.noise, found.ess["noise"], levels.log(), weights.sum(0), least=10)


class Gain(LinearPhysics):
    """An unknown gain: what it makes of black depends on it."""

    def __init__(self, gain: float):
        super().__init__()
        self.gain = gain

    def A(self, x):
        return self.gain * x

    def A_adjoint(self, y):
        return self.gain * y


@pytest.mark.parametrize("black", [20.0, -50.0])
def test_images_on_another_scale(black):
    span, few = 100.0, {"draws": 960, "chains": 8, "warmup": 60, "steps": 5}
    scale, bounds = (black, black + span), (0.5, 2.0)
    x = black + span * measured(Denoising())
    found = joint_posterior(
        0.9 * x,
        Gain,
        Gaussian(),
        noise=(5.0, 100.0),
        parameter=bounds,
        x_range=scale,
        init=x,
        **few,
    )
    gains, levels = log_grid(bounds, 40), log_grid((5.0, 100.0), 40)
    weights = grid(0.9 * x, Gain, gains, levels, black, span)
    agrees(found.parameter, found.ess["parameter"], gains.log(), weights.sum(1), least=10)
    agrees(found.noise, found.ess["noise"], levels.log(), weights.sum(0), least=10)
    middle = found.images.x.mean()
    assert abs(middle - x.mean()) < 0.3 * span
    one = Gain(float(found.parameter.mean())).A(found.images.x) - 0.9 * x
    want = one.norm() / (0.9 * x).norm()
    assert torch.allclose(found.images.residual, want, rtol=1e-6)


@pytest.mark.slow
def test_calibration_of_noise_level_and_width_on_many_draws():
    y = measured(blur(0.8))
    found = joint_posterior(
        y, blur, Gaussian(), noise=LEVELS, parameter=WIDTHS, init=y[:, :1],
        draws=8000, chains=8, warmup=100, steps=5,
    )  # fmt: skip
    widths, levels = log_grid(WIDTHS, 40), log_grid((0.1, 0.4), 40)
    weights = grid(y, blur, widths, levels)
    agrees(found.parameter, found.ess["parameter"], widths.log(), weights.sum(1))
    agrees(found.noise, found.ess["noise"], levels.log(), weights.sum(0))
    # draws belong together
    a, b = found.parameter.log().flatten(), found.noise.log().flatten()
    (ma, sa), (mb, sb) = (
        moments(widths.log(), weights.sum(1)),
        moments(levels.log(), weights.sum(0)),
    )
    want = (weights * (widths.log() - ma)[:, None] * (levels.log() - mb)).sum() / (sa * sb)
    assert abs(torch.corrcoef(torch.stack((a, b)))[0, 1] - want) < 0.06


def test_operators_of_their_own_for_every_item():
    parts = [blur(0.5).one, blur(1.5).one]
    together, g = OnePerItem(parts), torch.Generator().manual_seed(0)
    x = torch.rand(2, *SHAPE, generator=g, dtype=torch.float64)
    rho = torch.tensor([0.1, 2.0], dtype=torch.float64)
    for i, part in enumerate(parts):
        one = x[i : i + 1]
        assert torch.equal(together.A(x)[i : i + 1], part.A(one))
        assert torch.equal(together.A_adjoint(x)[i : i + 1], part.A_adjoint(one))
        solved = together.solve_normal(x, rho)[i : i + 1]
        assert torch.allclose(part.A_normal(solved) + rho[i] * solved, one)


def test_pixels_that_were_not_measured_say_nothing_of_the_noise():
    g = torch.Generator().manual_seed(0)
    physics = Inpainting.random(SHAPE, 0.5, g)
    y = physics.A(10 * measured(Denoising()))  # hardly more than noise
    few = {"draws": 1000, "chains": 20, "warmup": 40, "steps": 4, "noise": (0.5, 50.0)}
    found = joint_posterior(y, physics, Gaussian(), init=y[:, :1], **few)
    seen = physics.mask.flatten().bool()
    prior, levels = Gaussian(), log_grid(few["noise"], 200)
    covariance = prior.covariance[seen][:, seen]
    laws = [
        torch.distributions.MultivariateNormal(
            prior.mean[seen], covariance + s**2 * torch.eye(len(covariance)).double()
        )
        for s in levels.tolist()
    ]
    log_p = torch.stack([law.log_prob(y.flatten()[seen]) for law in laws])
    agrees(found.noise, found.ess["noise"], levels.log(), log_p.softmax(0))


def test_whole_numbers_and_levels_are_in_units_of_the_data():
    y = (255 * measured(Denoising()).clamp(0, 1)).round().to(torch.uint8)
    few = {"draws": 400, "chains": 4, "warmup": 60, "steps": 4}
    of_bytes = joint_posterior(y, Denoising(), Gaussian(), x_range=(0, 255), init=y.double(), **few)
    unit = joint_posterior(y.double() / 255, Denoising(), Gaussian(), init=y.double() / 255, **few)
    for some, same in (
        (of_bytes.noise, unit.noise),
        (of_bytes.images.std, unit.images.std),
        (of_bytes.images.x, unit.images.x),
    ):
        assert 0.5 < some.mean() / (255 * same.mean()) < 2


def test_a_known_noise_level_stays_and_items_are_alone():
    y = measured(blur(0.8), 2)
    few = {"draws": 16, "chains": 2, "warmup": 4, "steps": 2, "noise": 0.2, "parameter": WIDTHS}
    found = joint_posterior(y, blur, Gaussian(), init=y[:, :1], **few)
    assert found.noise is None and found.parameter.shape == (16, 2)
    alone = joint_posterior(y[1:], blur, Gaussian(), init=y[1:, :1], **few)
    assert torch.allclose(alone.parameter[:, 0], found.parameter[:, 1], atol=1e-9)
    assert found.images.samples.shape == (16, 2, *SHAPE)
    assert not found.converged.any()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"noise": (0.5, 0.1)}, "noise=.*bounds"),
        ({"noise": (0.0, 0.1)}, "noise=.*bounds"),
        ({"parameter": (-1, 2)}, "parameter=.*bounds"),
        ({"parameter": (1, 2, 3)}, "parameter=.*bounds"),
        ({"noise": 0.1}, "are known"),
        ({"parameter": (1, 1)}, "are equal"),
    ],
)
def test_what_makes_no_sense_is_one_line(options, words):
    y = measured(Denoising())
    with pytest.raises(UsageError, match=words) as caught:
        joint_posterior(y, Denoising(), Gaussian(), init=y, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("wrong", [{"draws": 3}, {"chains": 0}, {"steps": 0}, {"warmup": -1}])
def test_numbers_that_make_no_chains_are_refused(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        joint_posterior(torch.rand(1, *SHAPE), Denoising(), Gaussian(), **wrong)
