"""Pictures in overlapping tiles: windows of operators, and results without seams."""

from __future__ import annotations

import pytest
import torch

import innverse
from innverse.errors import UsageError
from innverse.physics import (
    Blur,
    CompressedSensing,
    Denoising,
    Downsampling,
    GaussianNoise,
    Inpainting,
    gaussian_kernel,
)
from innverse.solvers.in_tiles import MARGIN, _spans, solve_in_tiles
from innverse.solvers.windows import reach_of, window

H, W = 150, 131


def picture(height: int = H, width: int = W):
    down, across = torch.linspace(0, 9, height)[:, None], torch.linspace(0, 7, width)
    return (0.5 + 0.3 * torch.sin(down) * torch.cos(across) + 0.2 * (across > 3)).clamp(0, 1)[
        None, None
    ]


def operators(height: int = H, width: int = W):
    g = torch.Generator().manual_seed(0)
    skew = torch.rand(5, 4, generator=g)
    return {
        "denoising": Denoising(GaussianNoise(torch.rand(1, 1, height, width) + 0.1)),
        "inpainting": Inpainting.random((1, height, width), 0.6, g),
        "blur": Blur(skew / skew.sum(), "reflect"),
        "periodic": Blur(gaussian_kernel(1.0), "circular"),
        "valid": Blur(skew / skew.sum(), "valid"),
        "shrinking": Downsampling(3, (1, height, width), "bicubic"),
    }


@pytest.mark.parametrize("name", operators())
def test_a_window_sees_what_the_operator_sees(name):
    physics, x = operators()[name], picture()
    rows, columns = slice(30, 90), slice(33, W)
    part = window(physics, (1, H, W), rows, columns)
    whole = physics.A(x)[..., part.rows, part.columns]
    found = part.physics.A(x[..., rows, columns])
    assert found.shape == whole.shape
    m = 0 if name == "valid" else -(-reach_of(physics) // getattr(physics, "factor", 1))
    n, k = found.shape[-2] - m, found.shape[-1] - m
    assert torch.allclose(found[..., m:n, m:k], whole[..., m:n, m:k], atol=1e-5)
    if name == "denoising":
        assert torch.equal(part.physics.noise.sigma, physics.noise.sigma[..., rows, columns])


@pytest.mark.parametrize("n", [64, 131, 600, 1001])
def test_weights_of_the_tiles_add_up_to_one(n):
    for physics in (Denoising(), Downsampling(4)):
        total = torch.zeros(n)
        for span in _spans(n, 128, physics):
            total[span.reach] += span.fade(total)
            # what lies in the outer half of a margin is thrown away
            if span.first:
                assert span.fade(total)[: MARGIN // 2 - 1].sum() == 0
        assert torch.allclose(total, torch.ones(n))


@pytest.mark.parametrize("name", ["inpainting", "blur", "periodic", "shrinking"])
def test_tiles_agree_with_the_whole_and_leave_no_seam(name):
    physics, x = operators()[name], picture()
    physics.noise = GaussianNoise(0.02)
    y = physics(x, torch.Generator().manual_seed(0))
    given = {"method": "tv", "steps": 1500}
    whole = innverse.solve(y, physics, **given)
    found = solve_in_tiles(y, physics, side=64, **given)
    off = (found.x - whole.x).abs()
    inside = off[..., 8:-8, 8:-8]  # a tile of a periodic blur knows nothing of the other side
    assert inside.mean() < 5e-4 and inside.max() < 0.02
    assert found.converged.all() and found.method == "tv"
    assert float(found.noise_ratio) == pytest.approx(float(whole.noise_ratio), rel=0.04)


def test_progress_covers_all_tiles_and_the_noise_is_estimated_once():
    x = picture()
    y = x + 0.1 * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    seen = []
    found = solve_in_tiles(
        y, Denoising(), method="tv", side=64, noise="auto",
        progress=lambda done, total, note: seen.append((done, total, note)),
    )  # fmt: skip
    assert float(found.noise) == pytest.approx(0.1, rel=0.1)
    done = [d for d, _, _ in seen]
    assert done == sorted(done) and {t for _, t, _ in seen} == {3 * 3}
    assert any(note.startswith("tile 9 of 9") for _, _, note in seen)


class Independent:
    """Pixels from N(1/2, .3^2), each alone."""

    def log_prob(self, x):
        return -0.5 * ((x - 0.5) / 0.3).square().flatten(1).sum(1)


def test_error_bars_of_tiles_are_put_together():
    options = {"draws": 60, "chains": 2, "warmup": 10, "steps": 4}
    y, s = picture(), 0.1
    found = solve_in_tiles(y, Denoising(), Independent(), "posterior", side=64, noise=s, **options)
    w = 0.3**2 / (0.3**2 + s**2)  # what a pixel is believed
    assert (found.x - (0.5 + w * (y - 0.5))).square().mean().sqrt() < 0.04
    assert float(found.std.mean()) == pytest.approx(w**0.5 * s, rel=0.1)
    assert found.std.min() > 0 and any("draws of its own" in note for note in found.notes[0])
    assert found.diagnostics["sigma"] is None and found.samples is None


def test_an_operator_of_the_whole_image_is_refused():
    physics = CompressedSensing(20, (1, 96, 96))
    with pytest.raises(UsageError, match="whole image"):
        solve_in_tiles(torch.zeros(1, 20) + 0.1, physics, method="tv", side=64)
    with pytest.raises(UsageError, match="side=8"):
        solve_in_tiles(picture(), Denoising(), method="tv", side=8)
