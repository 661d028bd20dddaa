"""What a result claims: convergence, noise, scale, gaps; and what values an option may have."""

from __future__ import annotations

import json
import math
import warnings

import pytest
import torch

from innverse import flows, load
from innverse import physics as P
from innverse.bijections import initialize
from innverse.errors import InputError, UsageError
from innverse.physics.foreign_noise import take_over
from innverse.solvers import METHODS, EachChannel, SolveWarning, options, solve
from innverse.solvers.coverage import coverage
from innverse.solvers.judge import noise_ratio
from innverse.solvers.noise_level import estimate_noise
from innverse.solvers.problem import Problem

SHAPE = (1, 16, 16)
STEPS = {"steps": 3}


def pictures(batch=2, side=16, seed=0):
    """A ramp and a disc, of other sizes from item to item, (B, 1, side, side) within [0.1, 0.9]."""
    t = torch.linspace(-1, 1, side)
    g = torch.Generator().manual_seed(seed)
    shift = torch.rand(batch, 1, 1, generator=g) - 0.5
    disc = ((t[:, None] - shift).square() + t.square() < 0.3).float()
    return (0.1 + 0.3 * (t.expand(side, side) + 1) / 2 + 0.5 * disc)[:, None]


@pytest.fixture(scope="module")
def prior():
    torch.manual_seed(0)
    flow = flows.build("glow", SHAPE, levels=1, steps=1, hidden=4, noise=(0.01, 0.4))
    initialize(flow, pictures(16), 0.1)
    for p in flow.parameters():
        p.requires_grad_(False)
    return flow.eval()


# ---- one judge for all methods -----------------------------------------------------------------


class Inconsistent:
    """Each number is measured twice; data that contradict themselves are explained by no image."""

    def A(self, x):
        return torch.cat([x, x], 1)

    def A_adjoint(self, y):
        return y[:, :1] + y[:, 1:]


# of methods that take long otherwise
OF_PRIORS = [name for name in METHODS if name != "amortised"]  # which takes no prior
FEW = {
    "adaptive": {"tune_steps": 3, "steps": 20},
    "deep_decoder": {"steps": 20},
    "posterior": {"draws": 8, "chains": 2, "warmup": 5, "steps": 3},
    "exchange": {"draws": 8, "chains": 2, "warmup": 5, "steps": 3, "levels": 3},
    "smc": {"draws": 8, "runs": 2, "moves": 1, "steps": 2, "effective": 0.2},
    "langevin": {"draws": 4, "levels": 3, "steps": 5},
    "variational": {"draws": 4, "steps": 5},
}
SAMPLERS = ("posterior", "exchange", "smc", "langevin", "variational")  # which need a noise level


@pytest.mark.parametrize("method", OF_PRIORS)
def test_data_that_no_image_explains_do_not_converge(prior, method):
    x = pictures()
    y = torch.cat([x, x + 0.4], 1)  # 0.2 off on both, whatever x
    r = solve(y, Inconsistent(), prior, method, noise=0.02, **FEW.get(method, {}))
    assert not r.converged.any()
    assert (r.noise_ratio > 8).all()
    assert all(s.startswith(("not converged", "max_iter", "failed")) for s in r.status), r.status
    assert not any("(converged" in s for s in r.status), r.status


@pytest.mark.parametrize("method", OF_PRIORS)
@pytest.mark.parametrize("noise", [0.02, 0.1])
def test_whatever_is_called_converged_fits_the_noise(prior, method, noise):
    x = pictures()
    physics = P.Inpainting.random(SHAPE, 0.6, torch.Generator().manual_seed(0), noise=noise)
    y = physics(x, torch.Generator().manual_seed(1))
    r = solve(y, physics, prior, method, **FEW.get(method, {}))
    known = physics.mask.expand_as(x) != 0
    rms = torch.stack([(a - b)[m].square().mean().sqrt() for a, b, m in zip(r.x, y, known)])
    torch.testing.assert_close(r.noise_ratio, rms / noise, rtol=1e-4, atol=1e-4)
    # 154 values: the noise itself varies by 6 %
    assert (rms[r.converged] < 2 * noise).all()


