"""What every operator must satisfy, compared with its explicit matrix.

One entry of OPERATORS per operator: (make it, shape of one image); every test runs on all of them.
"""

from __future__ import annotations

import pytest
import torch

from innverse import physics as P
from innverse.physics.real_numbers import RealMeasurements


def _mask(*shape, seed=0):
    return (torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < 0.6).float()


def _kernel(h, w, seed=0):
    k = torch.rand(h, w, generator=torch.Generator().manual_seed(seed))
    return k / k.sum()


def _coils(*shape):
    g = torch.Generator().manual_seed(0)
    return torch.complex(torch.randn(shape, generator=g), torch.randn(shape, generator=g))


def _gen(seed=0):
    return torch.Generator().manual_seed(seed)


OPERATORS = {
    "denoising": (lambda: P.Denoising(), (2, 5, 6)),
    "inpainting": (lambda: P.Inpainting(_mask(9, 8)), (3, 9, 8)),
    "inpainting per channel": (lambda: P.Inpainting(_mask(3, 9, 8)), (3, 9, 8)),
    "inpainting per item": (lambda: P.Inpainting(_mask(2, 1, 9, 8)), (3, 9, 8)),
    "inpainting weighted": (lambda: P.Inpainting(torch.rand(9, 8, generator=_gen())), (1, 9, 8)),
    "blur circular": (lambda: P.Blur(_kernel(5, 3)), (2, 12, 11)),
    "blur even": (lambda: P.Blur(_kernel(4, 6)), (1, 12, 11)),
    "blur wrapped": (lambda: P.Blur(_kernel(15, 14)), (1, 10, 9)),
    "blur reflect": (lambda: P.Blur(_kernel(5, 4), "reflect"), (2, 12, 11)),
    "blur reflect huge": (lambda: P.Blur(_kernel(31, 40), "reflect"), (1, 10, 9)),
    "blur replicate": (lambda: P.Blur(_kernel(6, 5), "replicate"), (1, 12, 13)),
    "blur zero": (lambda: P.Blur(_kernel(6, 5), "zero"), (1, 12, 13)),
    "blur valid": (lambda: P.Blur(_kernel(4, 5), "valid"), (2, 12, 13)),
    "blur per channel": (lambda: P.Blur(torch.rand(1, 2, 3, 4, generator=_gen())), (2, 8, 9)),
    "downsampling box": (lambda: P.Downsampling(3, filter="box"), (2, 12, 9)),
    "downsampling bicubic": (lambda: P.Downsampling(2), (1, 12, 10)),
    "downsampling ragged": (lambda: P.Downsampling(5, (1, 13, 17)), (1, 13, 17)),
    "downsampling gaussian": (lambda: P.Downsampling(4, None, "gaussian", "zero"), (1, 12, 8)),
    "downsampling symmetric": (
        lambda: P.Downsampling(3, (1, 8, 7), "bilinear", "symmetric"),
        (1, 8, 7),
    ),
    "downsampling renormalised": (
        lambda: P.Downsampling(2, (1, 7, 8), boundary="renormalised"),
        (1, 7, 8),
    ),
    "blur symmetric": (lambda: P.Blur(_kernel(6, 15), "symmetric"), (1, 12, 13)),
    "downsampling custom": (
        lambda: P.Downsampling(3, None, torch.tensor([1.0, 2, 3, 4]) / 10, "circular"),
        (1, 12, 9),
    ),
    "compressed sensing": (lambda: P.CompressedSensing(20, (1, 8, 9)), (1, 8, 9)),
    "fast compressed sensing": (lambda: P.FastCompressedSensing(20, (2, 7, 5)), (2, 7, 5)),
    "fourier": (lambda: P.SubsampledFourier(_mask(8, 9)), (1, 8, 9)),
    "fourier odd": (lambda: P.SubsampledFourier(_mask(7, 9)), (1, 7, 9)),
    "fourier complex": (lambda: P.SubsampledFourier(_mask(8, 9), True), (2, 8, 9)),
    "fourier colour": (lambda: P.SubsampledFourier(_mask(6, 8), image_shape=(3, 6, 8)), (3, 6, 8)),
    "fourier per item": (lambda: P.SubsampledFourier(_mask(2, 1, 6, 8)), (1, 6, 8)),
    "mri": (lambda: P.MRI(_coils(3, 6, 7), _mask(6, 7)), (1, 6, 7)),
    "mri complex": (lambda: P.MRI(_coils(2, 6, 5), _mask(6, 5), True), (2, 6, 5)),
    "tomography": (lambda: P.Tomography((1, 7, 8), 9), (1, 7, 8)),
    "tomography fan": (
        lambda: P.Tomography((2, 6, 7), [3, 50, 100, 200], 15, centre=6.2, source=20, detector=8),
        (2, 6, 7),
    ),
    "mosaic": (lambda: P.Inpainting(P.bayer_mask((4, 6))), (3, 4, 6)),
    "blur that varies": (
        lambda: P.VaryingBlur(
            torch.rand(2, 3, 4, generator=_gen()), _kernel(10, 6).view(2, 5, 6), "reflect"
        ),
        (2, 5, 6),
    ),
    "grayscale": (lambda: P.ChannelMixing([[0.3, 0.6, 0.1]]), (3, 4, 5)),
    "channels": (lambda: P.ChannelMixing(_kernel(4, 3)), (3, 4, 3)),
    "jpeg": (lambda: P.JPEG((1, 5, 9)), (1, 5, 9)),
    "jpeg subsampled": (lambda: P.JPEG((3, 5, 4), subsampling=True), (3, 5, 4)),
    "coded diffraction": (
        lambda: RealMeasurements(P.CodedDiffraction(_coils(2, 5, 4))),
        (1, 5, 4),
    ),
    "small and blurred": (
        lambda: P.Downsampling(2) @ P.Blur(_kernel(3, 4), "reflect", image_shape=(2, 8, 6)),
        (2, 8, 6),
    ),
    "masks one after the other": (
        lambda: P.Inpainting(_mask(2, 1, 6, 5)) @ P.Inpainting(_mask(6, 5, seed=1)),
        (2, 6, 5),
    ),
    "complex in the middle": (
        lambda: RealMeasurements(P.MatrixPhysics(_kernel(9, 20)) @ _spectrum()),
        (1, 4, 5),
    ),
    "stack": (
        lambda: P.stack(P.Downsampling(2, (1, 6, 5)), P.Inpainting(_mask(2, 1, 6, 5))),
        (1, 6, 5),
    ),
    "matrix": (lambda: P.MatrixPhysics(_kernel(7, 12), (1, 3, 4)), (1, 3, 4)),
    "callables": (
        lambda: P.as_physics((lambda x: 2 * x[..., ::2], _spread), (1, 4, 6)),
        (1, 4, 6),
    ),
}


