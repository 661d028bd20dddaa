"""Operators that users bring, and the checks on them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from innverse import physics as P
from innverse.errors import InputError, ShapeError, UsageError


class Foreign:
    """Has deepinv's methods and nothing else; counts how often it is called."""

    class noise_model:
        sigma = torch.tensor(0.05)

    def A(self, x, **kwargs):
        assert not x.requires_grad
        return 2 * x[:, :, ::2]

    def A_adjoint(self, y, **kwargs):
        x = torch.zeros(*y.shape[:2], 2 * y.shape[2], y.shape[3], dtype=y.dtype)
        x[:, :, ::2] = 2 * y
        return x


class Wrong(Foreign):
    def A_adjoint(self, y):
        return super().A_adjoint(y) * 1.01


def test_duck_typed_object():
    physics = P.as_physics(Foreign())
    assert physics.sigma == pytest.approx(0.05)
    x = torch.rand(2, 1, 4, 3, requires_grad=True)
    (grad,) = torch.autograd.grad(physics.A(x).square().sum() / 2, x)
    assert torch.allclose(grad, physics.A_normal(x.detach()))
    assert torch.allclose(physics.A_dagger(physics.A(x.detach()))[:, :, ::2], x[:, :, ::2])
    assert P.as_physics(physics) is physics


def test_wrong_adjoint_is_named_with_both_inner_products():
    for obj in (Wrong(), P.as_physics(Wrong())):
        with pytest.raises(InputError, match=r"adjoint of Wrong is wrong: <A x, y> = \S+ but") as e:
            P.check_adjoint(obj, (4, 1, 16, 16))
        assert "\n" not in str(e.value)
    assert P.check_adjoint(Foreign(), (4, 1, 16, 16)) < 1e-5


def test_adjoint_of_the_wrong_shape_is_named():
    pair = (lambda x: x[..., 1:], lambda y: y)
    with pytest.raises(InputError, match="returns shape"):
        P.check_adjoint(P.as_physics(pair), (1, 1, 4, 4))


@pytest.mark.parametrize("kind", ["operator", "sparse", "array", "matrix"])
def test_scipy_and_matrices(kind):
    sparse = pytest.importorskip("scipy.sparse")
    linalg = pytest.importorskip("scipy.sparse.linalg")
    m = np.random.default_rng(0).random((5, 12))
    obj = {
        "operator": linalg.aslinearoperator(m),
        "sparse": sparse.csr_matrix(m),
        "array": m,
        "matrix": torch.from_numpy(m),
    }[kind]
    physics = P.as_physics(obj, (1, 3, 4))
    x = torch.rand(2, 1, 3, 4, dtype=torch.float64, requires_grad=True)
    y = physics.A(x)
    assert np.allclose(y.detach().numpy(), x.detach().flatten(1).numpy() @ m.T)
    assert P.check_adjoint(physics, x.detach(), tol=1e-12) < 1e-12
    (grad,) = torch.autograd.grad(y.square().sum() / 2, x)
    assert torch.allclose(grad, physics.A_normal(x.detach()))
    with pytest.raises(ShapeError):
        P.as_physics(obj, (1, 3, 5))
    with pytest.raises(ShapeError):
        physics.A_adjoint(torch.ones(2, 6, dtype=torch.float64))


def test_scipy_needs_an_image_shape():
    linalg = pytest.importorskip("scipy.sparse.linalg")
    with pytest.raises(UsageError, match="image_shape"):
        P.as_physics(linalg.aslinearoperator(np.eye(4)))


def test_unusable_object_is_named():
    with pytest.raises(UsageError, match="cannot use str"):
        P.as_physics("blur")


def test_nan_in_the_measurement_is_counted():
    y = torch.ones(2, 1, 4, 4)
    P.check_measurement(y)
    y[0, 0, 1, 1:3] = torch.nan
    with pytest.raises(InputError, match="contains 2 NaN of 32 values"):
        P.check_measurement(y)
    y[1, 0, 0, 0] = torch.inf
    with pytest.raises(InputError, match="contains 3 NaN or Inf"):
        P.check_measurement(y)
