"""log p(y | u) as it is sampled is that of the noise that was given, whatever its law, its level and
the scale of the images."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Normal, Poisson

import innverse
from innverse import physics as P
from innverse.solvers.posterior.likelihood import log_of_count
from innverse.solvers.posterior.modes.constant import log_constant
from innverse.solvers.posterior.modes.setting import target_of
from innverse.solvers.problem import Problem
from innverse.solvers.scale import onto_unit

from .levels import SHAPE, Levels
from .test_hmc import Gaussian

X = 0.2 + 0.6 * torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(0)).double()
NEAR = X + 0.05 * torch.randn(X.shape, generator=torch.Generator().manual_seed(1)).double()


def told(y, physics, noise=None, units=None):
    """log p(y | u) of the pictures X against NEAR, as chains see them, u on [0, 1]."""
    problem = Problem.build(y, physics, None, noise)
    problem = problem if units is None else onto_unit(problem, units)
    target = target_of(problem, None, 1)
    return target.log_likelihood(X) - target.log_likelihood(NEAR)


def normal(y, mean, other, std):
    std = torch.as_tensor(std).double()
    each = Normal(mean, std).log_prob(y) - Normal(other, std).log_prob(y)
    return each.flatten(1).sum(1)


def photons(k, rate, other):
    return (Poisson(rate).log_prob(k) - Poisson(other).log_prob(k)).flatten(1).sum(1)


@pytest.mark.parametrize("noise", [1e-3, 1e-5, torch.tensor([1e-4, 0.3])])
def test_low_levels_of_noise_are_taken_as_they_are(noise):
    level = torch.as_tensor(noise).double().view(-1, 1, 1, 1)
    y = X + 3 * level
    torch.testing.assert_close(told(y, P.Denoising(), noise), normal(y, X, NEAR, level))


def test_maps_of_noise_are_taken_as_they_are_however_far_they_reach():
    std = torch.logspace(-4, 0, 32).double().view(2, *SHAPE)
    y = X + std
    torch.testing.assert_close(told(y, P.Denoising(), std), normal(y, X, NEAR, std))
    rows = P.MatrixPhysics(torch.eye(16).double(), SHAPE)  # a map (B, m) is one of two items too
    found = told(y.flatten(1), rows, std.flatten(1))
    torch.testing.assert_close(found, normal(y, X, NEAR, std))


@pytest.mark.parametrize("units", [(0, 100), (50, 80), (-20, 80)])
@pytest.mark.parametrize("gain", [1.0, 5.0])
def test_photons_are_counted_on_any_scale_of_the_images(units, gain):
    low, span = units[0], units[1] - units[0]
    rate, other = ((low + span * x).clamp_min(1e-30) / gain for x in (X, NEAR))
    k = torch.poisson(rate + 1, generator=torch.Generator().manual_seed(0))
    k = torch.where(torch.minimum(rate, other) > 1e-20, k, 0)
    found = told(gain * k, P.Denoising(noise=P.PoissonNoise(gain)), units=units)
    torch.testing.assert_close(found, photons(k, rate, other))


def test_negative_counts_are_one_line():
    with pytest.raises(innverse.errors.InputError, match="3 of 32 photon counts are negative"):
        y = 10 * X.clone()
        y[0, 0, 0, :3] = -4.0
        Problem.build(y, P.Denoising(noise=P.PoissonNoise(1.0)), None)


def test_photons_that_get_through_are_counted_on_any_scale_of_the_images():
    model = P.TransmissionNoise(50.0, absorption=0.02)
    rate, other = (50 * torch.exp(-0.02 * (-10 + 60 * x)) for x in (X, NEAR))
    k = torch.poisson(rate, generator=torch.Generator().manual_seed(0))
    y = model.log(k, torch.tensor(50.0))
    found = told(y, P.Denoising(noise=model), units=(-10, 50))
    torch.testing.assert_close(found, photons(k, rate, other))


def test_an_operator_that_is_not_linear_is_measured_on_the_scale_of_the_images():
    square = P.Nonlinear(lambda x: x.square(), SHAPE, noise=10.0)
    mean, other = ((-5 + 20 * x).square() for x in (X, NEAR))
    y = mean + 10
    torch.testing.assert_close(told(y, square, units=(-5, 15)), normal(y, mean, other, 10.0))
    problem = onto_unit(Problem.build(y, square, None), (-5, 15))
    derivative = problem.physics.at(X)
    torch.testing.assert_close(derivative.A(NEAR), 40 * (-5 + 20 * X) * NEAR)
    assert P.check_adjoint(derivative, X) < 1e-10


def test_each_part_of_a_stack_has_its_own_law():
    parts = P.Inpainting(torch.ones(4, 4), noise=P.PoissonNoise(0.1)), P.Denoising(noise=0.3)
    both = P.stack(*parts, image_shape=SHAPE)
    k = torch.poisson(10 * X, generator=torch.Generator().manual_seed(0))
    y = both.flatten([0.1 * k, X + 0.2])
    want = photons(k, 10 * X, 10 * NEAR.clamp_min(0)) + normal(X + 0.2, X, NEAR, 0.3)
    torch.testing.assert_close(told(y, both), want)
    constant = log_of_count(k).flatten(1).sum(1) + 16 * Normal(0.0, 0.3).log_prob(torch.tensor(0.0))
    torch.testing.assert_close(log_constant(Problem.build(y, both, None)), constant.double())


def test_maps_of_every_item_go_with_their_chains():
    std = torch.logspace(-2, 0, 32).double().view(2, 16)
    both = P.stack(
        P.Denoising(noise=0.3), P.MatrixPhysics(torch.eye(16).double(), SHAPE, noise=std),
        image_shape=SHAPE,
    )  # fmt: skip
    y = both.flatten([X + 0.2, X.flatten(1) + std])
    problem = Problem.build(y, both, None)
    found = [
        target_of(problem, None, 3).log_likelihood(u.repeat_interleave(3, 0)) for u in (X, NEAR)
    ]
    want = normal(X + 0.2, X, NEAR, 0.3) + normal(X + std.view(X.shape), X, NEAR, std.view(X.shape))
    torch.testing.assert_close(found[0] - found[1], want.repeat_interleave(3))


def test_cells_of_every_item_go_with_their_chains():
    step = torch.tensor([0.1, 0.3]).double().view(-1, 1, 1, 1).expand(2, *SHAPE)
    rounded = P.Denoising(P.QuantisationNoise(step, sigma=0.05))
    problem = Problem.build(rounded.noise.rounded(X), rounded, None)
    one, three = (
        target_of(problem, None, n).log_likelihood(NEAR.repeat_interleave(n, 0)) for n in (1, 3)
    )
    torch.testing.assert_close(three, one.repeat_interleave(3))


def test_single_values_without_noise_change_no_others():
    std = torch.full((2, *SHAPE), 0.2).double()
    std[0, 0, 0, 0], std[0, 0, 0, 1] = 0, 1e-4
    problem, exact = Problem.build(X + std, P.Denoising(), None, std).without_exact()
    target = target_of(problem, None, 1)
    found = target.log_likelihood(X) - target.log_likelihood(NEAR)
    assert exact.tolist() == [True, False]
    torch.testing.assert_close(found, normal(X + std, X, NEAR, torch.where(std > 0, std, 0.002)))
    parts = P.Inpainting(torch.eye(4)), P.Denoising(noise=0.3)
    both = P.stack(*parts, image_shape=SHAPE)
    problem, exact = Problem.build(both.A(X), both, None).without_exact()
    assert exact.all() and sorted(set(problem.model.std(both.A(X)).unique().tolist())) == [
        0.002,
        0.3,
    ]


def test_a_single_value_without_noise_is_noted():
    std = torch.full((1, *SHAPE), 0.2).double()
    std[..., 0, 0] = 0
    options = {"draws": 8, "chains": 2, "warmup": 0, "steps": 1}
    with pytest.warns(innverse.solvers.SolveWarning, match="level of 0"):
        innverse.solve(X[:1], P.Denoising(), Gaussian(), "posterior", noise=std, **options)


@pytest.mark.parametrize("noise", ["level", "map", "read"])
def test_evidence_is_of_the_data_in_their_own_units(noise):
    """The same data and model, told in images of 0 to 1 and of 0 to 255."""
    made = {
        "level": lambda unit: 0.1 * unit,
        "map": lambda unit: unit * torch.linspace(0.1, 0.2, 16).double().view(1, *SHAPE),
        "read": lambda unit: P.PoissonGaussianNoise(0.05 * unit, 0.03 * unit),
    }[noise]
    plain, scaled = Problem.build(X, P.Denoising(), None, made(1)), 255 * X
    other = onto_unit(Problem.build(scaled, P.Denoising(), None, made(255)), (0.0, 255.0))
    told = [target_of(p, None, 1).log_likelihood(NEAR) + log_constant(p) for p in (plain, other)]
    want = told[0] - 16 * torch.tensor(255.0).double().log()
    torch.testing.assert_close(told[1], want, rtol=1e-5, atol=1e-4)


def test_the_clean_picture_of_rounded_values_is_refused():
    rounded = P.Denoising(noise=P.QuantisationNoise(0.25))
    with pytest.raises(innverse.errors.UsageError, match="Gaussian noise"):
        innverse.solve(rounded(X), rounded, Levels(), "posterior", of="clean", sigma=0.02)


def test_draws_are_as_wide_as_low_noise_leaves_them():
    y = Gaussian().sample(1, torch.Generator().manual_seed(0))
    options = {"draws": 64, "chains": 2, "warmup": 30, "steps": 5}
    found = innverse.solve(y, P.Denoising(), Gaussian(), "posterior", noise=3e-4, **options)
    assert 2.4e-4 < found.std.square().mean().sqrt() < 3.6e-4


def test_a_level_of_zero_is_said_to_be_taken_as_another():
    y, options = X[:1], {"draws": 8, "chains": 2, "warmup": 0, "steps": 1}
    with pytest.warns(innverse.solvers.SolveWarning, match="level of 0"):
        found = innverse.solve(y, P.Denoising(), Gaussian(), "posterior", noise=0.0, **options)
    assert "level of 0" in found.notes[0][0]


def test_a_law_that_is_not_known_is_said_to_be_taken_as_gaussian():
    class LaplaceNoise(torch.nn.Module):
        b = 0.05

        def forward(self, y):
            return y + torch.distributions.Laplace(0.0, self.b).sample(y.shape)

    both = P.Denoising(noise=LaplaceNoise()), P.Denoising(noise=0.05)
    stacked = P.stack(*both, image_shape=SHAPE)
    options = {"draws": 8, "chains": 2, "warmup": 2, "steps": 2}
    for physics, said in ((both[0], True), (both[1], False), (stacked, True)):
        y = physics.A(NEAR)
        found = innverse.solve(y, physics, Levels(), "posterior", **options)
        assert ("LaplaceNoise is taken as Gaussian" in str(found.notes)) is said