def _spread(y):
    x = torch.zeros(*y.shape[:-1], 2 * y.shape[-1], dtype=y.dtype)
    x[..., ::2] = 2 * y
    return x


def _spectrum():
    def back(y):
        return 20 * torch.fft.ifft2(y.view(-1, 1, 4, 5)).real

    return P.as_physics((lambda x: torch.fft.fft2(x).flatten(1), back), (1, 4, 5))


def dense(physics, shape, item=0, batch=1):
    """The operator of one item as an explicit matrix (m, n), in fp64."""
    n = torch.Size(shape).numel()
    columns = []
    for basis in torch.eye(n, dtype=torch.float64):
        x = basis.reshape(1, *shape).repeat(batch, *[1] * len(shape))
        columns.append(physics.A(x)[item].flatten())
    return torch.stack(columns, 1)


@pytest.fixture(params=OPERATORS)
def case(request):
    torch.manual_seed(0)
    make, shape = OPERATORS[request.param]
    return make(), shape


@pytest.mark.parametrize(("dtype", "tol"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_adjoint_is_the_transpose(case, dtype, tol):
    physics, shape = case
    x = torch.rand(2, *shape, dtype=dtype)
    assert P.check_adjoint(physics, x, tol=tol) < tol


def test_a_dagger_is_the_pseudo_inverse(case):
    physics, shape = case
    x = torch.rand(2, *shape, dtype=torch.float64)
    y = physics.A(x)
    y = y + 0.1 * torch.randn_like(y)
    found = physics.A_dagger(y)
    for i in range(2):
        m = dense(physics, shape, i, 2)
        u, values, vh = torch.linalg.svd(m, full_matrices=True)
        rank = int((values > 1e-10 * values[0]).sum())
        # closest to the data (badly blurred components leave a slack), and nothing in the kernel
        best = u[:, :rank] @ (u[:, :rank].T @ y[i].flatten())
        assert torch.allclose(m @ found[i].flatten(), best, atol=1e-3)
        assert torch.allclose(vh[rank:] @ found[i].flatten(), torch.zeros(()).double(), atol=1e-6)
        if values[rank - 1] > 0.05 * values[0]:
            expected = torch.linalg.pinv(m) @ y[i].flatten()
            assert torch.allclose(found[i].flatten(), expected, atol=1e-6)


@pytest.mark.parametrize("rho", [0.3, (0.02, 2.0)])
def test_solve_normal_is_the_inverse_and_differentiable(case, rho):
    physics, shape = case
    rhs = torch.randn(2, *shape, dtype=torch.float64, requires_grad=True)
    rho = rho if isinstance(rho, float) else torch.tensor(rho, dtype=torch.float64)
    found = physics.solve_normal(rhs, rho)
    weight = torch.randn_like(found)
    (grad,) = torch.autograd.grad((found * weight).sum(), rhs)
    for i, r in enumerate(torch.as_tensor(rho).expand(2)):
        m = dense(physics, shape, i, 2)
        normal = m.T @ m + r * torch.eye(m.shape[1], dtype=m.dtype)
        assert torch.allclose(
            found[i].flatten(), torch.linalg.solve(normal, rhs[i].flatten()), atol=1e-7
        )
        assert torch.allclose(
            grad[i].flatten(), torch.linalg.solve(normal, weight[i].flatten()), atol=1e-7
        )


def test_conjugate_gradients_agree_with_the_closed_form(case):
    physics, shape = case
    rhs = torch.randn(2, *shape, dtype=torch.float64)
    general = P.LinearPhysics.solve_normal(physics, rhs, 0.1)
    assert torch.allclose(physics.solve_normal(rhs, 0.1), general, atol=1e-7)


def test_gradient_of_a_is_the_adjoint(case):
    physics, shape = case
    x = torch.rand(2, *shape, dtype=torch.float64, requires_grad=True)
    y = physics.A(x)
    v = torch.randn_like(y)
    (grad,) = torch.autograd.grad((y * v).sum(), x)
    assert torch.allclose(grad, physics.A_adjoint(v), atol=1e-12)
    assert torch.allclose(grad, physics.A_vjp(x, v), atol=1e-12)
    u = torch.rand_like(y, requires_grad=True)
    (grad,) = torch.autograd.grad((physics.A_adjoint(u) * x.detach()).sum(), u)
    assert torch.allclose(grad, physics.A(x.detach()), atol=1e-12)


def test_items_do_not_influence_each_other(case):
    physics, shape = case
    x = torch.rand(2, *shape)
    y = physics.A(x)
    other = x.clone()
    other[1] = torch.nan
    assert torch.allclose(physics.A(other)[0], y[0], atol=1e-6)
    wrong = y.clone()
    wrong[1] *= 1e6
    assert torch.allclose(physics.A_dagger(wrong)[0], physics.A_dagger(y)[0], atol=1e-5)
    rhs, big = torch.randn(2, *shape), torch.ones(2, *[1] * len(shape))
    big[1] = 1e6
    assert torch.allclose(
        physics.solve_normal(rhs * big, 0.1)[0], physics.solve_normal(rhs, 0.1)[0], atol=1e-5
    )


def test_select_takes_the_items_of_a_batch(case):
    physics, shape = case
    x = torch.rand(2, *shape)
    idx = torch.tensor([1])
    assert torch.allclose(physics.select(idx).A(x[idx]), physics.A(x)[idx], atol=1e-6)
    physics.noise = P.GaussianNoise(torch.tensor([0.1, 0.2]))
    assert physics.select(idx).sigma.tolist() == pytest.approx([0.2])
    assert physics.sigma.tolist() == pytest.approx([0.1, 0.2])


NONLINEAR = {
    "function": lambda: P.Nonlinear(lambda x: x.exp() * x.roll(1, -1), (1, 4, 5)),
    "phase retrieval": lambda: P.PhaseRetrieval(P.CodedDiffraction.random((2, 4, 5), 3)),
    "phase retrieval, real": lambda: P.PhaseRetrieval(torch.randn(12, 20), (1, 4, 5)),
    "behind": lambda: P.Nonlinear(torch.tanh, (1, 2, 3)) @ P.Downsampling(2, (1, 4, 5)),
    "before": lambda: P.Blur(_kernel(3, 3)) @ P.Nonlinear(torch.sin, (1, 4, 5)),
    "stacked": lambda: P.stack(P.Denoising(), P.Nonlinear(lambda x: x**2, (1, 4, 5))),
    "whitened": lambda: P.Whitened(P.Nonlinear(torch.exp, (1, 4, 5)), torch.rand(1, 1, 4, 5)),
}


@pytest.mark.parametrize("name", NONLINEAR)
def test_derivatives_of_operators_that_are_not_linear(name):
    torch.manual_seed(0)
    physics = NONLINEAR[name]()
    assert not physics.linear
    x = torch.rand(2, *physics.image_shape, dtype=torch.float64)
    assert P.check_adjoint(physics, x, tol=1e-12) < 1e-12
    v, h = torch.randn_like(x), 1e-6
    slope = (physics.A(x + h * v) - physics.A(x - h * v)) / (2 * h)
    j = physics.at(x)
    assert j.linear and torch.allclose(j.A(v), slope, atol=1e-7)
    w = torch.randn_like(slope)
    at = x.clone().requires_grad_()
    (grad,) = torch.autograd.grad((physics.A(at) * w).sum(), at)
    assert torch.allclose(j.A_adjoint(w), grad, atol=1e-12)
    assert torch.allclose(physics.A_vjp(x, w), grad, atol=1e-12)
    one = torch.tensor([1])
    assert torch.allclose(physics.select(one).A(x[1:]), physics.A(x)[1:])
    assert torch.allclose(j.select(one).A(v[1:]), j.A(v)[1:])
    assert physics.A_adjoint(w).shape == x.shape  # that of the derivative at grey


def test_prox_minimises_its_objective(case):
    physics, shape = case
    z = torch.rand(2, *shape, dtype=torch.float64)
    y = physics.A(torch.rand(2, *shape, dtype=torch.float64))
    x = physics.prox_l2(z, y, 3.0).requires_grad_()
    objective = 1.5 * (physics.A(x) - y).square().sum() + 0.5 * (x - z).square().sum()
    (grad,) = torch.autograd.grad(objective, x)
    assert grad.abs().max() < 1e-6


def test_norm_squared(case):
    physics, shape = case
    if any(b.ndim == 4 and b.shape[0] > 1 for b in physics.buffers()):
        pytest.skip("one operator per item has no single norm")
    top = torch.linalg.matrix_norm(dense(physics, shape), 2) ** 2
    assert float(top) * 0.8 <= physics.norm_squared((1, *shape), 60) <= float(top) * 1.001
