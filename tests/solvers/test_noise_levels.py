"""Noise that differs from value to value: every solver weighs each value by its own level."""

from __future__ import annotations

import pytest
import torch

from gaussian_prior import S, gaussian_prior
from innverse import physics as P
from innverse.errors import InputError, ShapeError
from innverse.physics import whiten
from innverse.solvers import EachChannel, solve
from innverse.solvers.baselines import lasso, tv
from innverse.solvers.problem import Problem


def measurement(batch=3, noise=0.05, spread=S):
    physics = P.CompressedSensing(40, (1, 8, 8), seed=1, noise=noise)
    x = 0.5 + spread * torch.randn(batch, 1, 8, 8, generator=_gen())
    return x, physics, physics(x, _gen(9))


def ridge(physics, y, variance, noise):
    """argmin ||A x - y||^2 / (2 noise^2) + ||x - 1/2||^2 / (2 variance)."""
    rho = noise**2 / variance
    return physics.solve_normal(physics.A_adjoint(y) + rho * 0.5, rho, tol=1e-7)


def _gen(seed=0):
    return torch.Generator().manual_seed(seed)


def _levels(*shape):
    return 0.02 + 0.3 * torch.rand(shape, generator=_gen(5))


OPERATORS = {
    "denoising": P.Denoising(),
    "inpainting": P.Inpainting(torch.rand(8, 8, generator=_gen(1)) > 0.3),
    "blur": P.Blur(P.gaussian_kernel(0.7)),
    "blur reflect": P.Blur(P.gaussian_kernel(0.7), "reflect"),
    "downsampling": P.Downsampling(2, (1, 8, 8)),
    "fourier": P.SubsampledFourier(torch.rand(8, 8, generator=_gen(1)) > 0.3),
    "cs": P.CompressedSensing(40, (1, 8, 8)),
    "fast cs": P.FastCompressedSensing(40, (1, 8, 8)),
}


def posterior_mean(physics, y, std, variance):
    """argmin sum ((A x - y) / std)^2 + ||x - 1/2||^2 / variance, by matrices in float64."""
    n = 64
    a = physics.A(torch.eye(n, dtype=torch.float64).view(n, 1, 8, 8)).flatten(1).T
    out = []
    for yi, si in zip(y.double(), std.double().expand(y.shape), strict=True):
        w = si.flatten() ** -2
        left = a.T @ (w[:, None] * a) + torch.eye(n, dtype=torch.float64) / variance
        right = a.T @ (w * yi.flatten()) + 0.5 / variance
        out.append(torch.linalg.solve(left, right).view(1, 8, 8))
    return torch.stack(out).float()


@pytest.mark.parametrize("name", OPERATORS)
def test_map_and_latent_are_the_closed_form_of_a_noise_map(name):
    physics = OPERATORS[name]
    x = 0.5 + S * torch.randn(2, 1, 8, 8, generator=_gen(2))
    clean = physics.A(x)
    std = _levels(*clean.shape)
    y = clean + std * torch.randn(clean.shape, generator=_gen(3))
    if name in ("inpainting", "fourier"):
        y = physics.keep_measured(y)
    prior = gaussian_prior()
    r = solve(y, physics, prior, "map", noise=std, sigma=0.02, steps=400)
    expected = posterior_mean(physics, y, std, S**2 + 0.02**2)
    torch.testing.assert_close(r.x, expected, atol=4e-3, rtol=0)
    problem = Problem.build(y, physics, prior, noise=std)
    weight = float(problem.noise[0]) ** 2
    if name == "denoising":  # with ||z||^2 and the level of the whitened problem as its weight
        r = solve(
            y[:1], physics, gaussian_prior(False), "latent",
            noise=std[:1], gamma=weight, penalty="square", steps=300,
        )  # fmt: skip
        torch.testing.assert_close(
            r.x, posterior_mean(physics, y, std, S**2)[:1], atol=4e-3, rtol=0
        )
    # what is reported is the misfit of the measurement as it was given
    misfit = (physics.A(r.x) - y[: len(r.x)]).flatten(1).norm(dim=1)
    torch.testing.assert_close(r.residual, misfit / y[: len(r.x)].flatten(1).norm(dim=1))


@pytest.mark.parametrize("name", OPERATORS)
def test_the_whitened_operator_is_what_it_says(name):
    physics = OPERATORS[name]
    x = torch.rand(2, 1, 8, 8, dtype=torch.float64)
    std = _levels(*physics.A(x).shape).double()
    y, whitened = whiten(physics.A(x), physics, std)
    level = whitened.sigma.view(-1, *[1] * (y.ndim - 1))
    torch.testing.assert_close(
        whitened.A(x) - y, level * (physics.A(x) - physics.A(x)) / std, atol=1e-10, rtol=0
    )
    assert P.check_adjoint(whitened, x, tol=1e-10) < 1e-10
    rhs, rho = torch.rand(2, 1, 8, 8, dtype=torch.float64), torch.tensor([0.01, 2.0])
    found = whitened.solve_normal(rhs, rho)
    wide = rho.view(-1, 1, 1, 1).double()
    torch.testing.assert_close(whitened.A_normal(found) + wide * found, rhs, atol=1e-7, rtol=0)
    one = whitened.select(torch.tensor([1]))
    torch.testing.assert_close(one.A(x[1:]), whitened.A(x)[1:])
    assert float(one.sigma) == float(whitened.sigma[1])


