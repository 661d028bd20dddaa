from __future__ import annotations

import pytest
import torch

from innverse.errors import InputError, ShapeError
from innverse.metrics import nearest


def test_as_by_hand_in_any_chunks():
    x, images = torch.rand(5, 3, 4, 4), torch.rand(23, 3, 4, 4)
    by_hand = torch.cdist(x.flatten(1).double(), images.flatten(1).double()) / 48**0.5
    expected, order = by_hand.sort(1)
    for chunk in (1, 7, 100):
        distances, index = nearest(x, images, 3, chunk=chunk)
        assert index.equal(order[:, :3])
        torch.testing.assert_close(distances.double(), expected[:, :3])


def test_a_copy_is_found_at_distance_zero():
    images = torch.randint(0, 256, (40, 1, 8, 8), dtype=torch.uint8)
    distances, index = nearest(images[[7, 30]].float() / 255, images, 2)
    assert index[:, 0].tolist() == [7, 30]
    assert float(distances[:, 0].max()) == 0 and float(distances[:, 1].min()) > 0.1


def test_refuses_what_does_not_fit():
    with pytest.raises(ShapeError):
        nearest(torch.rand(1, 1, 4, 4), torch.rand(2, 1, 4, 5))
    with pytest.raises(InputError):
        nearest(torch.rand(1, 4), torch.rand(2, 4), 3)
