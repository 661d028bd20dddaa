"""Total variation: the right minimiser, a fair baseline."""

from __future__ import annotations

import pytest
import torch

from innverse import physics as P
from innverse.errors import ShapeError, UsageError
from innverse.solvers.baselines import default_lam, tv
from innverse.solvers.baselines.tv import divergence_adjoint, gradient, total_variation


def photograph(n=96):
    data = pytest.importorskip("skimage.data")
    camera = torch.from_numpy(data.camera()).float() / 255
    return camera[60 : 60 + n, 180 : 180 + n][None, None].clone()


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def psnr(x, clean):
    return float(-10 * torch.log10((x.clamp(0, 1) - clean).square().mean()))


def objective(x, y, physics, lam, coupled=True):
    fit = 0.5 * (physics.A(x) - y).square().flatten(1).sum(1)
    return fit + lam * total_variation(x, coupled)


def test_adjoint_of_the_gradient():
    x, p = torch.randn(2, 3, 5, 6), torch.randn(2, 2, 3, 5, 6)
    p[0, ..., -1, :], p[1, ..., -1] = 0, 0
    assert torch.allclose((gradient(x) * p).sum(), (x * divergence_adjoint(p)).sum(), atol=1e-4)


OPERATORS = {
    "denoising": lambda: P.Denoising(0.1),
    "inpainting": lambda: P.Inpainting.random((1, 24, 24), 0.5, seeded()),
    "blur": lambda: P.Blur(P.gaussian_kernel(1.0)),
    "blur reflect": lambda: P.Blur(P.gaussian_kernel(1.0), "reflect"),
    "downsampling": lambda: P.Downsampling(2),
    "compressed sensing": lambda: P.CompressedSensing(200, (1, 24, 24)),
    "fourier": lambda: P.SubsampledFourier(P.cartesian_mask((24, 24), 2)),
}


@pytest.mark.parametrize("name", OPERATORS)
def test_no_smooth_solver_finds_a_lower_objective(name):
    physics, lam = OPERATORS[name](), 0.05
    clean = photograph(24).double()
    y = physics(clean, seeded(1))
    found = tv(y, physics, lam, iters=2000, tol=0)
    # an independent minimiser: subgradient-smoothed TV by torch's L-BFGS, from our solution and
    # from another start
    for start in (found, physics.A_adjoint(y)):
        x = start.clone().requires_grad_()
        optimizer = torch.optim.LBFGS([x], max_iter=150, line_search_fn="strong_wolfe")

        def closure(x=x, optimizer=optimizer):
            optimizer.zero_grad()
            smooth = (gradient_plain(x).square().sum(0) + 1e-8).sqrt().sum()
            value = 0.5 * (physics.A(x) - y).square().sum() + lam * smooth
            value.backward()
            return value

        optimizer.step(closure)
        other = float(objective(x.detach(), y, physics, lam))
        assert float(objective(found, y, physics, lam)) <= other * 1.001


def gradient_plain(x):
    pad = torch.nn.functional.pad
    return torch.stack([pad(x.diff(dim=-2), (0, 0, 0, 1)), pad(x.diff(dim=-1), (0, 1))])


def test_direct_and_dual_forms_agree():
    physics = P.Blur(P.gaussian_kernel(1.5))
    y = physics.A(photograph(48)) + 0.02 * torch.randn(1, 1, 48, 48, generator=seeded())
    other = P.as_physics((physics.A, physics.A_adjoint))
    y, lam = y.double(), 0.003
    direct, dual = tv(y, physics, lam, 1500, tol=0), tv(y, other, lam, 1500, tol=0)
    values = [float(objective(x, y, physics, lam)) for x in (direct, dual)]
    assert values[0] == pytest.approx(values[1], rel=1e-3)  # one minimum, found in two ways
    assert psnr(direct, dual) > 45


