"""Solvers against closed forms: under a Gaussian prior every method has a known answer."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from gaussian_prior import Gaussian, S, gaussian_prior
from innverse import flows
from innverse import physics as P
from innverse.errors import InputError, ShapeError, UsageError
from innverse.solvers import options as method_options
from innverse.solvers import solve
from innverse.solvers.curvature import inverse_curvature
from innverse.solvers.pnp import PlugAndPlay
from innverse.solvers.problem import Problem
from innverse.solvers.starts import STARTS, latent_start


def rough_prior(dtype=torch.float32):
    """A small noise-conditional Glow whose weights are random."""
    torch.manual_seed(0)
    flow = flows.build(
        "glow", (1, 8, 8), levels=2, steps=2, hidden=8, noise=(0.01, 0.4), activation="silu"
    )
    flow = flow.eval().to(dtype)
    for p in flow.parameters():
        p.data.add_(0.05 * torch.randn_like(p)).requires_grad_(False)
    return flow


def measurement(batch=3, noise=0.05, seed=0, spread=S):
    g = torch.Generator().manual_seed(seed)
    physics = P.CompressedSensing(40, (1, 8, 8), seed=1, noise=noise)
    x = 0.5 + spread * torch.randn(batch, 1, 8, 8, generator=g)
    return x, physics, physics(x, g)


def ridge(physics, y, variance, noise):
    """argmin ||A x - y||^2 / (2 noise^2) + ||x - 1/2||^2 / (2 variance)."""
    a, y, rho = physics.matrix.double(), y.double(), noise**2 / variance
    normal = a.T @ a + rho * torch.eye(a.shape[1], dtype=a.dtype)
    x = torch.linalg.solve(normal, (y @ a + rho * 0.5).T).T
    return x.view(-1, 1, 8, 8).float()


def nearest_to_the_mean(matrix, y):
    """argmin ||x - 1/2|| among the x with A x = y."""
    a, y = matrix.double(), y.double()
    x = 0.5 + (y - 0.5 * a.sum(1)) @ torch.linalg.pinv(a).T
    return x.view(-1, 1, 8, 8).float()


def test_map_is_the_closed_form():
    _, physics, y = measurement()
    r = solve(y, physics, gaussian_prior(), "map", sigma=0.02, steps=400)
    torch.testing.assert_close(r.x, ridge(physics, y, S**2 + 0.02**2, 0.05), atol=2e-3, rtol=0)
    assert r.converged.all() and r.log_prob.shape == (3,)


def test_map_is_there_after_few_steps_where_the_data_are_stiff():
    """Singular values of A from 1 to .01: the curvature of the misfit is known beforehand."""
    u, _, v = torch.linalg.svd(
        torch.randn(40, 64, generator=torch.Generator().manual_seed(0)), False
    )
    physics = P.MatrixPhysics(u * torch.logspace(0, -2, 40) @ v, (1, 8, 8), noise=0.005)
    y = physics(0.5 + S * torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1)))
    r = solve(y, physics, gaussian_prior(), "map", sigma=[0.2], steps=12)
    torch.testing.assert_close(r.x, ridge(physics, y, S**2 + 0.2**2, 0.005), atol=3e-3, rtol=0)


@pytest.mark.parametrize("noise", [0.05, torch.tensor([0.02, 0.05])])
def test_the_inverse_curvature_is_that_of_the_whole_matrix(noise):
    """Of items in any order; in the padding, the prior's alone."""
    physics = P.Blur(torch.rand(3, 3) / 5, noise=noise, image_shape=(1, 6, 6))
    y = torch.rand(2, 1, 6, 6, dtype=torch.float64)
    problem = Problem.build(y, physics.double(), None)
    r, idx = torch.randn(2, 1, 8, 8, dtype=torch.float64), torch.tensor([1, 0])
    found = inverse_curvature(problem, torch.zeros_like(r), 0.1)(r, idx)
    eye = torch.eye(36, dtype=torch.float64)
    a = physics.A(eye.view(36, 1, 6, 6)).view(36, 36).T
    for item, got, want in zip(idx, found, r, strict=True):
        m = a.T @ a / problem.noise_level()[item] ** 2 + eye / 0.1**2
        expected = 0.01 * want
        expected[0, :6, :6] = torch.linalg.solve(m, want[0, :6, :6].flatten()).view(6, 6)
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-8)


