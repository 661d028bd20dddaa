from __future__ import annotations

import numpy as np
import torch

from innverse.data import ImageSource, fit, fit_all


def test_the_middle_is_averaged_over_areas():
    x = torch.arange(48.0).view(1, 1, 4, 12) / 48
    found = fit(x, (2, 2))  # the 4x4 in the middle
    middle = x[..., 4:8].unfold(2, 2, 2).unfold(3, 2, 2).mean((-1, -2))
    torch.testing.assert_close(found, middle)


def test_size_and_aspect():
    assert fit(torch.rand(2, 3, 9, 7), (16, 8)).shape == (2, 3, 16, 8)
    x = torch.rand(1, 1, 8, 8)
    assert fit(x, (8, 8)).equal(x)
    torch.testing.assert_close(fit(x, (8, 4)), x[..., 2:6])  # cut, not squeezed
    large = fit(x, (20, 20))
    assert large.shape[-1] == 20 and large.min() >= 0 and large.max() <= 1


def test_all_images_of_a_source():
    same = ImageSource(["a", "b"], np.arange(32, dtype=np.uint8).reshape(2, 1, 4, 4))
    assert fit_all(same, (4, 4)).equal(same.stack())
    half = fit_all(same, (2, 2))
    assert half.dtype == torch.uint8 and half[0, 0].tolist() == [[2, 4], [10, 12]]  # 2.5, 4.5: even