@pytest.mark.parametrize("sigma", [0.05, 0.1, 0.2])
def test_denoising_with_the_default_weight_matches_the_best_of_scikit_image(sigma):
    restoration = pytest.importorskip("skimage.restoration")
    clean = photograph(128)
    physics = P.Denoising(sigma)
    y = physics(clean, seeded())
    best = max(
        psnr(torch.from_numpy(restoration.denoise_tv_chambolle(y[0, 0].numpy(), w)), clean[0, 0])
        for w in sigma * torch.tensor([0.5, 0.7, 0.9, 1.1, 1.4]).numpy()
    )
    assert psnr(tv(y, physics), clean) > best - 0.15
    # and at the same weight, run to the end, it is the better minimiser
    w = 0.8 * sigma
    theirs = restoration.denoise_tv_chambolle(y[0, 0].numpy(), w)
    theirs = torch.from_numpy(theirs)[None, None].float()
    assert objective(tv(y, physics, w), y, physics, w) <= 1.001 * objective(theirs, y, physics, w)


def test_noiseless_inpainting_keeps_the_known_pixels_and_fills_the_rest():
    clean = photograph(96)
    physics = P.Inpainting.random((1, 96, 96), 0.5, seeded())
    x = tv(physics(clean), physics)
    known = physics.mask > 0
    assert float((x - clean)[known].abs().max()) < 2e-3
    assert psnr(x, clean) > 24


def test_the_default_weight_is_near_the_best_for_blur_and_noise():
    data = pytest.importorskip("skimage.data")
    camera = torch.from_numpy(data.camera()).float() / 255
    places = [(60, 180), (250, 220), (380, 60), (130, 330)]
    clean = torch.stack([camera[None, r : r + 96, c : c + 96] for r, c in places])

    def score(y, physics, lam):
        x = tv(y, physics, lam)
        return sum(psnr(a, b) for a, b in zip(x, clean, strict=True)) / len(places)

    for kernel in (P.gaussian_kernel(1.6), P.motion_kernel(9, 30)):
        physics = P.Blur(kernel, noise=0.02)
        y = physics(clean, seeded())
        lam = default_lam(0.02, physics)
        best = max(score(y, physics, lam * f) for f in (0.25, 0.5, 2, 4))
        assert score(y, physics, None) > best - 0.2


def test_items_are_independent_and_may_differ_in_noise():
    clean = photograph(48).repeat(3, 1, 1, 1)
    physics = P.Inpainting((torch.rand(3, 1, 48, 48, generator=seeded()) < 0.6).float())
    physics.noise = P.GaussianNoise(torch.tensor([0.0, 0.05, 0.2]))
    y = physics(clean, seeded(1)).double()
    together = tv(y, physics)
    for i in range(3):
        alone = tv(y[i : i + 1], physics.select(torch.tensor([i])), default_lam(
            physics.sigma, physics)[i])  # fmt: skip
        assert torch.allclose(together[i], alone[0], atol=1e-5)


def test_colour_coupling_helps():
    data = pytest.importorskip("skimage.data")
    clean = torch.from_numpy(data.astronaut()[:96, 180:276]).permute(2, 0, 1)[None] / 255
    y = P.Denoising(0.15)(clean, seeded())
    scores = [
        max(psnr(tv(y, P.Denoising(), w, coupled=c), clean) for w in (0.08, 0.12, 0.16, 0.2))
        for c in (True, False)
    ]
    assert scores[0] > scores[1] + 0.3


def test_callback_and_limits():
    y, seen = torch.rand(1, 1, 16, 16, generator=seeded()), []
    tv(y, P.Denoising(), 0.1, iters=100, tol=0, callback=lambda k, x: seen.append(k) or k >= 30)
    assert seen == [10, 20, 30]
    with pytest.raises(UsageError, match="lam must be > 0"):
        tv(y, P.Denoising(), 0.0)
    with pytest.raises(ShapeError, match="2 TV weights for a batch of 1"):
        tv(y, P.Denoising(), torch.ones(2))


def test_default_weight_grows_with_the_noise():
    levels = [default_lam(s) for s in (None, 0.0, 0.01, 0.1, 0.5)]
    assert levels[0] == levels[1] < levels[2] < levels[3] < levels[4]
    each = default_lam(torch.tensor([0.0, 0.1]))
    assert each.tolist() == pytest.approx([levels[0], levels[3]])
