"""Any path through k-space: sums of waves, the grid as a special case, the adjoint."""

from __future__ import annotations

import math
import sys

import pytest
import torch

from innverse.errors import InnverseError, UsageError
from innverse.physics import MRI, NonCartesianMRI, check_adjoint

H, W = 12, 10


def coils(n: int = 3) -> torch.Tensor:
    return torch.randn(n, H, W, dtype=torch.complex128, generator=_gen())


def _gen():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("complex_image", [False, True])
def test_values_are_sums_of_waves(complex_image):
    pytest.importorskip("pytorch_finufft")
    k = (2 * torch.rand(2, 30, generator=_gen(), dtype=torch.float64) - 1) * math.pi
    physics = NonCartesianMRI(coils(), k, complex_image)
    x = torch.randn(2, 1 + complex_image, H, W, generator=_gen()).double()
    rows = torch.arange(H) - H // 2
    columns = torch.arange(W) - W // 2
    waves = torch.exp(-1j * (k[0, :, None, None] * rows[:, None] + k[1, :, None, None] * columns))
    image = torch.complex(x[:, :1], x[:, 1:]) if complex_image else x
    want = torch.einsum("bjhw,mhw->bjm", coils() * image, waves) / math.sqrt(H * W)
    y = physics.A(x)
    assert torch.allclose(y, torch.cat((want.real, want.imag), 1), atol=1e-9)
    assert check_adjoint(physics, x, tol=1e-9) < 1e-9


def test_the_frequencies_of_a_grid_give_the_cartesian_measurement():
    pytest.importorskip("pytorch_finufft")
    rows, columns = (2 * math.pi / n * (torch.arange(n) - n // 2).double() for n in (H, W))
    grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij")).flatten(1)
    x = torch.rand(1, 1, H, W, generator=_gen(), dtype=torch.float64)
    full = MRI(coils(), torch.ones(H, W)).A(x)
    assert torch.allclose(NonCartesianMRI(coils(), grid).A(x), full.flatten(2), atol=1e-9)


def test_what_cannot_be_is_said_in_one_line(monkeypatch):
    for k, words in ((torch.rand(2, 20) * 0.4, "cycles"), (torch.rand(2, 20) * 9, "radians")):
        with pytest.raises(UsageError, match=words):
            NonCartesianMRI(coils(), k)
    monkeypatch.setitem(sys.modules, "pytorch_finufft", None)
    with pytest.raises(InnverseError, match=r"innverse\[mri\]"):
        NonCartesianMRI(coils(), torch.rand(2, 20) * 3).A(torch.rand(1, 1, H, W))