def test_the_true_image_and_a_fit_to_noise_of_the_right_size_are_not_accused(prior):
    for side, seed in ((4, 0), (4, 1), (4, 2), (16, 3)):
        x = pictures(side=side)
        physics = P.Denoising(noise=0.1)
        y = physics(x, torch.Generator().manual_seed(seed))
        problem = Problem.build(y, physics, None)
        assert (noise_ratio(problem, x) < 1.5 * (1 + 4 * (2 / side**2) ** 0.5) ** 0.5).all()
    r = solve(P.Denoising(noise=0.1)(pictures()), P.Denoising(noise=0.1), prior, "pnp")
    assert r.converged.all() and r.status == ["converged"] * 2


@pytest.mark.parametrize("method", OF_PRIORS)
def test_nan_anywhere_is_a_failure_in_words(prior, method, monkeypatch):
    """The method returns NaN in one item and believes to have converged."""
    honest = METHODS[method].solve

    def spoiled(self, problem, prior):
        result = honest(self, problem, prior)
        result.converged = torch.ones(2, dtype=torch.bool)
        result.status = ["converged"] * 2
        result.x[1, 0, 0, 0] = math.nan
        return result

    monkeypatch.setattr(METHODS[method], "solve", spoiled)
    few = FEW.get(method, {}) | {"steps": 1} | ({"noise": 0.5} if method in SAMPLERS else {})
    x = pictures()
    r = solve(x, P.Inpainting(torch.ones(16, 16)), prior, method, **few)
    assert r.converged.tolist() == [True, False]
    assert r.status[0] == "converged" and r.status[1].startswith("failed: the image holds NaN")


def test_unknown_noise_leaves_the_verdict_to_the_method(prior):
    y = torch.cat([pictures(), pictures() + 0.4], 1)
    r = solve(y, Inconsistent(), None, "tv", lam=0.01, steps=400)
    assert r.converged.all() and r.noise is None and r.noise_ratio is None


# ---- other scales ------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["pnp", "latent", "map", "tv", "lasso"])
@pytest.mark.parametrize("low_high", [(0.0, 255.0), (-1000.0, 1000.0)])
def test_another_scale_gives_the_same_image_on_that_scale(prior, method, low_high):
    low, high = low_high
    x = pictures()
    physics = P.Blur(P.gaussian_kernel(1.0), image_shape=SHAPE)
    g = torch.Generator().manual_seed(0)
    y = physics.A(x) + 0.05 * torch.randn(x.shape, generator=g)
    span = high - low
    wide = low + span * y  # this blur keeps constants
    steps = 100 if method == "map" else 6  # searches part on the way, and meet at its end
    unit = solve(y, physics, prior, method, noise=0.05, steps=steps)
    r = solve(wide, physics, prior, method, noise=0.05 * span, x_range=low_high, steps=steps)
    assert ((r.x - low) / span - unit.x).abs().max() < 2e-3
    torch.testing.assert_close(r.noise, unit.noise * span, rtol=1e-4, atol=0)
    expected = (physics.A(r.x) - wide).flatten(1).norm(dim=1) / wide.flatten(1).norm(dim=1)
    torch.testing.assert_close(r.residual, expected)
    assert r.converged.tolist() == unit.converged.tolist()


@pytest.mark.parametrize("method", ["pnp", "auto"])
def test_signed_images_are_not_cut_off_at_black(prior, method):
    """An operator may know the range of its images, real parts of magnetic resonance for example."""
    physics = P.Inpainting(torch.ones(SHAPE[1:]), noise=0.01, image_shape=SHAPE)
    x = 2 * pictures() - 1
    y = physics(x, torch.Generator().manual_seed(0))
    physics.image_range = (-1.0, 1.0)
    r = solve(y, physics, prior, method)
    assert float((r.x - x).abs().max()) < 0.1 < -float(r.x.min())
    given = solve(
        y, P.Inpainting(torch.ones(SHAPE[1:]), noise=0.01), prior, method, x_range=(-1, 1)
    )
    assert torch.equal(r.x, given.x)


