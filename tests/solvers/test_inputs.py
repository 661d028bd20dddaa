"""Whatever a user has: measurements of any type, operators of any kind, by the same images."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch

from innverse import physics as P
from innverse.errors import InnverseError, InputError, ShapeError, UsageError
from innverse.solvers import solve

X = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))


class Images(torch.nn.Module):
    """A generator of all 8x8 images: G(z) = z. Its search ends at the least-squares solution."""

    latent_shape, shape = (1, 8, 8), (1, 8, 8)

    def __init__(self, dtype=torch.float32):
        super().__init__()
        self.one = torch.nn.Parameter(torch.ones((), dtype=dtype), requires_grad=False)

    def decode(self, z):
        if z.dtype != self.one.dtype:
            raise RuntimeError("expected another dtype")  # as every linear layer does
        return z * self.one


def images(y, physics, prior=None, **options):
    """The images that explain y, found in latent space."""
    options = {"steps": 200} | options
    prior = Images() if prior is None else prior
    return solve(y, physics, prior, "latent", **options).x


BLUR = P.Blur(torch.tensor([[0.1, 0.8, 0.1]]))
Y = BLUR.A(X)


@pytest.mark.parametrize(
    "as_type",
    [
        lambda y: y.double(),
        lambda y: y.numpy(),
        lambda y: y.double().numpy(),
        lambda y: np.asfortranarray(y.numpy())[::-1][::-1],
        lambda y: y.numpy().astype(">f8"),
        lambda y: y.tolist(),
        lambda y: y.half(),
        lambda y: y.bfloat16(),
        lambda y: y.numpy().astype(np.float16),
        lambda y: y.requires_grad_(),
        lambda y: (y * 255).round().to(torch.uint8),
        lambda y: (y * 255).round().numpy().astype(np.uint8),
        lambda y: (y * 65535).round().numpy().astype(np.uint16),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_measurements_of_every_type(as_type, dtype):
    found = images(as_type(Y.clone()), BLUR, Images(dtype), steps=40)
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), X, atol=0.02, rtol=0)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.int16])
def test_whole_numbers_with_a_range_are_values_in_it(dtype):
    x = solve((200 * Y).round().to(dtype), BLUR, method="tv", lam=1e-3, x_range=(0, 200)).x
    assert (x / 200 - solve(Y, BLUR, method="tv", lam=1e-3).x).abs().max() < 0.02


def test_without_a_prior_float64_stays():
    assert solve(Y.double(), BLUR, method="tv", steps=20).x.dtype == torch.float64
    assert solve(Y.half(), BLUR, method="lasso", steps=20).x.dtype == torch.float32


@pytest.mark.parametrize("drop", [1, 2])
def test_a_single_picture_without_its_axes(drop):
    y = Y[0] if drop == 1 else Y[0, 0]
    torch.testing.assert_close(images(y, BLUR), X[:1], atol=1e-3, rtol=0)


def test_a_single_vector():
    matrix = P.MatrixPhysics(torch.eye(64), (1, 8, 8))
    torch.testing.assert_close(images(X[0].flatten(), matrix), X[:1], atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("y", "physics"),
    [
        (torch.randint(0, 1000, (1, 1, 8, 8)), BLUR),
        (torch.randint(0, 1000, (1, 1, 8, 8)).to(torch.uint32), BLUR),
        (torch.randint(2, 255, (1, 64), dtype=torch.uint8), P.MatrixPhysics(torch.eye(64))),
        (np.array([["a"]]), BLUR),
        (np.array([object()]), BLUR),
        ("picture.png", BLUR),
        (None, BLUR),
        (torch.empty(0, 1, 8, 8), BLUR),
        (torch.empty(1, 1, 8, 8, device="meta"), BLUR),
        (torch.rand(8), BLUR),
        (torch.rand(1, 3, 8, 8), BLUR),
        (torch.rand(1, 63), P.MatrixPhysics(torch.eye(64))),
        ([torch.rand(1, 1, 8, 8)], BLUR),
        (torch.rand(1, 1, 8, 8), "blur"),
        (torch.rand(1, 1, 8, 8), None),
        (torch.rand(1, 1, 8, 8), BLUR.__class__),
        (torch.rand(1, 1, 9, 9), (lambda x: x @ torch.ones(8, 8), lambda y: y)),
        (torch.rand(1, 1, 8, 8), lambda x: torch.from_numpy(x.detach().numpy())),
        (torch.rand(3, 1, 8, 8), P.Inpainting(torch.ones(2, 1, 8, 8))),
    ],
)
def test_what_cannot_be_converted_is_said_in_one_line(y, physics):
    with pytest.raises(InnverseError) as e:
        images(y, physics)
    assert "\n" not in str(e.value) and len(str(e.value)) < 400


MATRIX = torch.randn(64, 64, generator=torch.Generator().manual_seed(2)) / 8 + torch.eye(64)


def _operators():
    sparse = pytest.importorskip("scipy.sparse")
    linalg = pytest.importorskip("scipy.sparse.linalg")
    m = MATRIX.numpy()

    class Pylops:  # in the manner of pylops: no subclass of scipy's
        shape, dtype = (64, 64), np.dtype(np.float32)

        def matvec(self, v):
            return m @ v

        def rmatvec(self, v):
            return m.T @ v

    class OnlyA:
        def A(self, x):
            return x.flatten(1) @ MATRIX.T

    class Named(OnlyA):
        def forward(self, x):
            return self.A(x)

        A_adjoint = None

        def adjoint(self, y):
            return (y @ MATRIX).view(-1, 1, 8, 8)

    class Own(P.LinearPhysics):  # by numpy: autograd cannot follow
        def A(self, x):
            return torch.from_numpy(x.detach().flatten(1).numpy() @ m.T)

        def A_adjoint(self, y):
            return torch.from_numpy(y.detach().numpy() @ m).view(-1, 1, 8, 8)

    layer = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 64, bias=False))
    layer[1].weight.data = MATRIX.clone()
    return {
        "numpy": m,
        "numpy float64": m.astype(np.float64),
        "torch": MATRIX,
        "matrix physics of vectors": P.MatrixPhysics(MATRIX),
        "coo": MATRIX.to_sparse_coo(),
        "csr": MATRIX.to_sparse_csr(),
        "csc": MATRIX.to_sparse_csc(),
        "csr float64": MATRIX.double().to_sparse_csr(),
        "scipy csr": sparse.csr_matrix(m),
        "scipy coo array": sparse.coo_array(m),
        "linear operator": linalg.aslinearoperator(m),
        "no rmatvec": linalg.LinearOperator((64, 64), matvec=lambda v: m @ v, dtype=np.float32),
        "pylops": Pylops(),
        "only A": OnlyA(),
        "forward and adjoint": Named(),
        "function": lambda x: x.flatten(1) @ MATRIX.T,
        "layer": layer,
        "own, not differentiable": Own(),
    }


with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch calls its sparse rows a beta
    OPERATORS = _operators()


@pytest.mark.parametrize("kind", OPERATORS)
def test_operators_of_every_kind(kind):
    y = X.flatten(1) @ MATRIX.T
    torch.testing.assert_close(images(y, OPERATORS[kind]), X, atol=5e-3, rtol=0)


def test_a_shape_that_cannot_be_inferred_is_asked_for():
    with pytest.raises(UsageError, match="give the image_shape"):
        solve(torch.rand(1, 60), lambda x: x.flatten(1)[:, :60], method="tv")
    linalg = pytest.importorskip("scipy.sparse.linalg")
    with pytest.raises(UsageError, match="image_shape"):
        solve(torch.rand(1, 60), linalg.aslinearoperator(np.eye(60)), method="tv")
    square = solve(torch.rand(1, 64), linalg.aslinearoperator(np.eye(64)), method="tv", steps=9)
    assert square.x.shape == (1, 1, 8, 8)
    wide = linalg.LinearOperator((1, 90_000), matvec=lambda v: v[:1], dtype=np.float32)
    with pytest.raises(UsageError, match="has no rmatvec, and 90000 columns are too many"):
        solve(torch.rand(1, 1), wide, method="tv")


# complex measurements


def _fft(x):
    return torch.fft.fft2(x, norm="ortho")


def _ifft(y):
    return torch.fft.ifft2(y, norm="ortho").real


COMPLEX = MATRIX + 1j * MATRIX.flip(0)


@pytest.mark.parametrize("method", ["latent", "tv", "lasso"])
@pytest.mark.parametrize(
    ("physics", "forward"),
    [
        ((_fft, _ifft), _fft),
        ((_fft, lambda y: torch.fft.ifft2(y, norm="ortho")), _fft),
        (_fft, _fft),
        (COMPLEX, lambda x: x.flatten(1).to(COMPLEX.dtype) @ COMPLEX.T),
        (COMPLEX.numpy(), lambda x: x.flatten(1).to(COMPLEX.dtype) @ COMPLEX.T),
        (COMPLEX.to_sparse_coo(), lambda x: x.flatten(1).to(COMPLEX.dtype) @ COMPLEX.T),
    ],
    ids=["pair", "complex adjoint", "autograd", "matrix", "numpy", "sparse"],
)
def test_complex_measurements_of_real_images(physics, forward, method):
    y = forward(X)
    assert y.is_complex()
    if method == "tv" and forward is not _fft:
        pytest.skip("hardly conditioned for first-order steps")
    lam = {"latent": {"steps": 200}, "tv": {"lam": 1e-5}, "lasso": {"lam": 1e-5, "steps": 2000}}
    prior = Images() if method == "latent" else None
    r = solve(y, physics, prior, method, **lam[method])
    assert r.x.dtype == torch.float32
    torch.testing.assert_close(r.x, X, atol=0.02, rtol=0)
    expected = (forward(r.x) - y).abs().square().flatten(1).sum(1).sqrt()
    torch.testing.assert_close(
        r.residual, expected / y.abs().square().flatten(1).sum(1).sqrt(), atol=1e-6, rtol=1e-3
    )


def test_complex_scipy():
    sparse = pytest.importorskip("scipy.sparse")
    linalg = pytest.importorskip("scipy.sparse.linalg")
    y = X.flatten(1).to(COMPLEX.dtype) @ COMPLEX.T
    for op in (sparse.csr_matrix(COMPLEX.numpy()), linalg.aslinearoperator(COMPLEX.numpy())):
        torch.testing.assert_close(images(y, op), X, atol=5e-3, rtol=0)


def test_noise_of_complex_measurements_is_that_of_each_part():
    from innverse.solvers.discrepancy import noise_energy
    from innverse.solvers.problem import Problem

    y = _fft(X)
    problem = Problem.build(y, (_fft, _ifft), None, noise=0.1)
    # 64 complex numbers of a real image, of which the four of frequency 0 or 1/2 have no
    # imaginary part, though rounding may leave something there
    assert 124 * 0.01 - 1e-6 <= float(noise_energy(problem)[0]) <= 128 * 0.01 + 1e-6
    std = torch.full((2, 1, 8, 8), 0.1)
    std[..., 4:] = 0.2
    whitened = Problem.build(y, (_fft, _ifft), None, noise=std)
    assert whitened.y.shape == (2, 1, 8, 8, 2)
    white = whitened.noise.view(-1, 1, 1, 1, 1) * torch.view_as_real(y) / std[..., None]
    torch.testing.assert_close(whitened.y, white.float())


def test_complex_images_are_pairs_of_channels():
    g = torch.Generator().manual_seed(0)
    x = torch.randn(2, 2, 8, 8, generator=g)
    inverse = lambda y: torch.fft.ifft2(y, norm="ortho")  # noqa: E731
    physics = P.ComplexAsChannels((_fft, inverse), image_shape=(1, 8, 8))
    assert P.check_adjoint(physics, x.double(), tol=1e-10) < 1e-10
    y = _fft(torch.complex(*x.chunk(2, 1)))
    torch.testing.assert_close(physics.A(x), y)
    r = solve(y, physics, method="tv", lam=1e-5)
    torch.testing.assert_close(r.x, x, atol=0.01, rtol=0)
    with pytest.raises(ShapeError, match="the images have 2 channels but the prior knows 1"):
        images(y, physics)
    with pytest.raises(ShapeError, match=r"\(B, 2, 8, 8\), got"):
        physics.A(x[:, :1])


# several measurements of one image


class TensorList:
    """deepinv's measurements of a stack."""

    def __init__(self, x):
        self.x = list(x)


