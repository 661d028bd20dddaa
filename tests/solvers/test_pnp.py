"""What makes plug and play quick changes no answer."""

from __future__ import annotations

import pytest
import torch

from gaussian_prior import gaussian_prior
from innverse import flows
from innverse import physics as P
from innverse.flows.denoise import denoise
from innverse.metrics import psnr
from innverse.solvers import pnp, solve
from innverse.studies.demo.problems import writing


def solved(physics, steps: int, **options):
    x = 0.5 + 0.1 * torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    y = physics(x, torch.Generator().manual_seed(1))
    return solve(y, physics, gaussian_prior(), "pnp", steps=steps, **options).x


def test_data_steps_are_as_fine_as_they_need_be(monkeypatch):
    physics = P.Blur(P.gaussian_kernel(1.0), boundary="reflect", noise=0.02)
    rough = solved(physics, 20)
    monkeypatch.setattr(pnp, "ROUGH", pnp.FINE)
    fine = solved(physics, 20)
    assert 0 < (rough - fine).square().mean().sqrt() < 0.05 * 0.02


def test_thirty_steps_end_where_many_more_do():
    physics = P.Inpainting((torch.arange(64).view(1, 1, 8, 8) % 2).float(), noise=0.02)
    many = solved(physics, 100, churn=0.0)  # without noise, which 8x8 pixels do not average away
    assert (solved(physics, 30, churn=0.0) - many).abs().max() < 5e-3


def test_the_data_may_be_averaged_in():
    """As if the denoised picture v were measured as well, with twice the noise of the data."""
    mask = (torch.arange(64).view(1, 1, 8, 8) % 2).float()
    physics = P.Inpainting(mask, noise=0.02)
    x = 0.5 + 0.1 * torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    y = physics(x, torch.Generator().manual_seed(1))
    v = solve(y, physics, gaussian_prior(), "pnp")
    assert (v.noise_ratio <= 1).all()  # else the data had a say already
    found = solve(y, physics, gaussian_prior(), "pnp", consistency=4.0).x
    torch.testing.assert_close(found, (mask * y + v.x / 4) / (mask + 1 / 4), atol=1e-5, rtol=0)


def test_an_estimated_operator_says_how_strongly_the_prior_is_held():
    physics = P.Blur(P.gaussian_kernel(1.0), noise=0.01, image_shape=(1, 8, 8))
    y = physics(torch.full((1, 1, 8, 8), 0.5), torch.Generator().manual_seed(0))
    plain = solve(y, physics, gaussian_prior())
    assert "estimated" not in plain.reason and not plain.options["consistency"]
    physics.advice = {"strength": 3.0, "consistency": 2.0}
    found = solve(y, physics, gaussian_prior())
    assert found.method == "pnp" and "estimated" in found.reason
    assert (found.options["strength"], found.options["consistency"]) == (3.0, 2.0)
    assert solve(y, physics, gaussian_prior(), strength=1.0).options["strength"] == 1.0


def test_a_level_that_all_items_share_is_taken_once(monkeypatch):
    torch.manual_seed(0)
    options = {"levels": 2, "steps": 2, "hidden": 8, "how": "film", "activation": "silu"}
    flow = flows.build("glow", (1, 8, 8), noise=(0.01, 0.4), **options).eval()
    for p in flow.parameters():
        p.data.add_(0.05 * torch.randn_like(p)).requires_grad_(False)
    y, seen, score = torch.rand(3, 1, 8, 8), [], flow.score
    monkeypatch.setattr(flow, "score", lambda x, c: seen.append(len(c)) or score(x, c))
    alike = denoise(flow, y[:2], torch.tensor([0.1, 0.1]))
    apart = denoise(flow, y, torch.tensor([0.1, 0.1, 0.2]))
    torch.testing.assert_close(alike, apart[:2])
    assert seen == [1, 3]


@pytest.mark.slow
def test_no_text_remains_in_a_photograph_in_colour():
    """With less noise on the way, or more momentum, it does, and total variation is as good."""
    data = pytest.importorskip("skimage.data")
    x = torch.tensor(data.chelsea()[22:278, 97:353]).permute(2, 0, 1)[None].float() / 255
    physics = P.Inpainting(writing(256, 256, torch.Generator().manual_seed(3)).float())
    found = {m: solve(physics(x), physics, "natural-color", m).x for m in ("pnp", "tv")}
    assert psnr(found["pnp"], x) > psnr(found["tv"], x) + 1.5