def test_parts_of_complex_images_are_not_cut_off_at_zero():
    x = torch.zeros(1, 2, 32, 32)
    x[:, 0, 8:20, 8:20], x[:, 1, 4:16, 10:24] = -0.7, 0.5
    mask = (torch.rand(32, 32, generator=torch.Generator().manual_seed(0)) < 0.6).float()
    physics = P.SubsampledFourier(mask, complex_image=True, noise=0.02)
    y = physics(x, torch.Generator().manual_seed(1))
    prior = EachChannel(load("natural-gray"), 2)

    def error(**given) -> float:
        return float((solve(y, physics, prior, "pnp", **given).x - x).square().mean().sqrt())

    assert error() < 0.06 < error(x_range=(0, 1))


def test_the_offset_goes_through_the_operator(prior):
    """A sees sums of pixels: its measurement of the black level is not the black level."""
    x = pictures()
    physics = P.CompressedSensing(200, SHAPE)
    r = solve(physics.A(-3 + 5 * x), physics, None, "tv", x_range=(-3, 2), steps=200)
    unit = solve(physics.A(x), physics, None, "tv", steps=200)
    assert ((r.x + 3) / 5 - unit.x).abs().max() < 1e-2


@pytest.mark.parametrize(
    "physics", [P.Denoising(noise=5.0), P.Inpainting(torch.ones(16, 16)),
                P.CompressedSensing(100, SHAPE)], ids=lambda p: type(p).__name__
)  # fmt: skip
@pytest.mark.parametrize("change", [lambda x: 255 * x, lambda x: 2000 * x - 1000])
def test_values_of_another_scale_are_refused_in_one_line(prior, physics, change):
    with pytest.raises(InputError, match=r"x_range=\(low, high\)"):
        solve(physics.A(change(pictures())), physics, prior, "pnp")


def test_images_from_minus_one_to_one_are_doubted(prior):
    y = 2 * pictures() - 1
    with pytest.warns(SolveWarning, match="x_range"):
        r = solve(y, P.Inpainting(torch.ones(16, 16)), prior, "pnp", steps=2)
    assert "x_range" in r.notes[0][-1]


@pytest.mark.parametrize("x", [torch.zeros(1, *SHAPE), torch.ones(1, *SHAPE), pictures(1)])
@pytest.mark.parametrize("noise", [0.01, 0.3])
def test_black_white_and_noisy_images_are_on_the_right_scale(prior, x, noise):
    y = x + noise * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    with warnings.catch_warnings():
        warnings.simplefilter("error", SolveWarning)
        solve(y, P.Denoising(noise=noise), prior, "pnp", views=1)
        solve(y, P.Blur(P.gaussian_kernel(1.0), noise=noise), prior, "pnp", steps=2)


@pytest.mark.parametrize("bad", [(1, 0), (0, math.inf), (0,), "ab", 5, (math.nan, 1), (0, 0)])
def test_ranges_that_are_none(prior, bad):
    with pytest.raises(UsageError, match="x_range="):
        solve(pictures(), P.Denoising(), prior, x_range=bad)