class Half:
    """Deepinv's manner; sees one half of the rows."""

    def __init__(self, rows):
        self.rows = rows

    def A(self, x, **kwargs):
        return x[:, :, self.rows]

    def A_adjoint(self, y, **kwargs):
        x = torch.zeros(len(y), 1, 8, 8, dtype=y.dtype)
        x[:, :, self.rows] = y
        return x


class Stack:
    """deepinv's StackedLinearPhysics."""

    def __init__(self, physics_list):
        self.physics_list = physics_list

    def A(self, x):
        return TensorList([p.A(x) for p in self.physics_list])

    def A_adjoint(self, y):
        return sum(p.A_adjoint(m) for p, m in zip(self.physics_list, y.x, strict=True))


@pytest.mark.parametrize("kind", [list, tuple, Stack])
@pytest.mark.parametrize("given", [list, tuple, TensorList])
def test_stacks_of_foreign_operators(kind, given):
    parts = [Half(slice(0, 4)), Half(slice(4, 8))]
    y = given([p.A(X) for p in parts])
    torch.testing.assert_close(images(y, kind(parts)), X, atol=1e-3, rtol=0)


def test_stacks_of_different_shapes_and_levels():
    blur = P.Blur(P.gaussian_kernel(1.0), noise=0.3)
    parts = [blur, P.CompressedSensing(30, (1, 8, 8)), P.Denoising(noise=0.01)]
    stack = P.Stacked(parts)
    assert P.check_adjoint(stack, X.double(), tol=1e-6) < 1e-6
    y = stack(X, torch.Generator().manual_seed(0))
    assert y.shape == (2, 64 + 30 + 64)
    r = solve(y, stack, method="tv", lam=1e-4)
    # the blurred picture is all but noise beside the other two
    assert (r.x - X).square().mean().sqrt() < 0.03
    many = images([p.A(X) for p in parts], [P.as_physics(p) for p in parts])
    torch.testing.assert_close(many, X, atol=2e-3, rtol=0)
    mixed = [(_fft, _ifft), P.Denoising()]
    with pytest.raises(InnverseError):
        solve([_fft(X), X], mixed, method="tv")
    mixed = [P.as_physics((_fft, _ifft)), P.Denoising()]
    many = solve([_fft(X), X], mixed, method="tv", lam=1e-5)
    torch.testing.assert_close(many.x, X, atol=0.01, rtol=0)


