from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from innverse.errors import ShapeError
from innverse.metrics import frechet
from innverse.metrics.features import RandomFeatures


def pictures(n, seed, side=16):
    """Bright discs in random places."""
    g = torch.Generator().manual_seed(seed)
    y, x, r = (lo + (hi - lo) * torch.rand(n, 1, 1, 1, generator=g)
               for lo, hi in ((4, 12), (4, 12), (2, 5)))  # fmt: skip
    axis = torch.arange(side).float()
    distance = ((axis.view(1, 1, -1, 1) - y) ** 2 + (axis - x) ** 2).sqrt()
    return (r - distance).sigmoid().expand(-1, 3, -1, -1)


def test_they_are_the_same_everywhere():
    real = pictures(20, 0)
    one, two = RandomFeatures(real)(real), RandomFeatures(real)(real)
    assert one.equal(two) and one.shape == (20, 64)
    assert not one.allclose(RandomFeatures(real, seed=1)(real))
    # the first numbers of the first filter, so that a change of the network is noticed
    w = RandomFeatures(real).filters[0]
    assert w.shape == (64, 3, 3, 3) and float(w.mean((2, 3)).abs().max()) < 1e-6
    torch.testing.assert_close(w.square().sum((1, 2, 3)), torch.ones(64))


def test_the_distance_grows_with_what_is_done_to_the_pictures():
    real, others = pictures(100, 0), pictures(100, 1)
    features = RandomFeatures(real)
    noise = torch.randn(others.shape)

    def distance(x):
        return frechet(features(x), features(real))

    blurred = [others, *(F.avg_pool2d(others, k, 1, k // 2) for k in (3, 5, 7))]
    noisy = [others + s * noise for s in (0.0, 0.05, 0.1, 0.2)]
    for series in (blurred, noisy):
        distances = [distance(x) for x in series]
        assert distances == sorted(distances) and distances[-1] > 5 * distances[0]
    assert distance(others.flip(1)[..., :8].repeat(1, 1, 1, 2)) > 3 * distance(others)


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 64, 64)])
def test_any_size(shape):
    real = torch.rand(5, *shape)
    assert RandomFeatures(real)(torch.rand(3, *shape)).isfinite().all()


def test_refuses_a_single_image():
    with pytest.raises(ShapeError):
        RandomFeatures(torch.rand(1, 3, 8, 8))
