from __future__ import annotations

import pytest
import torch

from innverse import flows
from innverse.errors import InputError, ShapeError
from innverse.flows import Attribute


def small_glow(hidden=8):
    flow = flows.build("glow", (1, 8, 8), levels=2, steps=2, hidden=hidden, noise=(0.01, 0.4))
    for p in flow.parameters():
        p.data.add_(0.05 * torch.randn_like(p))
    return flow.eval()


@pytest.fixture
def flow():
    return small_glow()


def sets(n=20):
    bright = 0.7 + 0.1 * torch.rand(n, 1, 8, 8)
    return bright, bright - 0.6


def test_the_direction_is_the_difference_of_the_means(flow):
    a, b = sets()
    found = Attribute.between(flow, a, (255 * b).round().to(torch.uint8), 0.02)
    with torch.no_grad():
        z, w = flow.encode(a, 0.02), flow.encode((255 * b).round() / 255, 0.02)
    torch.testing.assert_close(found.direction, z.mean(0) - w.mean(0), rtol=1e-4, atol=1e-4)
    error = (z.var(0) / 20 + w.var(0) / 20).sum().sqrt()
    assert found.noise == pytest.approx(float(error), rel=1e-3)
    assert found.length > 3 * found.noise


def test_two_halves_of_one_set_differ_by_chance(flow):
    a, _ = sets(400)
    found = Attribute.between(flow, a[:200], a[200:], 0.02)
    assert found.length == pytest.approx(found.noise, rel=0.4)


def test_strength_zero_is_the_image_and_one_moves_it(flow):
    a, b = sets()
    found = Attribute.between(flow, a, b, 0.02)
    dark, same, bright = found.apply(flow, a[0] - 0.3, torch.tensor([-1.0, 0.0, 1.0]))
    torch.testing.assert_close(same, a[0] - 0.3, rtol=1e-3, atol=1e-4)
    assert dark.mean() < same.mean() - 0.1 < bright.mean() - 0.2


def test_saved_and_read_again(flow, tmp_path):
    found = Attribute.between(flow, *sets(), 0.05)
    again = Attribute.load(found.save(tmp_path / "a.safetensors"))
    assert again.direction.equal(found.direction)
    assert (again.noise, again.counts, again.sigma) == (found.noise, (20, 20), 0.05)
    other = small_glow(hidden=4)
    with pytest.raises(InputError, match="another model"):
        again.apply(other, torch.rand(1, 8, 8), torch.ones(1))
    with pytest.raises(ShapeError):
        again.apply(flow, torch.rand(1, 8, 16), torch.ones(1))


def test_refuses_too_few_images(flow):
    with pytest.raises(InputError, match="at least 2"):
        Attribute.between(flow, torch.rand(1, 1, 8, 8), torch.rand(3, 1, 8, 8), 0.02)
