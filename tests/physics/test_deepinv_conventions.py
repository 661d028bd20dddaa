"""Against deepinv, where it is installed: its operators are ours, and ours pass its own checks.

Its checks are those of its tests of operators: the adjoint, the norm, the pseudo-inverse and the
proximal step.
"""

from __future__ import annotations

import pytest
import torch

from innverse import physics as P

try:
    import deepinv.physics as D
except (ImportError, RuntimeError):  # it needs torchvision, which needs its own build of torch
    pytest.skip("deepinv is not installed", allow_module_level=True)

pytestmark = pytest.mark.slow

SIZE = (3, 12, 16)


def _gen():
    return torch.Generator().manual_seed(0)


MASK = (torch.rand(1, 12, 16, generator=_gen()) > 0.4).float()
KERNEL = torch.rand(1, 1, 3, 5, generator=_gen())
SPECTRA = torch.rand(4, 3, generator=_gen())
FREQUENCIES = MASK.expand(2, -1, -1)

TWINS = {  # {name: (theirs, ours, shape of an image)}
    "denoising": (lambda: D.Denoising(), lambda: P.Denoising(), SIZE),
    "inpainting": (
        lambda: D.Inpainting(SIZE, mask=MASK.expand(SIZE)),
        lambda: P.Inpainting(MASK),
        SIZE,
    ),
    "demosaicing": (
        lambda: D.Demosaicing(SIZE),
        lambda: P.Inpainting(P.bayer_mask(SIZE[1:], "BGGR")),
        SIZE,
    ),
    "decolorize": (
        lambda: D.Decolorize(srf="average"),
        lambda: P.ChannelMixing([[1 / 3] * 3]),
        SIZE,
    ),
    "fourier": (
        lambda: D.MRI(mask=FREQUENCIES, img_size=(2, 12, 16)),
        lambda: P.SubsampledFourier(MASK, True),
        (2, 12, 16),
    ),
    **{
        f"blur {theirs}": (
            lambda theirs=theirs: D.Blur(KERNEL, padding=theirs),
            lambda ours=ours: P.Blur(KERNEL, ours),
            SIZE,
        )
        for theirs, ours in (
            ("circular", "circular"),
            ("reflect", "reflect"),
            ("replicate", "replicate"),
            ("valid", "valid"),
        )
    },
    "blur by fft": (
        lambda: D.BlurFFT(SIZE, filter=KERNEL),
        lambda: P.Blur(KERNEL),
        SIZE,
    ),
    "varying blur": (
        lambda: D.SpaceVaryingBlur(
            filters=torch.stack([KERNEL[0], KERNEL[0].flip(-1)], 1)[None],
            multipliers=torch.stack([MASK, 1 - MASK], 1)[None],
            padding="circular",
        ),
        lambda: P.VaryingBlur(
            torch.cat([KERNEL[0], KERNEL[0].flip(-1)]), torch.cat([MASK, 1 - MASK])
        ),
        (1, 12, 16),
    ),
    "composed": (
        lambda: D.compose(
            D.Blur(KERNEL, padding="circular"), D.Inpainting(SIZE, mask=MASK.expand(SIZE))
        ),
        lambda: P.Inpainting(MASK) @ P.Blur(KERNEL),
        SIZE,
    ),
}  # fmt: skip

OURS = {
    **{name: (twin[1], twin[2]) for name, twin in TWINS.items()},
    **{
        name: (lambda name=name: P.build(name, (1, 16, 16)), (1, 16, 16))
        for name in P.names()
        if name != "phase_retrieval"  # not linear
    },
    "downsampling by 4": (lambda: P.Downsampling(4, boundary="symmetric"), SIZE),
    "stacked": (lambda: P.stack(P.Downsampling(2), P.ChannelMixing(SPECTRA)), SIZE),
    "jpeg coefficients": (lambda: P.JPEG(SIZE, 20, True).noise.basis, SIZE),
}


def _theirs(ours) -> D.LinearPhysics:
    """Our operator as one of deepinv's, with nothing but A and its adjoint."""
    return D.LinearPhysics(A=ours.A, A_adjoint=ours.A_adjoint, max_iter=500, tol=1e-7)


