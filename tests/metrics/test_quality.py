from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from innverse.errors import ShapeError
from innverse.metrics import psnr, psnr8, ssim

skimage_metrics = pytest.importorskip("skimage.metrics")


def pair(shape=(3, 3, 24, 31), noise=0.1):
    generator = torch.Generator().manual_seed(0)
    ref = torch.rand(shape, generator=generator)
    ref = torch.nn.functional.avg_pool2d(ref, 5, 1, 2)
    levels = noise * torch.arange(1, shape[0] + 1).view(-1, 1, 1, 1)
    return ref + levels * torch.randn(shape, generator=generator), ref


def skimage_ssim(x, ref, data_range=1.0):
    return skimage_metrics.structural_similarity(
        x.double().numpy(), ref.double().numpy(), data_range=data_range, channel_axis=0,
        gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    )  # fmt: skip


@pytest.mark.parametrize("shape", [(3, 3, 24, 31), (2, 1, 11, 40)])
def test_ssim_equals_scikit_image(shape):
    x, ref = pair(shape)
    ours = ssim(x, ref)
    assert ours.shape == shape[:1]
    for b in range(shape[0]):
        assert ours[b].item() == pytest.approx(skimage_ssim(x[b].clamp(0, 1), ref[b]), abs=1e-9)
    raw = ssim(255 * x, 255 * ref, data_range=255.0, clip=False)
    assert raw[0].item() == pytest.approx(skimage_ssim(255 * x[0], 255 * ref[0], 255.0), abs=1e-9)


def test_psnr_equals_scikit_image():
    x, ref = pair()
    for clip in (True, False):
        ours = psnr(x, ref, clip=clip)
        for b in range(3):
            y = x[b].clamp(0, 1) if clip else x[b]
            theirs = skimage_metrics.peak_signal_noise_ratio(
                ref[b].double().numpy(), y.double().numpy(), data_range=1.0
            )
            assert ours[b].item() == pytest.approx(theirs, abs=1e-9)
    assert ours[0] > ours[1] > ours[2]


def test_psnr8_is_the_number_of_8_bit_files():
    x, ref = pair()
    torch.testing.assert_close(psnr8(x, ref), psnr(x, ref), rtol=0, atol=1e-9)

    def as_file(image):
        return np.rint(image.clamp(0, 1).double().numpy() * 255).astype(np.uint8)

    theirs = skimage_metrics.peak_signal_noise_ratio(as_file(ref[1]), as_file(x[1]))
    assert psnr8(x, ref, quantize=True)[1].item() == pytest.approx(theirs, abs=1e-9)
    assert psnr8(ref + 0.4 / 255, ref.mul(255).round() / 255, quantize=True).shape == (3,)


def test_known_values():
    ref = torch.full((1, 1, 16, 16), 0.5)
    assert psnr(ref + 0.1, ref).item() == pytest.approx(20, abs=1e-5)
    assert psnr(ref, ref).item() == math.inf and ssim(ref, ref).item() == pytest.approx(1)
    assert torch.isnan(psnr(ref * torch.nan, ref)).all()


def test_items_do_not_touch_each_other():
    x, ref = pair()
    spoiled = x.clone()
    spoiled[0] = torch.nan
    for metric in (psnr, psnr8, ssim):
        assert torch.equal(metric(spoiled, ref)[1:], metric(x, ref)[1:])
        assert metric(spoiled, ref)[0].isnan()


@pytest.mark.parametrize("metric", [psnr, psnr8, ssim])
def test_shapes_are_checked(metric):
    x = torch.zeros(1, 1, 16, 16)
    with pytest.raises(ShapeError, match="give images of one shape"):
        metric(x, x[..., :8])
    with pytest.raises(ShapeError, match="need shape"):
        metric(x[0], x[0])
    with pytest.raises(ShapeError, match="at least 11x11"):
        ssim(x[..., :10], x[..., :10])
