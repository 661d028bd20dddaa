"""Codes of the coarsest scales: an orthonormal change of layout, cut short."""

from __future__ import annotations

import pytest
import torch

from innverse import flows, solve
from innverse.bijections import initialize
from innverse.errors import ShapeError, UsageError
from innverse.flows.scales import coarse_first, from_coarse_first, scale_shapes
from innverse.physics import Denoising

KINDS = {
    "haar": lambda: flows.build("glow", (3, 16, 16), levels=3, steps=1, hidden=8, squeeze="haar"),
    "glow": lambda: flows.build("glow", (1, 8, 8), levels=2, steps=1, hidden=8),
    "realnvp": lambda: flows.build("realnvp", (1, 8, 8), levels=3, hidden=8, blocks=1),
    "vector": lambda: flows.build("realnvp", (5,), layers=2, width=8),
}


@pytest.fixture(params=KINDS)
def flow(request):
    torch.manual_seed(0)
    flow = KINDS[request.param]()
    for p in flow.parameters():
        p.data.add_(0.05 * torch.randn_like(p))
    return flow.double().eval()


def test_the_layout_is_orthonormal(flow):
    z = torch.randn(3, *flow.shape).double()
    row = coarse_first(flow.bijection, z)
    torch.testing.assert_close(row.norm(dim=1), z.flatten(1).norm(dim=1))
    torch.testing.assert_close(from_coarse_first(flow.bijection, row, flow.shape), z)


def test_all_scales_give_the_item_back(flow):
    x = torch.rand(2, *flow.shape).double()
    scales = len(scale_shapes(flow.bijection, flow.shape))
    z = flow.encode(x, levels=scales)
    torch.testing.assert_close(flow.decode(z, levels=scales), x)
    with pytest.raises(UsageError, match=f"has {scales} scales"):
        flow.encode(x, levels=scales + 1)


def test_a_cut_code_is_that_of_its_image(flow):
    x = torch.rand(2, *flow.shape).double()
    z = flow.encode(x, levels=1)
    image = flow.decode(z, levels=1)
    torch.testing.assert_close(flow.encode(image, levels=1), z)
    # the rest of its latent is 0, or a draw
    whole = flow.encode(image)
    torch.testing.assert_close(whole.flatten(1).norm(dim=1), z.norm(dim=1))
    g = torch.Generator().manual_seed(0)
    drawn = flow.decode(z, levels=1, temperature=1.0, generator=g)
    torch.testing.assert_close(flow.encode(drawn, levels=1), z)
    assert torch.equal(drawn, image) == (len(scale_shapes(flow.bijection, flow.shape)) == 1)


def test_coarse_scales_are_the_coarse_picture():
    """Before any training a Haar flow keeps what averages keep: PSNR grows with the scales."""
    torch.manual_seed(0)
    flow = flows.build("glow", (1, 16, 16), levels=3, steps=1, hidden=8, squeeze="haar", mix="swap")
    x = torch.rand(32, 1, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    x = x + 0.1 * torch.rand(32, 1, 16, 16)
    initialize(flow, x)
    errors = [float((flow.decode(flow.encode(x, levels=j), levels=j) - x).square().mean().detach())
              for j in (1, 2, 3)]  # fmt: skip
    assert errors[0] > errors[1] > errors[2] and errors[2] < 1e-9


def test_other_sizes_and_wrong_codes():
    flow = KINDS["haar"]()
    x = torch.rand(1, 3, 24, 20)
    z = flow.encode(x, levels=2)
    assert flow.decode(z, levels=2, size=(24, 20)).shape == x.shape
    with pytest.raises(ShapeError, match=r"has the code \(B, 192\)"):
        flow.decode(torch.zeros(1, 5), levels=1)


def test_search_over_the_coarse_scales():
    """`method="latent"` over few numbers finds what the coarse code of the image is near to."""
    torch.manual_seed(0)
    flow = flows.build("glow", (1, 8, 8), levels=2, steps=1, hidden=8, squeeze="haar", mix="swap")
    x = torch.rand(2, 1, 8, 8)
    initialize(flow, torch.rand(16, 1, 8, 8))
    coarse = flow.eval().requires_grad_(False).coarse(1)
    image = coarse.decode(coarse.encode(x))
    found = solve(image, Denoising(), coarse, "latent", steps=60)
    assert float((found.x - image).abs().max()) < 1e-2
    assert found.z.shape == (2, *coarse.latent_shape)
