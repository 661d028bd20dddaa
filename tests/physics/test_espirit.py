"""ESPIRiT: maps of known coils up to a phase, eigenvalues of 1 where there is an image, else none."""

from __future__ import annotations

import pytest
import torch

from innverse.errors import InnverseError
from innverse.physics import espirit_maps
from innverse.physics.fourier import fft
from innverse.physics.mri import NamedMRI, simulated_sensitivities

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


def test_the_command_takes_them_by_name(tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "head.h5", "w") as file:
        file["kspace"] = noisy(1e-3).to(torch.complex64)[None].numpy()
    scan = NamedMRI(every=2, sensitivities="espirit").scan(tmp_path / "head.h5")
    found = torch.view_as_complex(scan.physics.sensitivities).to(torch.complex128)
    _, outside = inside(4)
    power = found.abs().square().sum(0)
    assert float((power[outside] == 0).double().mean()) > 0.9
    walsh = NamedMRI(every=2, sensitivities="walsh").scan(tmp_path / "head.h5")
    usual = NamedMRI(every=2).scan(tmp_path / "head.h5")
    assert torch.equal(walsh.physics.sensitivities, usual.physics.sensitivities)
    assert not torch.equal(walsh.physics.sensitivities, scan.physics.sensitivities)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: espirit_maps(noisy(0), 4), "fit into the calibration region of 4x4"),
        (lambda: espirit_maps(noisy(0), 24, kernel=1), "kernel=1"),
        (lambda: espirit_maps(noisy(0).real), "must be complex"),
        (lambda: espirit_maps(noisy(0) * (torch.arange(W) % 2), 24), "were not measured"),
    ],
)
def test_what_does_not_fit_is_said_in_one_line(call, words):
    with pytest.raises(InnverseError, match=words) as caught:
        call()
    assert "\n" not in str(caught.value)