# ---- noise -------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma", [0.02, 0.1, 0.3])
@pytest.mark.parametrize("kind", ["denoising", "blur", "hole", "random"])
def test_noise_is_estimated_from_images(kind, sigma):
    x = pictures(2, 64)
    mask = torch.ones(64, 64)
    mask[20:40, 20:40] = 0
    physics = {
        "denoising": P.Denoising(),
        "blur": P.Blur(P.gaussian_kernel(1.6)),
        "hole": P.Inpainting(mask),
        "random": P.Inpainting.random((1, 64, 64), 0.5, torch.Generator().manual_seed(0)),
    }[kind]
    physics.noise = P.GaussianNoise(sigma)
    y = physics(x, torch.Generator().manual_seed(1))
    level, _ = estimate_noise(Problem.build(y, physics, None, None))
    assert ((level / sigma - 1).abs() < 0.25).all(), level


def test_noise_beyond_the_range_of_an_operator_is_measured_exactly():
    """y - A A^+ y is noise alone: its length over the dimensions that are left is unbiased."""
    g = torch.Generator().manual_seed(0)
    matrix = torch.randn(600, 256, generator=g) / 16
    physics = P.MatrixPhysics(matrix, SHAPE)
    y = physics.A(pictures()) + 0.07 * torch.randn(2, 600, generator=g)
    level, how = estimate_noise(Problem.build(y, physics, None))
    assert ((level / 0.07 - 1).abs() < 4 / math.sqrt(2 * 344)).all() and "no image" in how


def test_noise_auto_is_told_and_used(prior):
    x = pictures(2, 64)
    y = x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    r = solve(y, P.Denoising(), prior, "tv", noise="auto")
    assert ((r.noise / 0.1 - 1).abs() < 0.25).all()
    assert "the noise was estimated as 0." in r.notes[0][0]
    same = solve(y, P.Denoising(), prior, "tv", noise=r.noise)
    torch.testing.assert_close(same.x, r.x)
    wide = solve(255 * y, P.Denoising(), prior, "tv", noise="auto", x_range=(0, 255))
    torch.testing.assert_close(wide.noise, 255 * r.noise, rtol=1e-3, atol=0)
    with pytest.raises(UsageError, match="cannot tell noise from signal"):
        solve(torch.rand(1, 40), P.CompressedSensing(40, SHAPE), None, noise="auto")
    with pytest.raises(UsageError, match="noise='loud'"):
        solve(y, P.Denoising(), None, noise="loud")


def warned(y, noise, physics=None):
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        r = solve(y, physics or P.Denoising(), None, "tv", noise=noise, steps=2)
    assert bool(seen) == any(r.notes)
    return [str(w.message) for w in seen if "noise=" in str(w.message)]


def test_a_level_that_contradicts_the_data_is_warned_of_both_ways():
    x = pictures(1, 64)
    g = torch.Generator().manual_seed(0)
    loud, quiet = (x + s * torch.randn(x.shape, generator=g) for s in (0.2, 0.02))
    assert len(warned(loud, 0.02)) == 1 and "look like 0.2" in warned(loud, 0.02)[0]
    assert len(warned(quiet, 0.2)) == 1 and "look like 0.02" in warned(quiet, 0.2)[0]
    assert not warned(loud, 0.2) and not warned(quiet, 0.02)


class GammaNoise:
    """Speckle, by the name and the looks under which it is known elsewhere."""

    l = torch.tensor(20.0)

    def __call__(self, y):
        return y


@pytest.mark.parametrize(
    "noise",
    [P.PoissonNoise(0.01), P.PoissonGaussianNoise(0.01, 0.05), P.TransmissionNoise(1e3, 1.0),
     take_over(GammaNoise())],
    ids=["photons", "photons and electronics", "transmission", "speckle"],
)  # fmt: skip
def test_noise_that_follows_the_signal_has_no_one_level_even_where_the_picture_is_flat(noise):
    flat = torch.full((2, 1, 16, 16), 0.5)
    for physics, given in ((P.Denoising(), noise), (P.Denoising(noise=noise), None)):
        assert solve(flat, physics, None, "tv", noise=given, **STEPS).noise is None
    white = solve(flat, P.Denoising(), None, "tv", noise=0.1, **STEPS).noise
    assert torch.equal(white, torch.full((2,), 0.1))


