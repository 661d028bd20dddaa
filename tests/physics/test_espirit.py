"""ESPIRiT: maps of known coils up to a phase, eigenvalues of 1 where there is an image, else none."""

from __future__ import annotations

import pytest
import torch

from innverse.errors import InnverseError
from innverse.physics import MRI, espirit_maps
from innverse.physics.fourier import as_channels, as_complex, fft, ifft
from innverse.physics.mri import NamedMRI, _unexplained, simulated_sensitivities

H, W, COILS = 48, 40, 6


def body() -> torch.Tensor:
    y, x = torch.meshgrid(torch.linspace(-1, 1, H), torch.linspace(-1, 1, W), indexing="ij")
    return ((x / 0.6) ** 2 + (y / 0.7) ** 2 < 1).double()


def coils() -> torch.Tensor:
    return simulated_sensitivities(COILS, (H, W)).to(torch.complex128)


def picture() -> torch.Tensor:
    """With edges, and with a phase of its own."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, H), torch.linspace(-1, 1, W), indexing="ij")
    return torch.polar(body() * (0.6 + 0.4 * (x * y > 0)), 0.8 * x.double() + 0.5 * y)


def inside(margin: int = 2) -> torch.Tensor:
    """Pixels of the body, and those outside, that are not at its border."""
    grown = torch.nn.functional.max_pool2d(body()[None], 2 * margin + 1, 1, margin)[0] > 0
    shrunk = 1 - torch.nn.functional.max_pool2d(1 - body()[None], 2 * margin + 1, 1, margin)[0] > 0
    return shrunk, ~grown


def noisy(sigma: float) -> torch.Tensor:
    g = torch.Generator().manual_seed(0)
    k = fft(coils() * picture())
    return k + sigma * torch.randn(k.shape, dtype=k.dtype, generator=g)


def test_maps_are_those_of_the_coils_up_to_a_phase():
    shrunk, _ = inside()
    s, _ = espirit_maps(noisy(1e-3), 24)
    likeness = (s.conj() * coils()).sum(0).abs()  # both of unit length
    assert float(likeness[shrunk].min()) > 0.995
    assert torch.allclose(s[0].imag, torch.zeros(H, W).double(), atol=1e-9)
    assert float(s[0].real.min()) >= 0


def test_eigenvalues_are_one_inside_and_maps_are_cropped_outside():
    shrunk, outside = inside(4)
    s, eigenvalues = espirit_maps(noisy(1e-3), 24)
    assert float(eigenvalues.max()) < 1 + 1e-9 and float(eigenvalues.min()) > -1e-9
    assert float(eigenvalues[0][shrunk].min()) > 0.99
    assert float(eigenvalues[1][shrunk].max()) < 0.9  # one image, and nothing that folds into it
    power = s.abs().square().sum(0)
    assert torch.allclose(power[shrunk], torch.ones_like(power[shrunk]))
    assert float((power[outside] == 0).double().mean()) > 0.9
    _, strict = espirit_maps(noisy(1e-3), 24, crop=1.01)
    assert float(espirit_maps(noisy(1e-3), 24, crop=1.01)[0].abs().max()) == 0
    assert torch.equal(strict, eigenvalues)


def test_what_the_maps_say_holds_in_every_patch():
    """W s = s, so the projection of the coils' images on the maps leaves them as they are."""
    images = coils() * picture()
    s, _ = espirit_maps(noisy(1e-4), 24, crop=0.0)
    projected = s * (s.conj() * images).sum(0)
    assert float((projected - images).abs().max()) < 0.03


def test_the_phase_of_the_image_may_stay_in_the_maps():
    shrunk, _ = inside()
    s, _ = espirit_maps(noisy(1e-3), 24, phase=True)
    real = (s.conj() * coils() * picture()).sum(0)
    assert float((real.imag.abs() / real.abs())[shrunk].max()) < 0.1
    assert float(real.real[shrunk].min()) > 0.5