@pytest.mark.parametrize("shape", [(2, 1, 8, 8), (1, 1, 8, 8), (1, 8, 8), (8, 8), (2, 1, 1, 1)])
def test_maps_of_every_shape_mean_the_same(shape):
    std = _levels(*shape)
    y = 0.5 + S * torch.randn(2, 1, 8, 8, generator=_gen(2))
    r = solve(y, P.Denoising(), gaussian_prior(), "map", noise=std, sigma=0.02, steps=200)
    expected = posterior_mean(P.Denoising(), y, std, S**2 + 0.02**2)
    torch.testing.assert_close(r.x, expected, atol=2e-3, rtol=0)


def test_a_constant_map_is_the_number():
    _, physics, y = measurement()
    options = {"method": "map", "steps": 20}
    number = solve(y, physics, gaussian_prior(), noise=0.05, **options)
    for same in (torch.full((3, 40), 0.05), torch.full((3,), 0.05), P.GaussianNoise(0.05)):
        found = solve(y, physics, gaussian_prior(), noise=same, **options)
        torch.testing.assert_close(found.x, number.x, atol=1e-6, rtol=0)


def test_denoising_with_a_map_is_the_posterior_mean_of_each_pixel():
    # a prior of independent pixels: the level of the others does not matter
    y = torch.rand(2, 1, 8, 8, generator=_gen(1))
    std = torch.linspace(0.0, 0.4, 64).view(1, 1, 8, 8).clone()
    std[0, 0, 0, 0] = 1e-4
    r = solve(y, P.Denoising(noise=std), gaussian_prior())
    wiener = 0.5 + (y - 0.5) * S**2 / (S**2 + std**2)
    # between levels that double the answer is interpolated
    torch.testing.assert_close(r.x, wiener, atol=0.01, rtol=0)
    alone = solve(y[1:], P.Denoising(noise=std), gaussian_prior())
    torch.testing.assert_close(alone.x, r.x[1:])


def test_infinite_noise_marks_missing_values_whatever_they_hold():
    physics = P.Denoising()
    y = 0.5 + 0.1 * torch.randn(1, 1, 8, 8, generator=_gen(2))
    std = torch.full_like(y, 0.05)
    std[..., :3] = torch.inf
    holes = y.clone()
    holes[..., :3] = torch.nan
    for method, options in (("pnp", {}), ("map", {}), ("tv", {"lam": 0.01})):
        r = solve(holes, physics, gaussian_prior(), method, noise=std, **options)
        mask = P.Inpainting(std.isfinite(), noise=0.05)
        same = solve(mask.A(y), mask, gaussian_prior(), method, **options)
        torch.testing.assert_close(r.x, same.x, atol=5e-3, rtol=0)
    with pytest.raises(InputError, match="infinite for every measured value"):
        solve(y, physics, gaussian_prior(), noise=torch.full_like(y, torch.inf))


def test_poisson_weights_are_not_biased_to_the_dark():
    """Under a flat image the estimate is the mean of the counts, not their harmonic mean."""
    physics = P.Denoising(P.PoissonNoise(0.1))
    y = physics(torch.full((1, 1, 64, 64), 0.4), _gen())
    _, whitened = whiten(y, physics)
    w = whitened.weight.square()
    assert abs(float((w * y).sum() / w.sum()) - float(y.mean())) < 0.005
    std = whitened.sigma / whitened.weight
    assert abs(float(std.mean()) - 0.2) < 0.005
    assert abs(float(((y - 0.4) / std).std()) - 1) < 0.05


@pytest.mark.parametrize("method", ["map", "pnp", "tv"])
def test_poisson_noise_is_weighed_by_the_brightness(method):
    """Better than one number for all, where dark and bright are far apart."""
    x = torch.full((4, 1, 8, 8), 0.05)
    x[..., 4:] = 0.9
    physics = P.Denoising(P.PoissonNoise(0.02))
    y = physics(x, _gen())
    options = {"sigma": 0.02} if method == "map" else {}
    found = solve(y, physics, gaussian_prior(), method, **options)
    flat = solve(y, P.Denoising(physics.sigma), gaussian_prior(), method, **options)

    def dark(r):
        return float((r.x - x)[..., :4].square().mean().sqrt())

    assert dark(found) < (dark(flat) if method != "tv" else 1.05 * dark(flat))
    assert found.x.isfinite().all()


def test_the_baselines_alone_weigh_too():
    std = torch.full((1, 1, 8, 8), 0.02)
    std[..., 4:] = 0.5
    y = torch.full((1, 1, 8, 8), 0.5) + std * torch.randn(1, 1, 8, 8, generator=_gen())
    for x in (tv(y, P.Denoising(std)), lasso(y, P.Denoising(std), 1e-2)):
        assert (x - 0.5)[..., :4].abs().max() < 0.1