def test_texture_and_clipped_noise_are_not_accused():
    g = torch.Generator().manual_seed(0)
    t = torch.arange(96.0)
    stripes = (0.5 + 0.25 * torch.sin(2.1 * t) * torch.cos(1.3 * t)[:, None])[None, None]
    assert not warned(stripes + 0.01 * torch.randn(stripes.shape, generator=g), 0.01)
    black = torch.zeros(1, 1, 96, 96)
    black[..., 40:56, 40:56] = 0.5
    clipped = (black + 0.1 * torch.randn(black.shape, generator=g)).clamp(0, 1)
    assert not warned((255 * clipped).round() / 255, 0.1)


# ---- choosing ----------------------------------------------------------------------------------


def square(side, hole):
    mask, top = torch.ones(side, side), (side - hole) // 2
    mask[top : top + hole, top : top + hole] = 0
    return mask


def test_coverage_is_that_of_the_operator():
    x = torch.rand(2, 1, 64, 64)

    def look(physics):
        return coverage(Problem.build(physics.A(x), physics, None))

    hole = look(P.Inpainting(square(64, 20)))
    assert hole.gap == 10 and hole.missing == pytest.approx(400 / 4096) and not hole.global_
    assert hole.measured.tolist() == [3696, 3696]
    few = look(P.CompressedSensing(400, (1, 64, 64)))
    assert few.global_ and not few.holes and few.ratio == pytest.approx(400 / 4096)
    for local in (P.Denoising(), P.Blur(P.motion_kernel(15, 30.0)), P.Downsampling(4, (1, 64, 64))):
        assert not look(local).global_ and not look(local).holes
    masked = ((lambda x: x * square(64, 20)), (lambda y: y * square(64, 20)))
    foreign = P.as_physics(masked)  # it knows no mask: its columns of zeros tell
    assert look(foreign).gap == 10


CHOICES = {
    "no prior": (lambda: P.Denoising(noise=0.1), None, "tv"),
    "denoising": (lambda: P.Denoising(noise=0.1), "face", "pnp"),
    "half": (lambda: P.Inpainting.random(SHAPE, 0.5), "texture", "pnp"),
    "hole, face": (lambda: P.Inpainting(square(16, 8)), "face", "map"),
    "hole, texture": (lambda: P.Inpainting(square(16, 6)), "texture", "pnp"),
    "projections, face": (lambda: P.CompressedSensing(40, SHAPE), "face", "map"),
    "projections, texture": (lambda: P.CompressedSensing(40, SHAPE), "texture", "pnp"),
    "no levels": (lambda: P.Inpainting(square(16, 8)), "plain", "latent"),
}


@pytest.mark.parametrize("case", CHOICES)
def test_the_method_suits_the_problem_and_the_result_says_why(prior, case, monkeypatch):
    make, kind, expected = CHOICES[case]
    if kind == "plain":
        chosen = flows.build("glow", SHAPE, levels=1, steps=1, hidden=4).eval()
    else:
        chosen = None if kind is None else prior
        turns = ("mirror", "transpose") if kind == "texture" else ("mirror",)
        monkeypatch.setattr(prior, "symmetries", turns)
    physics = make()
    r = solve(physics.A(pictures(1)), physics, chosen, steps=None if kind is None else 2)
    assert r.method == expected and r.reason and r.reason != "named by the caller"


def test_auto_takes_a_method_that_knows_the_options(prior):
    y, physics = pictures(1), P.Inpainting(square(16, 2))
    for given, method in (({"beta": 0.5}, "map"), ({"gamma": 0.1}, "latent"),
                          ({"churn": 0.1}, "pnp"), ({"basis": "haar"}, "lasso")):  # fmt: skip
        r = solve(physics.A(y), physics, prior, **given, steps=2)
        assert (r.method == method and next(iter(given)) in r.reason) or method == "pnp"
    with pytest.raises(UsageError, match="no method knows all"):
        solve(physics.A(y), physics, prior, beta=1.0, basis="haar")


