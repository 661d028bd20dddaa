"""Operators made of operators: `B @ A` and `stack(A, B)`."""

from __future__ import annotations

import pytest
import torch

import innverse
from innverse import physics as P
from innverse.errors import ShapeError, UsageError

SHAPE = (1, 8, 8)


def _blur(**more):
    return P.Blur(P.gaussian_kernel(1.0, 5), "reflect", image_shape=SHAPE, **more)


def test_a_composition_measures_one_after_the_other():
    both = P.Downsampling(2) @ _blur()
    x = torch.rand(2, *SHAPE)
    assert torch.equal(both.A(x), P.Downsampling(2).A(_blur().A(x)))
    assert both.image_shape == SHAPE and both.measures_images and both.acts_per_channel
    assert not (P.CompressedSensing(5, SHAPE) @ _blur()).measures_images
    three = P.Denoising() @ both
    assert torch.equal(three.A(x), both.A(x)) and "Downsampling @ Blur" in P.base.name_of(three)


def test_diagonal_operators_compose_to_one_in_closed_form():
    mask = (torch.rand(8, 8, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    both = P.Inpainting(mask) @ P.Denoising()
    assert both.is_diagonal and both.direct
    assert torch.equal(both.diagonal(torch.ones(1, *SHAPE))[0, 0], mask)
    assert not (P.Inpainting(mask) @ _blur()).direct


def test_the_noise_of_a_composition_is_that_of_what_measures():
    noisy = P.Downsampling(2, noise=0.1) @ _blur()
    assert noisy.sigma == 0.1
    y = noisy(torch.zeros(64, *SHAPE), torch.Generator().manual_seed(0))
    assert float(y.std()) == pytest.approx(0.1, rel=0.05)
    # what a mask does not measure carries none
    half = torch.zeros(8, 8)
    half[:4] = 1
    y = (P.Inpainting(half, noise=0.1) @ _blur())(torch.ones(2, *SHAPE))
    assert bool((y[..., 4:, :] == 0).all()) and float(y[..., :4, :].std()) > 0.05


def test_inner_noise_is_taken_over_where_it_stays_independent_and_refused_elsewhere():
    rows = P.FastCompressedSensing(16, SHAPE)
    both = rows @ _blur(noise=0.1)
    # Monte Carlo: what noise of the inner measurement becomes
    e = 0.1 * torch.randn(4000, *SHAPE, generator=torch.Generator().manual_seed(0))
    assert both.sigma == pytest.approx(float(rows.A(e).std()), rel=0.02)
    half = torch.ones(8, 8)
    half[4:] = 0
    assert (P.Inpainting(half, noise=0.3) @ _blur(noise=0.4)).sigma == pytest.approx(0.5)
    with pytest.raises(UsageError, match="noise of Blur does not stay independent") as e:
        P.Downsampling(2) @ _blur(noise=0.1)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: P.Denoising(image_shape=(1, 4, 4)) @ _blur(), r"images of shape \(1, 4, 4\)"),
        (lambda: P.Inpainting(torch.ones(4, 4)) @ _blur(), "cannot measure what Blur gives"),
        (lambda: P.Downsampling(3) @ _blur(), "cannot measure what Blur gives"),
        (lambda: P.MatrixPhysics(torch.ones(3, 7)) @ _blur(), "measures images of shape"),
    ],
)
def test_what_does_not_fit_is_said_when_it_is_composed(make, message):
    with pytest.raises(ShapeError, match=message) as e:
        make()
    assert "\n" not in str(e.value)


def test_other_things_do_not_compose():
    with pytest.raises(UsageError, match="only operators compose"):
        _blur() @ torch.ones(3, 3)


def test_a_stack_measures_one_image_several_times():
    views = P.stack(P.Downsampling(2, noise=0.01), _blur(noise=0.2))
    x = torch.rand(3, *SHAPE)
    small, blurred = views.split(views.A(x))
    assert torch.equal(small, P.Downsampling(2).A(x)) and torch.equal(blurred, _blur().A(x))
    clean = torch.zeros(50, *SHAPE)
    parts = views.split(views(clean, torch.Generator().manual_seed(0)))
    assert [float(p.std()) for p in parts] == pytest.approx([0.01, 0.2], rel=0.1)
    plain = P.stack(lambda x: 2 * x, P.Denoising(), image_shape=SHAPE)  # of what users have
    assert P.check_adjoint(plain, x) < 1e-5
    with pytest.raises(ShapeError, match=r"measure images of \(1, 8, 8\) and \(1, 4, 4\)"):
        P.stack(_blur(), P.Denoising(image_shape=(1, 4, 4)))
    with pytest.raises(UsageError, match="at least one"):
        P.stack()


@pytest.mark.parametrize("method", ["tv", "lasso", "deep_decoder"])
@pytest.mark.parametrize("kind", ["composed", "stacked"])
def test_solvers_take_them(method, kind):
    x = torch.zeros(2, *SHAPE)
    x[0, :, 2:6, 3:6], x[1, :, :4] = 0.8, 0.5
    if kind == "composed":
        physics = P.Downsampling(2, noise=0.01, filter="none") @ _blur()
    else:
        physics = P.stack(P.Downsampling(2, noise=0.01), P.Denoising(noise=0.3))
    y = physics(x, torch.Generator().manual_seed(0))
    steps = {"steps": 100, "channels": 8, "doublings": 2} if method == "deep_decoder" else {}
    found = innverse.solve(y, physics, method=method, **steps)
    assert found.noise_ratio is not None and found.x.shape == x.shape
    if not steps:
        assert bool(found.converged.all()), found.status
    alone = innverse.solve(y[:1], physics, method=method, **steps)
    assert torch.allclose(alone.x, found.x[:1], atol=1e-3)