def test_map_after_a_latent_search_finds_the_same_minimum_and_counts_both():
    _, physics, y = measurement()
    r = solve(y, physics, gaussian_prior(), "map", sigma=0.02, start="latent", steps=400)
    torch.testing.assert_close(r.x, ridge(physics, y, S**2 + 0.02**2, 0.05), atol=2e-3, rtol=0)
    short = solve(y, physics, rough_prior(), "map", sigma=0.02, start="latent", steps=9)
    spent = [row["evaluations"][0] for row in short.trace]
    assert spent == sorted(spent) and spent[-1] == short.evaluations[0]
    assert {"z_norm"} <= set(short.trace[0]) and {"log_prob"} <= set(short.trace[-1])
    with pytest.raises(UsageError, match="choose one of data, latent"):
        solve(y, physics, gaussian_prior(), "map", start="zero")


def test_latent_with_square_penalty_is_the_closed_form():
    _, physics, y = measurement()
    gamma = 0.05**2  # ||A G(z) - y||^2 + noise^2 ||z||^2 is the MAP of a Gaussian
    r = solve(y, physics, gaussian_prior(False), "latent", gamma=gamma, penalty="square", steps=300)
    torch.testing.assert_close(r.x, ridge(physics, y, S**2, 0.05), atol=2e-3, rtol=0)
    torch.testing.assert_close(r.z, (r.x - 0.5) / S, atol=1e-4, rtol=0)


@pytest.mark.parametrize("beta", [0.25, 4.0])
def test_map_tempered_is_the_closed_form_of_another_variance(beta):
    _, physics, y = measurement()
    # the log-determinant of this prior is the same everywhere: it changes nothing
    for logdet in (True, False):
        options = {"sigma": 0.02, "beta": beta, "logdet": logdet, "steps": 400}
        r = solve(y, physics, gaussian_prior(), "map", **options)
        expected = ridge(physics, y, (S**2 + 0.02**2) / beta, 0.05)
        torch.testing.assert_close(r.x, expected, atol=3e-3, rtol=0)


def test_map_minimises_its_own_objective_with_and_without_the_log_determinant():
    flow = rough_prior(torch.float64)
    physics = P.Denoising(noise=0.1)
    y = physics(torch.rand(3, 1, 8, 8, dtype=torch.float64), torch.Generator().manual_seed(0))
    x = {flag: solve(y, physics, flow, "map", logdet=flag, steps=200).x for flag in (True, False)}
    density = flow.at(torch.tensor([0.02], dtype=torch.float64))

    def objective(x, logdet):
        log_p = density.log_prob(x)
        if not logdet:
            log_p = -0.5 * density.encode(x).square().flatten(1).sum(1)
        return (x - y).square().flatten(1).sum(1) / (2 * 0.1**2) - log_p

    for flag in (True, False):
        assert (objective(x[flag], flag) < objective(x[not flag], flag) - 1e-5).all()


def test_latent_through_falling_levels_ends_at_the_closed_form_of_the_last():
    _, physics, y = measurement()
    options = {"gamma": 0.3**2, "penalty": "square", "steps": 300}
    r = solve(y, physics, gaussian_prior(), "latent", sigma=(0.4, 0.1, 0.02), **options)
    expected = ridge(physics, y, S**2 + 0.02**2, 0.3)
    torch.testing.assert_close(r.x, expected, atol=5e-3, rtol=0)
    with pytest.raises(UsageError, match="one noise level > 0"):
        solve(y, physics, gaussian_prior(), "latent", sigma=(0.1, 0.0))


