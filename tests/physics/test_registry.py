"""Operators by name."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from innverse import physics as P
from innverse.catalog import OPERATORS
from innverse.errors import ShapeError, UsageError


@pytest.mark.parametrize("name", [*P.names(), "superresolution"])
def test_every_name_builds_with_its_defaults(name):
    physics = P.build(name, (1, 16, 16), sigma=0.1)
    assert physics.image_shape == (1, 16, 16)
    assert P.check_adjoint(physics, (2, 1, 16, 16)) < 1e-4
    if not OPERATORS[name].rounds:
        assert physics.sigma == 0.1 and P.build(name, (1, 16, 16)).sigma is None


def test_names():
    assert P.names() == [
        "denoising", "inpainting", "blur", "downsampling", "compressed_sensing", "fourier",
            "tomography", "mri", "grayscale", "phase_retrieval", "quantisation", "jpeg",
    ]  # fmt: skip


def test_options_reach_the_operator():
    assert P.build("superresolution", (1, 16, 16), factor="4").factor == 4
    assert P.build("blur", (1, 16, 16), kernel="motion", length=9).kernel.shape[-1] == 11
    assert P.build("compressed_sensing", (1, 16, 16), ratio=0.5).matrix.shape == (128, 256)
    assert isinstance(P.build("compressed_sensing", (1, 512, 512)), P.FastCompressedSensing)
    assert isinstance(P.build("denoising", (1, 8, 8), gain=0.1).noise, P.PoissonNoise)
    mask = torch.zeros(16, 16)
    mask[:8] = 1
    assert torch.equal(P.build("inpainting", (3, 16, 16), mask=mask).mask[0, 0], mask)
    assert torch.equal(P.build("fourier", (1, 16, 16), mask=mask).mask[0, 0], mask)


def test_errors():
    with pytest.raises(UsageError, match="unknown physics 'radon': choose denoising"):
        P.build("radon", (1, 8, 8))
    with pytest.raises(
        UsageError, match=r"unknown option 'strength' .* valid are kernel, kernel_index"
    ):
        P.build("blur", (1, 8, 8), strength=3)
    with pytest.raises(UsageError, match="bad option for physics 'inpainting'"):
        P.build("inpainting", (1, 8, 8), keep="half")
    with pytest.raises(UsageError, match="not both"):
        P.build("denoising", (1, 8, 8), sigma=0.1, gain=0.1)
    with pytest.raises(ShapeError, match="size of the image"):
        P.build("inpainting", (1, 8, 8), mask=torch.ones(4, 4))


def test_listing_names_needs_no_torch():
    code = (
        "import sys, innverse.physics as P; P.names(); P.options('blur'); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