def test_what_cannot_be_a_level_is_refused():
    y = torch.rand(2, 1, 8, 8)
    with pytest.raises(ShapeError, match="noise level of shape"):
        solve(y, P.Denoising(), gaussian_prior(), noise=torch.ones(3))
    with pytest.raises(ShapeError, match="noise level of shape"):
        solve(y, P.Denoising(), gaussian_prior(), noise=torch.ones(2, 1, 4, 8))
    nan = torch.ones(2, 1, 8, 8)
    nan[0, 0, 0, 0] = torch.nan
    with pytest.raises(InputError.__mro__[1], match="must be >= 0"):
        solve(y, P.Denoising(), gaussian_prior(), noise=nan)


# operators of any norm


@pytest.mark.parametrize("c", [1e-3, 1e3])
@pytest.mark.parametrize("noise", [0.05, None])
@pytest.mark.parametrize("method", ["map", "latent", "pnp", "tv", "lasso", "constrained"])
def test_an_operator_times_c_gives_the_same_images(method, noise, c):
    if method == "constrained" and noise:
        pytest.skip("for exact measurements")
    x, physics, y = measurement(2, noise=noise, spread=0.1)
    prior = gaussian_prior(method not in ("latent", "constrained"))
    # ||A|| = 1, at which nothing is divided
    a = physics.matrix / torch.linalg.matrix_norm(physics.matrix, 2)
    y = physics.A(x) @ torch.eye(40) / torch.linalg.matrix_norm(physics.matrix, 2)
    y = y + (noise or 0) * torch.randn(y.shape, generator=_gen())
    one = P.MatrixPhysics(a, (1, 8, 8), noise)
    other = P.MatrixPhysics(c * a, (1, 8, 8), noise and c * noise)
    expected = solve(y, one, prior, method, steps=60)
    found = solve(c * y, other, prior, method, steps=60)
    # power iteration finds the norm but roughly: weights and floors differ a little
    torch.testing.assert_close(found.x, expected.x, atol=0.01, rtol=0)


@pytest.mark.parametrize("boundary", ["circular", "reflect"])
def test_total_variation_and_lasso_of_norm_100_do_not_diverge(boundary):
    physics = P.Blur(100 * P.gaussian_kernel(1.0), boundary)
    x = torch.rand(1, 1, 16, 16, generator=_gen())
    y = physics.A(x)
    for found in (tv(y, physics, 1.0), lasso(y, physics, 1.0)):
        assert found.abs().max() < 2
        assert (physics.A(found) - y).norm() < 0.1 * y.norm()


def test_user_weights_refer_to_the_operator_as_given():
    x, physics, _ = measurement(1, noise=None)
    big = P.MatrixPhysics(100 * physics.matrix, (1, 8, 8))
    y = big.A(x)
    gamma = 50.0**2
    r = solve(y, big, gaussian_prior(False), "latent", gamma=gamma, penalty="square", steps=300)
    expected = ridge(physics, y / 100, S**2, (gamma / 1e4) ** 0.5)
    torch.testing.assert_close(r.x, expected, atol=2e-3, rtol=0)


# one prior for each channel; magnitudes of complex images


@pytest.mark.parametrize("method", ["pnp", "map", "latent"])
def test_a_prior_for_each_channel_is_that_of_the_channels_alone(method):
    x = torch.rand(2, 2, 8, 8, generator=_gen())
    y = x + 0.1 * torch.randn(x.shape, generator=_gen(1))
    prior = gaussian_prior(method != "latent")
    together = solve(y, P.Denoising(noise=0.1), EachChannel(prior, 2), method)
    apart = solve(y.view(4, 1, 8, 8), P.Denoising(noise=0.1), prior, method)
    torch.testing.assert_close(together.x, apart.x.view(2, 2, 8, 8), atol=1e-3, rtol=0)
    torch.testing.assert_close(
        together.log_prob, apart.log_prob.view(2, 2).sum(1), atol=0.1, rtol=1e-3
    )


def test_a_prior_on_the_magnitude_of_complex_images():
    def there(x):
        return torch.fft.fft2(x, norm="ortho")

    def back(y):
        return torch.fft.ifft2(y, norm="ortho")

    m = torch.rand(2, 1, 8, 8, generator=_gen())
    phase = torch.rand(8, 8, generator=_gen(1)) * 6
    physics = P.Magnitudes((there, back), phase, (1, 8, 8))
    assert P.check_adjoint(physics, m.double(), tol=1e-10) < 1e-10
    y = there(torch.polar(m, phase.expand(m.shape)))
    r = solve(y, physics, gaussian_prior(), "map", noise=0.05, sigma=0.02, steps=100)
    variance = S**2 + 0.02**2  # a unitary A: each pixel is denoised alone
    expected = 0.5 + (m - 0.5) * variance / (variance + 0.05**2)
    torch.testing.assert_close(r.x, expected, atol=1e-3, rtol=0)