class Wavy(torch.nn.Module):
    """A generator of 8x8 images from two latents, with many local minima."""

    latent_shape, shape = (2,), (1, 8, 8)

    def __init__(self):
        super().__init__()
        g = torch.Generator().manual_seed(3)
        self.weight = torch.nn.Parameter(torch.randn(64, 2, generator=g))

    def decode(self, z):
        return (0.5 + 0.4 * (2 * z @ self.weight.T).sin()).view(-1, 1, 8, 8)


def test_restarts_keep_the_best_search_of_each_item():
    generator = Wavy().double()  # among many minima, the last digits of float32 may choose
    z = torch.randn(4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    y = generator.decode(z).detach()
    options = {"start": "random", "steps": 30, "seed": 7}
    once = solve(y, P.Denoising(), generator, "latent", **options)
    many = solve(y, P.Denoising(), generator, "latent", restarts=20, **options)
    assert (many.residual <= once.residual).all()
    assert (many.residual < 0.5 * once.residual).any() and many.residual.max() < 1e-3
    assert (many.evaluations > 10 * once.evaluations).all()
    alone = solve(y[2:3], P.Denoising(), generator, "latent", restarts=1, **options | {"seed": 9})
    torch.testing.assert_close(alone.z, once.z[2:3], rtol=1e-5, atol=1e-5)  # item 2 of seed 7
    with pytest.raises(UsageError, match="find the same image"):
        solve(y, P.Denoising(), generator, "latent", restarts=2)
    with pytest.raises(ShapeError, match=r"makes images of \(1, 8, 8\) only"):
        solve(torch.rand(1, 1, 16, 16), P.Denoising(), generator, "latent")


@pytest.mark.parametrize(
    ("method", "options", "watched"),
    [
        ("latent", {}, {"z_norm"}),
        ("latent", {"optimizer": "adam"}, {"z_norm"}),
        ("map", {}, {"log_prob"}),
        ("map", {"logdet": False}, {"z_norm"}),
        ("constrained", {}, {"log_prob"}),
    ],
)
def test_the_trace_ends_where_the_result_is(method, options, watched):
    _, physics, y = measurement(noise=0.0 if method == "constrained" else 0.05)
    r = solve(y, physics, gaussian_prior(), method, steps=40, **options)
    last = r.trace[-1]
    assert watched | {"residual", "value", "evaluations"} == set(last)
    # the constrained search corrects its last image once more
    apart = 1e-2 if method == "constrained" else 1e-5
    torch.testing.assert_close(torch.tensor(last["residual"]), r.residual, atol=apart, rtol=1e-3)
    assert last["evaluations"] == r.evaluations.tolist()
    for name in watched:
        torch.testing.assert_close(torch.tensor(last[name]), getattr(r, name), atol=1e-2, rtol=1e-4)
    assert r.z_norm.shape == r.log_prob.shape == r.converged.shape == (3,)


def test_pnp_reports_the_code_and_density_of_its_result():
    _, physics, y = measurement(spread=0.1)
    prior = gaussian_prior()
    for r in (
        solve(y, physics, prior, "pnp", steps=8),
        solve(torch.rand(2, 1, 8, 8), P.Denoising(noise=0.05), prior, "pnp"),
    ):
        torch.testing.assert_close(r.z, (r.x - 0.5) / math.sqrt(S**2 + 0.05**2))
        torch.testing.assert_close(r.log_prob, prior.log_prob(r.x, 0.05))


def test_options_belong_to_methods():
    _, physics, y = measurement(1)
    with pytest.raises(UsageError, match="'map' has no option 'gamma': it has sigma, beta"):
        solve(y, physics, gaussian_prior(), "map", gamma=0.1)
    with pytest.raises(UsageError, match="needs a prior: deep_decoder, lasso, tv do not"):
        solve(y, physics, None, "pnp")
    assert {"restarts", "tune_lr"} <= set(method_options("adaptive"))
    # None leaves an option at its default
    assert solve(y, physics, None, "lasso", lam=0.1, steps=None).method == "lasso"


@pytest.mark.parametrize("penalty", ["norm", "square"])
def test_discrepancy_brings_the_misfit_to_the_noise(penalty):
    _, physics, y = measurement(batch=4, noise=0.3)
    options = {"gamma": "discrepancy", "penalty": penalty}
    r = solve(y, physics, gaussian_prior(False), "latent", **options, steps=900)
    assert r.converged.all(), r.status
    misfit = (physics.A(r.x) - y).square().sum(1) / (40 * 0.3**2)
    assert misfit.max() <= 1 and misfit.min() > 0.85
    if penalty == "square":  # and it is the closed form of the weight that was chosen
        for i, gamma in enumerate(r.trace[0]["gamma"]):
            expected = ridge(physics, y[i : i + 1], S**2, math.sqrt(gamma))
            torch.testing.assert_close(r.x[i : i + 1], expected, atol=1e-2, rtol=0)
    alone = solve(y[2:3], physics, gaussian_prior(False), "latent", **options, steps=900)
    torch.testing.assert_close(alone.x, r.x[2:3], atol=1e-2, rtol=0)


def test_discrepancy_counts_measured_pixels_only_and_needs_a_noise_level():
    from innverse.solvers.discrepancy import noise_energy

    physics = P.Inpainting.random((1, 8, 8), 0.25, torch.Generator().manual_seed(0), noise=0.1)
    problem = Problem.build(physics(torch.rand(2, 1, 8, 8)), physics, gaussian_prior(False))
    torch.testing.assert_close(noise_energy(problem), torch.full((2,), 16 * 0.01))
    y = physics.A(torch.rand(1, 1, 8, 8))
    physics = P.Inpainting(physics.mask)
    with pytest.raises(UsageError, match="needs the noise level"):
        solve(y, physics, gaussian_prior(False), "latent", gamma="discrepancy")
    with pytest.raises(UsageError, match="a number or 'discrepancy'"):
        solve(y, physics, gaussian_prior(False), "latent", gamma="auto")


def test_constrained_is_the_closed_form_and_meets_the_measurement():
    x, physics, y = measurement(noise=0.0)
    prior = gaussian_prior(False)
    mean = torch.full_like(x, 0.5)
    expected = mean + physics.A_dagger(y - physics.A(mean))
    for init in (None, torch.rand_like(x)):
        r = solve(y, physics, prior, "constrained", init=init)
        torch.testing.assert_close(r.x, expected, atol=1e-3, rtol=0)
        assert r.converged.all() and r.residual.max() < 1e-6
    noisy = P.MatrixPhysics(torch.cat([physics.matrix] * 2), (1, 8, 8))  # each sum twice
    y = noisy.A(x) + 0.05 * torch.randn(3, 80)
    assert not solve(y, noisy, prior, "constrained").converged.any()


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
@pytest.mark.parametrize("start", ["zero", "random", "sphere", "pseudo_inverse", "null_space"])
def test_latent_reaches_the_closed_form_from_every_start(start, optimizer):
    _, physics, y = measurement()
    options = {"gamma": 0.3**2, "penalty": "square", "start": start, "optimizer": optimizer}
    r = solve(y, physics, gaussian_prior(False), "latent", **options, steps=500)
    torch.testing.assert_close(r.x, ridge(physics, y, S**2, 0.3), atol=5e-3, rtol=0)
    torch.testing.assert_close(r.z_norm, ((r.x - 0.5) / S).square().mean((1, 2, 3)).sqrt())


def test_starts_are_what_they_say():
    _, physics, y = measurement(noise=0.0)
    prior = gaussian_prior(False)
    problem = Problem.build(y, physics, prior)
    made = {name: latent_start(name, problem, prior, (1, 8, 8), seed=5) for name in STARTS}
    assert made["zero"].abs().max() == 0
    assert (made["sphere"].square().mean((1, 2, 3)) - 1).abs().max() < 1e-5
    cosine = torch.cosine_similarity(made["random"].flatten(1), made["sphere"].flatten(1))
    assert cosine.min() > 0.9999
    for name in ("pseudo_inverse", "null_space"):
        assert problem.residual(prior.decode(made[name])).max() < 1e-3, name
    x = prior.decode(made["pseudo_inverse"])
    torch.testing.assert_close(x, physics.A_dagger(y), atol=3e-3, rtol=0)
    unseen = prior.decode(made["null_space"]) - 0.5  # the correction has no null-space part
    torch.testing.assert_close(unseen, physics.A_dagger(physics.A(unseen)), atol=3e-3, rtol=0)
    alone = Problem.build(y[:1], physics, prior)
    first = latent_start("random", alone, prior, (1, 8, 8), seed=5)
    assert torch.equal(first, made["random"][:1])


def test_unknown_starts_and_optimizers():
    _, physics, y = measurement(1)
    with pytest.raises(UsageError, match="choose one of zero, random, sphere"):
        solve(y, physics, gaussian_prior(False), "latent", start="mean")
    with pytest.raises(UsageError, match="choose one of lbfgs, adam"):
        solve(y, physics, gaussian_prior(False), "latent", optimizer="sgd")


def test_latent_without_penalty_reaches_the_data():
    _, physics, y = measurement(noise=None)
    r = solve(y, physics, gaussian_prior(False), "latent", steps=300)
    assert r.residual.max() < 1e-4
    # from z0 = 0 the search stays in the row space: the solution nearest to the mean
    torch.testing.assert_close(r.x, nearest_to_the_mean(physics.matrix, y), atol=5e-3, rtol=0)


def test_pnp_without_churn_matches_the_closed_form():
    _, physics, y = measurement(noise=None, spread=0.1)  # stays within [0, 1], as images do
    prior = gaussian_prior()
    r = PlugAndPlay(churn=0.0).solve(Problem.build(y, physics, prior), prior)
    assert r.residual.max() < 1e-2
    torch.testing.assert_close(r.x, nearest_to_the_mean(physics.matrix, y), atol=0.05, rtol=0)


def test_pnp_agrees_with_noiseless_data():
    # only the data: by design, churn leaves noise in what the data do not determine
    _, physics, y = measurement(noise=None, spread=0.1)
    assert solve(y, physics, gaussian_prior(), "pnp").residual.max() < 1e-2


@pytest.mark.parametrize("method", ["pnp", "latent", "map"])
def test_items_do_not_influence_each_other(method):
    dtype = torch.float64  # in float32 a solver amplifies the rounding of different batch sizes
    flow = rough_prior(dtype)
    mask = (torch.rand(1, 1, 8, 8) > 0.4).to(dtype)
    physics = P.Inpainting(mask, noise=0.02)
    x = torch.rand(4, 1, 8, 8, dtype=dtype)
    y = physics(x, torch.Generator().manual_seed(1))
    together = solve(y, physics, flow, method, steps=12).x
    alone = torch.cat([solve(y[i : i + 1], physics, flow, method, steps=12).x for i in range(4)])
    mse = ((together - x) ** 2).flatten(1).mean(1), ((alone - x) ** 2).flatten(1).mean(1)
    decibel = 10 * (mse[0].log10() - mse[1].log10())
    assert decibel.abs().max() < 1e-4


def test_an_item_that_turns_nan_leaves_the_others_alone():
    class Fragile(Gaussian):
        def inverse(self, z, c=None):
            x, ld = super().inverse(z, c)
            broken = (x.mean((1, 2, 3), keepdim=True) > 0.9) * float("nan")
            return torch.where(x.mean((1, 2, 3), keepdim=True) > 0.9, x + broken, x), ld

    fragile = gaussian_prior(False)
    fragile.bijection = Fragile()
    physics = P.Denoising()
    y = torch.rand(3, 1, 8, 8)
    y[1] += 2  # this item's solution lies where the generator breaks
    r = solve(y, physics, fragile, "latent", steps=20)
    torch.testing.assert_close(r.x[[0, 2]], y[[0, 2]], atol=1e-3, rtol=0)
    assert torch.isfinite(r.x).all()


def test_sizes_that_do_not_divide_are_padded():
    torch.manual_seed(0)
    flow = flows.build("glow", (1, 8, 8), levels=2, steps=1, hidden=8, noise=(0.01, 0.4)).eval()
    y = torch.rand(2, 1, 9, 14)
    for method in ("pnp", "latent", "map"):
        assert solve(y, P.Denoising(noise=0.1), flow, method, steps=4).x.shape == y.shape


def test_tiles_agree_with_the_whole():
    from innverse.solvers.tiling import denoise_tiled

    torch.manual_seed(0)
    flow = flows.build("glow", (1, 8, 8), levels=2, steps=1, hidden=8, noise=(0.01, 0.4)).eval()
    for p in flow.parameters():
        p.data.add_(0.02 * torch.randn_like(p))
    y = torch.rand(1, 1, 150, 210)
    sigma = torch.tensor([0.1])
    whole = denoise_tiled(flow, y, sigma, (0, 1), None)
    tiled = denoise_tiled(flow, y, sigma, (0, 1), 96)
    torch.testing.assert_close(tiled, whole, atol=1e-4, rtol=0)
    with pytest.raises(UsageError, match="at least 96 pixels"):
        denoise_tiled(flow, y, sigma, (0,), 10)


def test_foreign_operators():
    from scipy.sparse.linalg import aslinearoperator

    matrix = np.random.default_rng(0).normal(size=(30, 64)).astype(np.float32) / 30**0.5
    x = 0.5 + S * torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    y = x.flatten(1) @ torch.from_numpy(matrix).T

    class Deepinv:  # nothing but the two methods
        def A(self, x):
            return x.flatten(1) @ torch.from_numpy(matrix).T

        def A_adjoint(self, y):
            return (y @ torch.from_numpy(matrix)).view(-1, 1, 8, 8)

    prior = gaussian_prior(False)
    results = [
        solve(y, Deepinv(), prior, "latent", steps=60).x,
        solve(y, aslinearoperator(matrix), prior, "latent", steps=60, image_shape=(1, 8, 8)).x,
        solve(y, torch.from_numpy(matrix), prior, "latent", steps=60, image_shape=(1, 8, 8)).x,
    ]
    expected = nearest_to_the_mean(torch.from_numpy(matrix), y)
    for r in results:
        torch.testing.assert_close(r, expected, atol=5e-3, rtol=0)


def test_progress_and_repr():
    _, physics, y = measurement(2)
    seen = []
    r = solve(y, physics, gaussian_prior(), "pnp", steps=5, progress=lambda *a: seen.append(a))
    assert [s[:2] for s in seen] == [(k, 5) for k in range(1, 6)]
    assert "2 of (1, 8, 8)" in repr(r) and len(r.trace) == 5


def test_bad_input_is_named():
    x, physics, y = measurement(1)
    prior = gaussian_prior()
    bad = y.clone()
    bad[0, :3] = math.nan
    with pytest.raises(InputError, match="contains 3 NaN"):
        solve(bad, physics, prior)

    class WrongAdjoint:
        def A(self, x):
            return 2 * x

        def A_adjoint(self, y):
            return y

    with pytest.raises(InputError, match="adjoint of WrongAdjoint is wrong"):
        solve(x, WrongAdjoint(), prior)
    with pytest.raises(UsageError, match="choose one of pnp, latent, map"):
        solve(y, physics, prior, "magic")
    with pytest.raises(UsageError, match="needs a noise-conditional prior"):
        solve(y, physics, gaussian_prior(False), "pnp")
    with pytest.raises(ShapeError, match="3 channels but the prior knows 1"):
        solve(torch.rand(1, 3, 8, 8), P.Denoising(), prior)
    with pytest.raises(UsageError, match="penalty='l3'"):
        solve(y, physics, prior, "latent", penalty="l3")
    with pytest.raises(UsageError, match="gamma=-1"):
        solve(y, physics, prior, "latent", gamma=-1)


def test_denoising_is_the_posterior_mean_in_one_step():
    y = torch.rand(2, 1, 8, 8)
    r = solve(y, P.Denoising(noise=0.1), gaussian_prior())
    wiener = 0.5 + (y - 0.5) * S**2 / (S**2 + 0.1**2)
    torch.testing.assert_close(r.x, wiener, atol=1e-5, rtol=0)
    assert r.evaluations.tolist() == [4, 4]