@pytest.mark.parametrize("method", ["auto", "pnp", "tv"])
def test_a_region_too_large_to_fill_is_told(prior, method, monkeypatch):
    monkeypatch.setattr(prior, "symmetries", ("mirror", "transpose"))
    physics = P.Inpainting(square(64, 40))
    with pytest.warns(SolveWarning, match="about 40 pixels across was not measured"):
        r = solve(physics.A(pictures(1, 64)), physics, prior, method, steps=2)
    assert "a guess" in r.notes[0][0]
    small = P.Inpainting(square(64, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error", SolveWarning)
        solve(small.A(pictures(1, 64)), small, prior, method, steps=2)


# ---- options -----------------------------------------------------------------------------------

ABSURD = {
    "draws": [0, 1, 2.5],
    "against": [3, True],
    "hidden": [0, 1.5],
    "layers": [-1, 1000],
    "memory": [-0.1, 2, math.nan],
    "samples": [0, 1.5],
    "step": [0, -1, math.nan],
    "chains": [1, -1, 10**9],
    "warmup": [-1, 0.5],
    "levels": [0, -1, 2.5],
    "top": [0, -0.1, math.nan, math.inf],
    "runs": [1, 2.5, 10**9],
    "effective": [0, 1, math.nan],
    "moves": [0, 1.5],
    "steps": [0, -1, 2.5, math.nan, "many", 10**12, True],
    "sigma": [0, -0.1, math.nan, math.inf, "low", [], [0.1, -1]],
    "gamma": [-1, math.nan, math.inf, "auto"],
    "beta": [0, -1, math.nan, math.inf, "x"],
    "lam": [-1, math.nan, math.inf, "x"],
    "strength": [0, -1, math.nan],
    "churn": [-1, math.nan, math.inf],
    "views": [0, 17, -3, 1.5],
    "restarts": [0, -1, 1.5],
    "radius": [-1, math.nan, math.inf],
    "lr": [0, -1, math.nan, math.inf],
    "tune_lr": [0, math.nan],
    "latent_lr": [0, math.inf],
    "tune_steps": [-1, 1.5],
    "seed": [1.5, "x", 2**80],
    "channels": [0, -1, 10**9],
    "doublings": [0, 99],
    "tile": [0, 8, -1, "big", 1.5],
    "start": ["middle", 3],
    "penalty": ["l3", 2],
    "optimizer": ["sgd", 1],
    "basis": ["sine", 1],
    "consistency": [-1.0, float("inf"), "much"],
    "logdet": ["yes", 2],
    "of": ["dirty", 1],
    "space": ["outer", 1],
    "thin": [0, -1, 1.5],
    "checkpoint": ["", 3, "a\0b"],
    "init": ["x", torch.full((1, *SHAPE), math.nan), torch.zeros(1, 1, 3, 3)],
}  # fmt: skip


def test_every_option_of_every_method_has_bad_values_in_this_test():
    assert set(ABSURD) == set(options("auto"))


@pytest.mark.parametrize("name", ABSURD)
def test_absurd_values_give_one_line(prior, name):
    physics = P.CompressedSensing(60, SHAPE)
    y = physics.A(pictures(1))
    for method in METHODS:
        if name not in options(method):
            continue
        for value in ABSURD[name]:
            with pytest.raises((UsageError, InputError), match=name) as error:
                solve(y, physics, prior, method, **{name: value})
            assert "\n" not in str(error.value)


def test_nothing_not_finite_reaches_json(prior):
    from innverse.data.atomic import jsonable

    value = {"a": math.nan, "b": [math.inf, torch.tensor([math.nan])], "c": (torch.tensor(1.0),)}
    text = json.dumps(jsonable(value), allow_nan=False)
    assert json.loads(text) == {"a": None, "b": [None, [None]], "c": [1.0]}