CHECKS = (
    "operators_adjointness",
    "operators_norm",
    "pseudo_inverse",
    "operators_differentiability",
    "adjoint_autograd",
)


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("check", CHECKS)
def test_our_operators_pass_deepinvs_own_tests(check, name, monkeypatch):
    """The functions of deepinv/tests/test_physics.py, which is installed with it, on our operators,
    scaled to norm 1, which is what they expect."""
    theirs = pytest.importorskip("deepinv.tests.test_physics")
    make, shape = OURS[name]
    ours = make().double()
    x = torch.randn(1, *shape, generator=_gen(), dtype=torch.float64)
    unit = ours.norm_squared(x.shape, 300) ** 0.5

    def find_operator(name, device, get_physics_param=False):
        scaled = D.LinearPhysics(
            A=lambda x: ours.A(x) / unit, A_adjoint=lambda y: ours.A_adjoint(y) / unit,
            max_iter=500, tol=1e-7,
        )  # fmt: skip
        return (scaled, shape, 1.0, torch.float64, *([[]] if get_physics_param else []))

    monkeypatch.setattr(theirs, "find_operator", find_operator)
    more = {
        "operators_norm": {"verbose": False, "rng": _gen()},
        "pseudo_inverse": {"implicit_backward_solver": False, "rng": _gen()},
        "operators_adjointness": {"rng": _gen()},
    }.get(check, {})
    getattr(theirs, f"test_{check}")(name, device=torch.device("cpu"), **more)


@pytest.mark.parametrize("name", OURS)
def test_our_operators_are_linear(name):
    make, shape = OURS[name]
    ours, g = make().double(), _gen()
    x, z = torch.randn(2, 1, *shape, generator=g, dtype=torch.float64)
    y = ours.A(2 * x - 3 * z)
    assert float((y - 2 * ours.A(x) + 3 * ours.A(z)).abs().max()) < 1e-6 * float(y.abs().max())
    back = ours.A_adjoint(2 * y)
    assert float((back - 2 * ours.A_adjoint(y)).abs().max()) < 1e-6 * float(back.abs().max())


@pytest.mark.parametrize("name", TWINS)
def test_twins_measure_the_same(name):
    theirs, ours, shape = TWINS[name]
    theirs, ours = theirs(), ours()
    x = torch.rand(2, *shape, generator=_gen())
    y = ours.A(x)
    torch.testing.assert_close(theirs.A(x), y, atol=1e-5, rtol=0)
    torch.testing.assert_close(theirs.A_adjoint(y), ours.A_adjoint(y), atol=1e-5, rtol=1e-5)
    adapted = P.as_physics(theirs)
    assert P.check_adjoint(adapted, x) < 1e-3
    torch.testing.assert_close(adapted.A(x), y, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", OURS)
def test_our_operators_pass_deepinvs_checks(name):
    make, shape = OURS[name]
    ours = make()
    theirs, x = _theirs(ours), torch.randn(1, *shape, generator=_gen())
    assert theirs.adjointness_test(x) < 1e-3
    norm = float(theirs.compute_sqnorm(x, max_iter=1000, tol=1e-6, verbose=False))
    assert ours.norm_squared(x.shape, 60) == pytest.approx(norm, rel=1e-2)
    r = ours.A_adjoint(ours.A(x))  # in the range of the adjoint
    back = theirs.A_dagger(ours.A(r), solver="lsqr", tol=1e-4, max_iter=50)
    assert float((back - r).norm() / r.norm()) < 0.05
    y = ours.A(x)
    z = torch.zeros_like(x)
    torch.testing.assert_close(
        theirs.prox_l2(z, y, 2.0, max_iter=500, tol=1e-6),
        ours.prox_l2(z, y, 2.0),
        atol=1e-3,
        rtol=1e-3,
    )


def test_phase_retrieval_is_the_root_of_deepinvs_intensities():
    x = torch.rand(2, 1, 6, 6, generator=_gen())
    theirs = D.RandomPhaseRetrieval(m=50, img_size=(1, 6, 6))
    matrix = theirs.B.A(torch.eye(36).view(36, 1, 6, 6).to(torch.cfloat)).T
    ours = P.PhaseRetrieval(matrix, (1, 6, 6))
    torch.testing.assert_close(
        ours.A(x).square(), theirs.A(x.to(torch.cfloat)).real, atol=1e-4, rtol=1e-4
    )