def test_wrong_stacks_are_said_in_one_line():
    parts = [Half(slice(0, 4)), Half(slice(4, 8))]
    with pytest.raises(ShapeError, match="1 measurements for 2 operators"):
        images([parts[0].A(X)], parts)
    with pytest.raises(InputError, match="needs a list of measurements"):
        images(3.0, parts)


# what was not measured may hold anything


def test_unknown_pixels_may_hold_anything():
    mask = torch.rand(8, 8, generator=torch.Generator().manual_seed(1)) > 0.4
    expected = solve(X * mask, P.Inpainting(mask), method="tv")
    for junk in (torch.nan, 7.0):
        y = torch.where(mask, X, junk)
        r = solve(y, P.Inpainting(mask), method="tv")
        assert torch.equal(r.x, expected.x) and torch.equal(r.residual, expected.residual)
    y = X.clone()
    y[..., mask] = torch.nan
    with pytest.raises(InputError, match="NaN of 128 values"):
        solve(y, P.Inpainting(mask), method="tv")


def test_what_is_wrong_inside_a_stack_is_found():
    parts = [P.as_physics((lambda x: x.clamp_min(0.2), lambda y: y)), P.Denoising()]
    with pytest.raises(InputError, match="Stacked is (affine|not linear)"):
        solve([X, X], parts, method="tv")


def test_items_that_influence_one_another_are_refused():
    def mixing(x):
        return x + 0.5 * x.mean(0, keepdim=True)

    with pytest.raises(InputError, match="mixes the items of a batch"):
        solve(X, (mixing, mixing), method="tv")


def test_complex_numbers_where_real_ones_belong():
    with pytest.raises(InputError, match=r"pass its real part, y\.real"):
        images(X + 0j, BLUR)
    with pytest.raises(InputError, match=r"pass its real part, y\.real"):
        images(X + 0j, (lambda x: 2 * x, lambda y: 2 * y))


def test_operators_of_one_precision_get_it():
    matrix = torch.eye(8)
    op = (lambda x: x @ matrix, lambda y: y @ matrix.T)
    assert solve(X.double(), op, method="tv", steps=9).x.dtype == torch.float32
    assert images(X.double(), op, steps=9).dtype == torch.float32


def test_within_inference_mode():
    prior = Images()
    with torch.inference_mode():
        found = images(X * 1, P.Denoising(), prior)
    torch.testing.assert_close(found, X, atol=1e-3, rtol=0)