def folded() -> torch.Tensor:
    """What coils see of a body of 3/2 the width of the field of view."""
    wide = 3 * W // 2
    s = simulated_sensitivities(COILS, (H, wide)).to(torch.complex128)
    y, x = torch.linspace(-1, 1, H)[:, None], torch.linspace(-1, 1, wide)[None]
    images = s * ((x / 0.95) ** 2 + (y / 0.9) ** 2 < 1).double() * (0.7 + 0.3 * (x * y > 0))
    seen = images[..., W // 4 : W // 4 + W].clone()
    seen[..., -(W // 4) :] += images[..., : W // 4]
    seen[..., : W // 4] += images[..., W // 4 + W :]
    return fft(seen)


def test_a_body_that_folds_needs_two_sets_of_maps():
    k = folded()
    mask, images = torch.ones(H, W, dtype=torch.float64), ifft(k)
    left = {}
    for sets in (1, 2):
        maps, eigenvalues = espirit_maps(k, 24, phase=True, sets=sets)
        physics = MRI(maps, mask, complex_image=True)
        rest = images - physics.coil_images(physics.A_adjoint(as_channels(k[None])))[0]
        left[sets] = float(rest.abs().square().sum() / images.abs().square().sum())
    assert left[2] < 0.2 * left[1] and left[2] < 2e-3
    at_sides = eigenvalues[1][H // 2 - 4 : H // 2 + 4]
    assert float(at_sides[:, 2:8].min()) > 0.95 > 0.9 > float(at_sides[:, 18:22].max())
    one, _ = espirit_maps(k, 24)
    assert torch.equal(one, espirit_maps(k, 24, sets=1)[0][0])


@pytest.mark.parametrize("complex_image", [False, True])
def test_several_sets_have_an_exact_adjoint(complex_image):
    maps, _ = espirit_maps(folded(), 24, phase=True, sets=2)
    mask = (torch.arange(W) % 3 != 0).double().expand(H, W)
    physics = MRI(maps, mask, complex_image)
    g = torch.Generator().manual_seed(0)
    x = torch.randn(2, 4 if complex_image else 2, H, W, generator=g, dtype=torch.float64)
    y = torch.randn(2, 2 * COILS, H, W, generator=g, dtype=torch.float64)
    assert physics.image_shape == tuple(x.shape[1:]) and physics.coils == COILS
    one, other = (physics.A(x) * y).sum(), (x * physics.A_adjoint(y)).sum()
    assert float((one - other).abs()) < 1e-10 * float(physics.A(x).norm() * y.norm())


@pytest.mark.parametrize("every", [1, 2])
def test_a_scan_of_a_body_that_folds_gets_two_sets(tmp_path, every):
    h5py = pytest.importorskip("h5py")
    g = torch.Generator().manual_seed(0)
    for name, k in (("wide", folded()), ("inside", noisy(0))):
        noise = 1e-2 * torch.randn(k.shape, dtype=k.dtype, generator=g)
        with h5py.File(tmp_path / name, "w") as file:
            file["kspace"] = (k + noise).to(torch.complex64)[None].numpy()
    wide, inside = (NamedMRI(every=every).scan(tmp_path / n) for n in ("wide", "inside"))
    assert wide.physics.image_shape == (4, H, W) and "folds" in wide.notes[-1]
    assert inside.physics.image_shape == (2, H, W) and len(inside.notes) == 1
    one = NamedMRI(every=every, sets=1, complex_image=False).scan(tmp_path / "wide")
    assert one.physics.image_shape == (1, H, W) and one.physics.advice["strength"] == 10
    with pytest.raises(InnverseError, match="sets=2: only espirit"):
        NamedMRI(sets=2, sensitivities="walsh").scan(tmp_path / "wide")


def test_data_of_a_noisy_scan_are_not_averaged_in(tmp_path):
    h5py = pytest.importorskip("h5py")
    g = torch.Generator().manual_seed(0)
    for sigma, consistency in ((1e-3, 1.0), (0.1, 0.0)):
        k = noisy(0) + sigma * torch.randn(noisy(0).shape, dtype=torch.complex128, generator=g)
        with h5py.File(tmp_path / f"{sigma}.h5", "w") as file:
            file["kspace"] = k.to(torch.complex64)[None].numpy()
        scan = NamedMRI().scan(tmp_path / f"{sigma}.h5")
        assert scan.physics.advice == {"consistency": consistency}


def test_half_of_k_space_is_completed_by_a_real_image(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "part.h5", "w") as file:
        file["kspace"] = (noisy(1e-2) * (torch.arange(W) < 28)).to(torch.complex64)[None].numpy()
    scan = NamedMRI(calibration=12).scan(tmp_path / "part.h5")
    assert scan.physics.image_shape[0] in (1, 2) and not scan.physics.complex_image


def test_pictures_are_what_coils_see_of_all_sets():
    g = torch.Generator().manual_seed(0)
    maps, _ = espirit_maps(folded(), 24, phase=True, sets=2)
    for complex_image, channels in ((False, 2), (True, 4)):
        physics = MRI(maps, torch.ones(H, W), complex_image)
        x = torch.randn(3, channels, H, W, generator=g, dtype=torch.float64)
        want = physics.coil_images(x).abs().square().sum(1, keepdim=True).sqrt()
        torch.testing.assert_close(physics.as_picture(x), want)
    one = MRI(maps[0], torch.ones(H, W))
    x = torch.randn(3, 1, H, W, generator=g, dtype=torch.float64)
    assert torch.equal(one.as_picture(x), x)  # real ones may be negative


def test_the_command_takes_them_by_name(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "head.h5", "w") as file:
        file["kspace"] = noisy(1e-3).to(torch.complex64)[None].numpy()
    scan = NamedMRI(every=2, sensitivities="espirit").scan(tmp_path / "head.h5")
    found = torch.view_as_complex(scan.physics.sensitivities).to(torch.complex128)
    power = found.abs().square().sum(0)
    assert float((power - 1).abs().max()) < 1e-5  # outside of the body, too
    walsh = NamedMRI(every=2, sensitivities="walsh").scan(tmp_path / "head.h5")
    usual = NamedMRI(every=2).scan(tmp_path / "head.h5")
    assert not torch.equal(walsh.physics.sensitivities, scan.physics.sensitivities)
    rest = [float(_unexplained(s.physics, as_complex(s.y)[0]).norm()) for s in (walsh, scan)]
    better = scan if rest[1] < rest[0] else walsh
    assert torch.equal(usual.physics.sensitivities, better.physics.sensitivities)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: espirit_maps(noisy(0), 4), "fit into the calibration region of 4x4"),
        (lambda: espirit_maps(noisy(0), 24, kernel=1), "kernel=1"),
        (lambda: espirit_maps(noisy(0), 24, sets=9), "1 to 6 sets"),
        (lambda: espirit_maps(noisy(0).real), "must be complex"),
        (lambda: espirit_maps(noisy(0) * (torch.arange(W) % 2), 24), "were not measured"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(call, words):
    with pytest.raises(InnverseError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)
