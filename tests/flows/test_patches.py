"""Patches side by side: an exact density of images of any size, whose denoiser lays the grid anew."""

from __future__ import annotations

import torch

from innverse import flows
from innverse.bijections import Cosines, Positionwise
from innverse.bijections.patches import cosines
from innverse.flows.denoise import denoise


def small(noise=None, patch=4):
    torch.manual_seed(0)
    flow = flows.build("patches", (1, patch, patch), patch=patch, steps=2, hidden=8, noise=noise)
    for p in flow.parameters():
        p.data.add_(0.1 * torch.randn_like(p))
    return flow.double().eval()


def test_the_density_of_an_image_is_that_of_its_patches():
    flow = small()
    image = torch.rand(2, 1, 8, 12, dtype=torch.float64)
    patches = image.unfold(2, 4, 4).unfold(3, 4, 4).reshape(-1, 1, 4, 4)
    expected = flow.log_prob(patches).view(2, -1).sum(1)
    torch.testing.assert_close(flow.log_prob(image), expected)


def test_the_cosines_are_an_orthonormal_basis_from_coarse_to_fine():
    basis = cosines(8).flatten(1)
    torch.testing.assert_close(basis @ basis.T, torch.eye(64, dtype=torch.float64))
    assert basis[0].std() < 1e-12  # the mean
    crossings = [(basis.view(64, 8, 8)[k].diff(dim=d).sign().diff(dim=d) != 0).sum()
                 for k in (1, 63) for d in (0, 1)]  # fmt: skip
    assert max(crossings[:2]) < min(crossings[2:])


def test_colours_of_a_frequency_stand_side_by_side():
    class Keep(torch.nn.Module):
        def forward(self, x, c=None):
            self.seen = x
            return x, x.new_zeros(len(x))

    layer = Cosines(Keep(), 2)
    x = torch.zeros(1, 3, 2, 2, dtype=torch.float64)
    x[:, 1] = 1  # the mean of the second colour is 2 in an orthonormal basis
    layer(x)
    torch.testing.assert_close(layer.inner.seen[0, :, 0, 0], 2.0 * torch.eye(12)[1].double())


def test_denoising_at_a_place_of_the_grid_is_tweedie_of_the_shifted_image():
    flow = small(noise=(0.05, 0.5), patch=8)
    assert flow.shift == 2  # four places on each axis
    y = torch.rand(1, 1, 16, 16, dtype=torch.float64)
    shifted = torch.nn.functional.pad(y, (2, 6, 2, 6), mode="reflect")
    expected = shifted + 0.1**2 * flow.score(shifted, 0.1)
    torch.testing.assert_close(denoise(flow, y, 0.1, [1]), expected[..., 2:18, 2:18])


def test_one_level_for_all_or_one_for_each_image():
    flow = small(noise=(0.05, 0.5))
    x = torch.rand(3, 1, 8, 8, dtype=torch.float64)
    each = flow.log_prob(x, torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64))
    for i, level in enumerate((0.1, 0.2, 0.3)):
        torch.testing.assert_close(flow.log_prob(x[i : i + 1], level), each[i : i + 1])
    assert any(isinstance(m, Positionwise) for m in flow.modules())
