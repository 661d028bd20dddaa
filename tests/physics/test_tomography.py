"""Line integrals against closed forms, and the classical inverse."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from innverse.errors import InnverseError
from innverse.physics import Tomography, tomography
from innverse.physics.kept import Kept

GEN = torch.Generator().manual_seed(0)
N, WIDTH, AT = 48, 5.0, (6.0, -4.0)  # a Gaussian of this width at (x, y), in pixels from the axis


def gaussian() -> torch.Tensor:
    """Mean of the Gaussian over each pixel."""
    edge = torch.arange(N + 1, dtype=torch.float64) - N / 2

    def line(centre):
        return torch.erf((edge - centre) / (math.sqrt(2) * WIDTH)).diff() * WIDTH * _ROOT

    return (line(-AT[1])[:, None] * line(AT[0])[None, :])[None, None]


_ROOT = math.sqrt(math.pi / 2)


def integral(distance: torch.Tensor) -> torch.Tensor:
    """Of the Gaussian along a line at this distance from its centre."""
    return math.sqrt(2 * math.pi) * WIDTH * torch.exp(-(distance**2) / (2 * WIDTH**2))


def fine(physics: Tomography, parts: int = 16) -> torch.Tensor:
    """Positions across the bins, several in each, (detectors, parts)."""
    g = physics.geometry
    t = (torch.arange(g.detectors * parts, dtype=torch.float64) + 0.5) / parts - 0.5
    return ((t - g.centre) * g.spacing).view(g.detectors, parts)


@pytest.mark.parametrize("options", [{}, {"spacing": 1.7}, {"centre": 31.3, "detectors": 80}])
def test_parallel_rays_see_the_integrals_of_a_gaussian(options):
    physics = Tomography((1, N, N), [0, 20, 45, 90, 133, 200], **options)
    y = physics.A(gaussian())[0, 0]
    for view, angle in zip(y, physics.angles.deg2rad(), strict=True):
        shadow = AT[0] * angle.cos() + AT[1] * angle.sin()
        want = integral(fine(physics) - shadow).mean(1)
        assert (view - want).abs().max() < 2e-2 * want.max()
        assert view.sum() * physics.geometry.spacing == pytest.approx(
            float(gaussian().sum()), rel=1e-3
        )


def test_fan_rays_see_the_integrals_of_a_gaussian():
    source, detector = 90.0, 60.0
    physics = Tomography((1, N, N), [0, 33, 90, 210, 301], source=source, detector=detector)
    y = physics.A(gaussian())[0, 0]
    u = fine(physics)
    for view, angle in zip(y, physics.angles.deg2rad(), strict=True):
        across = torch.stack((angle.cos(), angle.sin()))
        towards = torch.stack((-angle.sin(), angle.cos()))
        at_source = source * towards
        ray = u[..., None] * across - detector * towards - at_source
        ray = ray / ray.norm(dim=-1, keepdim=True)
        off = torch.tensor(AT, dtype=torch.float64) - at_source
        distance = off[0] * ray[..., 1] - off[1] * ray[..., 0]
        want = integral(distance).mean(1)
        assert (view - want).abs().max() < 2e-2 * want.max()


@pytest.mark.parametrize("options", [{}, {"source": 100.0, "detector": 50.0}])
def test_filtered_back_projection_inverts(options):
    x = gaussian()
    physics = Tomography((1, N, N), 120, **options)
    found = physics.filtered_back_projection(physics.A(x))
    assert (found - x).abs().max() < 0.03 * x.max()
    soft = physics.filtered_back_projection(physics.A(x), "hann")
    assert (soft - x).abs().max() < 0.05 * x.max()


def test_filtered_back_projection_of_a_strong_fan_is_right_far_from_the_axis():
    y, x = torch.meshgrid(torch.arange(N) - 23.5, torch.arange(N) - 23.5, indexing="ij")
    disc = ((x**2 + y**2) < 20**2).double()[None, None]
    physics = Tomography((1, N, N), 240, source=40.0, detector=30.0)
    inside = (x**2 + y**2) < 17**2
    found = physics.filtered_back_projection(physics.A(disc))[0, 0][inside]
    assert (found - 1).abs().max() < 0.05 and abs(float(found.mean()) - 1) < 3e-3


def test_views_count_for_the_angle_between_them():
    x = gaussian()
    dense, rare = torch.arange(0, 90, 1.0), torch.arange(90, 180, 3.0)
    physics = Tomography((1, N, N), torch.cat((rare, dense, dense[:20])))
    found = physics.filtered_back_projection(physics.A(x))
    assert (found - x).abs().max() < 0.03 * x.max()


def test_the_mean_is_right_where_angles_are_missing():
    x = gaussian()
    physics = Tomography((1, N, N), torch.arange(0, 120.0))
    found = physics.filtered_back_projection(physics.A(x))
    assert float(found.sum()) == pytest.approx(float(x.sum()), rel=0.05)


def test_the_axis_of_rotation_is_found_and_a_wrong_one_noticed():
    def scan(centre, angles=torch.arange(0, 180, 4.0)):
        return Tomography((1, N, N), angles, 90, centre=centre)

    y = scan(41.3).A(gaussian())
    found, off = tomography.axis_of_rotation(y, scan(41.3).angles)
    assert found == pytest.approx(41.3, abs=0.05) and off < 0.05
    assert scan(41.3).doubts(y) == []
    (words,) = scan(48.0).doubts(y)
    assert "bin 41.3" in words
    (words,) = scan(41.3, torch.arange(0, 180, 4.0)[torch.randperm(45, generator=GEN)]).doubts(y)
    assert "do not turn by their angles" in words


def test_angles_as_texts_and_files(tmp_path):
    def views(**options):
        return tomography.NamedTomography(**options).build((1, 16, 16)).angles.tolist()

    assert views(angles="4") == [0, 45, 90, 135]
    assert views(angles="3", span=120) == [0, 40, 80]
    assert views(angles="10,20.5,30") == [10, 20.5, 30]
    (tmp_path / "a.txt").write_text("0\n15\n30\n")
    assert views(angles=str(tmp_path / "a.txt")) == [0, 15, 30]
    with pytest.raises(InnverseError, match="degrees with commas"):
        views(angles="10,x")


def test_the_preconditioner_saves_iterations():
    physics = Tomography((1, N, N), 90)
    x = torch.rand((1, 1, N, N), generator=torch.Generator().manual_seed(0)).double()
    rhs = physics.A_adjoint(physics.A(x))
    from innverse.physics.cg import conjugate_gradient

    def iterations(**options) -> int:
        seen = 0

        def normal(x):
            nonlocal seen
            seen += 1
            return physics.A_normal(x) + 0.5 * x

        conjugate_gradient(normal, rhs, tol=1e-5, **options)
        return seen

    helped = iterations(precondition=physics._preconditioner(rhs, torch.tensor(0.5)))
    assert 1.3 * helped < iterations()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"angles": 0}, "at least one view"),
        ({"angles": []}, "at least one view"),
        ({"angles": torch.linspace(0, math.pi, 20)}, "look like radians"),
        ({"angles": [0.0, math.nan]}, "NaN"),
        ({"spacing": 0.0}, "spacing"),
        ({"detectors": 0}, "detectors=0"),
        ({"centre": 500.0}, "axis must fall"),
        ({"source": 10.0}, "outside the slice"),
        ({"detector": 10.0}, "together with source"),
    ],
)
def test_impossible_geometry_is_said_in_one_line(options, words):
    with pytest.raises(InnverseError, match=words) as caught:
        Tomography((1, 32, 32), **options)
    assert "\n" not in str(caught.value)


def test_a_sinogram_of_other_size_is_refused():
    physics = Tomography((1, 16, 16), 10, 25)
    with pytest.raises(InnverseError, match="1, 10, 25"):
        physics.A_adjoint(torch.zeros(1, 1, 10, 24))
    with pytest.raises(InnverseError, match="no filter is called 'none'"):
        physics.filtered_back_projection(torch.zeros(1, 1, 10, 25), "none")


def test_the_matrix_of_another_type_is_made_of_the_one_that_is_there(monkeypatch):
    physics = Tomography((1, 24, 20), 7)
    x = torch.rand(2, 1, 24, 20)
    y = physics.A(x)
    monkeypatch.setattr(tomography, "back_projection_matrix", None)  # another would be an error
    precise = physics.A(x.double())
    assert precise.dtype == torch.float64
    assert torch.allclose(precise.float(), y, rtol=1e-5)


def test_matrices_are_kept_as_far_as_their_bytes_allow(monkeypatch):
    kept = Kept(10**6)
    monkeypatch.setattr(tomography, "_PAIRS", kept)
    for views in range(2, 12):
        Tomography((1, 32, 32), views).A(torch.rand(1, 1, 32, 32))
        assert kept.nbytes <= 10**6 or len(kept.found) == 1
    assert 1 < len(kept.found) < 10


def test_torch_func_differentiates_it():
    physics = Tomography((1, 12, 10), 9)
    x = torch.rand(1, 1, 12, 10, generator=torch.Generator().manual_seed(0))
    y, back = torch.func.vjp(physics.A, x)
    assert torch.allclose(back(y)[0], physics.A_adjoint(y), atol=1e-4)
    grad = torch.func.grad(lambda x: 0.5 * physics.A(x).square().sum())(x)
    assert torch.allclose(grad, physics.A_adjoint(physics.A(x)), atol=1e-4)


def test_a_number_of_views_may_be_numpys():
    few = Tomography((1, 8, 8), np.int64(4), np.int64(13))
    assert few.geometry.angles == Tomography((1, 8, 8), 4).geometry.angles
