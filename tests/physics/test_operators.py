"""Each operator against an independent implementation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from innverse import physics as P
from innverse.errors import InnverseError, ShapeError, UsageError

SCIPY_MODE = {"circular": "wrap", "reflect": "mirror", "replicate": "nearest", "zero": "constant"}


@pytest.mark.parametrize("boundary", SCIPY_MODE)
@pytest.mark.parametrize("size", [(3, 5), (4, 6), (7, 2), (1, 1)])
def test_blur_is_scipys_convolution(boundary, size):
    ndimage = pytest.importorskip("scipy.ndimage")
    rng = np.random.default_rng(0)
    x, k = rng.random((12, 13)), rng.random(size)
    expected = ndimage.convolve(x, k, mode=SCIPY_MODE[boundary])
    found = P.Blur(torch.from_numpy(k), boundary).A(torch.from_numpy(x)[None, None])
    assert np.allclose(found[0, 0].numpy(), expected, atol=1e-12)


def test_valid_blur_is_scipys_valid_convolution():
    signal = pytest.importorskip("scipy.signal")
    rng = np.random.default_rng(0)
    x, k = rng.random((12, 13)), rng.random((4, 5))
    found = P.Blur(torch.from_numpy(k), "valid").A(torch.from_numpy(x)[None, None])
    assert np.allclose(found[0, 0].numpy(), signal.convolve2d(x, k, "valid"), atol=1e-12)


def test_kernels():
    g = P.gaussian_kernel(1.5)
    assert g.shape == (11, 11) and abs(float(g.sum()) - 1) < 1e-6 and g.argmax() == 60
    assert P.gaussian_kernel(2.0, 8).shape == (8, 8)
    flat = P.motion_kernel(5, 0)
    assert torch.allclose(flat[flat.shape[0] // 2].sum(), torch.tensor(1.0), atol=1e-6)
    rising = P.motion_kernel(9, 45)
    assert rising[3, 7] > 0.05 and rising[7, 3] > 0.05 and rising[3, 3] == rising[7, 7] == 0
    with pytest.raises(UsageError, match="width of a Gaussian"):
        P.gaussian_kernel(0)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_bicubic_downsampling_is_pillows_away_from_the_border(factor):
    x = torch.rand(1, 1, 12 * factor, 10 * factor, generator=torch.Generator().manual_seed(1))
    y = P.Downsampling(factor, filter="bicubic").A(x)[0, 0].numpy()
    image = Image.fromarray(x[0, 0].numpy())
    expected = np.asarray(image.resize((10, 12), Image.Resampling.BICUBIC))
    assert np.allclose(y[2:-2, 2:-2], expected[2:-2, 2:-2], atol=1e-5)


def test_box_downsampling_is_the_block_mean():
    x = torch.rand(2, 3, 12, 9)
    y = P.Downsampling(3, filter="box").A(x)
    assert torch.allclose(y, torch.nn.functional.avg_pool2d(x, 3), atol=1e-6)


@pytest.mark.parametrize("filter", ["box", "bicubic", "gaussian", "none"])
def test_downsampling_keeps_constants_and_any_size(filter):
    physics = P.Downsampling(3, (1, 10, 11), filter)
    y = physics.A(torch.full((1, 1, 10, 11), 0.7))
    assert y.shape == (1, 1, 4, 4) and torch.allclose(y, torch.tensor(0.7), atol=1e-6)


def test_random_inpainting_keeps_the_fraction():
    physics = P.Inpainting.random((3, 20, 10), 0.3, torch.Generator().manual_seed(0), noise=0.1)
    assert int(physics.mask.sum()) == 60
    y = physics(torch.rand(2, 3, 20, 10), torch.Generator().manual_seed(1))
    assert bool((y[:, :, physics.mask[0, 0] == 0] == 0).all())


def test_compressed_sensing_matrix_has_variance_one_over_m():
    physics = P.CompressedSensing(200, (1, 16, 16), seed=3)
    assert abs(float(physics.matrix.var()) * 200 - 1) < 0.02
    assert torch.equal(physics.matrix, P.CompressedSensing(200, (1, 16, 16), seed=3).matrix)
    assert not torch.equal(physics.matrix, P.CompressedSensing(200, (1, 16, 16), seed=4).matrix)


def test_fast_compressed_sensing_preserves_the_norm_and_is_a_dct():
    physics = P.FastCompressedSensing(400, (1, 32, 31))
    x = torch.rand(16, 1, 32, 31)
    ratio = physics.A(x).square().flatten(1).sum(1) / x.square().flatten(1).sum(1)
    assert 0.8 < float(ratio.mean()) < 1.2
    fft = pytest.importorskip("scipy.fft")
    v = x.flatten(1).double() * physics.signs.double()
    expected = fft.dct(v.numpy(), norm="ortho")[:, physics.rows] * np.sqrt(physics.frame)
    assert np.allclose(physics.A(x.double()).numpy(), expected, atol=1e-10)


def test_full_fourier_is_unitary_and_centred():
    physics = P.SubsampledFourier(torch.ones(8, 10))
    x = torch.rand(2, 1, 8, 10, dtype=torch.float64)
    y = physics.A(x)
    assert torch.allclose(y.square().sum(), x.square().sum())
    assert torch.allclose(physics.A_adjoint(y), x, atol=1e-12)
    # the mean of the image sits in the middle of the mask
    assert torch.allclose(y[:, 0, 4, 5] / 80**0.5, x.mean((1, 2, 3)), atol=1e-12)


def test_cartesian_mask_has_full_columns_and_the_right_number():
    mask = P.cartesian_mask((16, 64), 4, 0.1, seed=1)
    assert mask[0].sum() == 16 and bool((mask == mask[0]).all())
    assert bool((mask[0, 29:35] == 1).all())


def test_gaussian_noise_level_and_seed():
    physics = P.Denoising(0.2)
    x = torch.full((2, 1, 64, 64), 0.5)
    y = physics(x, torch.Generator().manual_seed(5))
    assert torch.equal(y, physics(x, torch.Generator().manual_seed(5)))
    assert abs(float((y - x).std()) - 0.2) < 0.01 and physics.sigma == 0.2
    each = P.GaussianNoise(torch.tensor([0.0, 0.3]))
    y = each(x, torch.Generator().manual_seed(5))
    assert torch.equal(y[0], x[0]) and abs(float((y - x)[1].std()) - 0.3) < 0.02
    assert each.select(torch.tensor([1])).level(x[:1]).tolist() == pytest.approx([0.3])
    with pytest.raises(UsageError, match="sigma must be >= 0"):
        P.GaussianNoise(-1.0)


def test_poisson_noise_has_the_right_mean_and_variance():
    noise = P.PoissonNoise(0.02)
    x = torch.full((1, 1, 200, 200), 0.5)
    y = noise(x, torch.Generator().manual_seed(0))
    assert abs(float(y.mean()) - 0.5) < 0.003
    assert abs(float(y.std()) - 0.1) < 0.003
    assert noise.sigma == pytest.approx(0.1)
    assert noise.level(y).tolist() == pytest.approx([0.1], abs=1e-3)
    assert bool((noise(-x) == 0).all())


def test_no_noise_has_no_sigma():
    physics = P.Denoising()
    x = torch.rand(1, 1, 4, 4)
    assert physics.sigma is None and torch.equal(physics(x), x)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: P.Inpainting(torch.ones(4, 5)).A(torch.ones(1, 1, 5, 5)), "4x5 pixels, got 5x5"),
        (lambda: P.Inpainting(torch.ones(2)), "a mask has shape"),
        (lambda: P.Inpainting(torch.ones(4, 5), image_shape=(1, 5, 5)), "does not fit"),
        (lambda: P.Inpainting(torch.ones(3, 1, 4, 4)).A(torch.ones(2, 1, 4, 4)), "3 masks"),
        (lambda: P.Denoising().A(torch.ones(4, 4)), r"\(B, C, H, W\), got"),
        (lambda: P.Denoising(image_shape=(1, 4, 4)).A(torch.ones(1, 3, 4, 4)), "got"),
        (lambda: P.Blur(torch.ones(2, 2, 3)), "a kernel has shape"),
        (lambda: P.Blur(torch.ones(9, 9), "valid").A(torch.ones(1, 1, 4, 4)), "larger image"),
        (lambda: P.Downsampling(3).A(torch.ones(1, 1, 10, 9)), "no multiple of the factor"),
        (lambda: P.CompressedSensing(3, (1, 2, 2)).A_adjoint(torch.ones(1, 4)), "measurements"),
        (lambda: P.MatrixPhysics(torch.ones(3, 4), (1, 2, 3)), "does not fit"),
        (lambda: P.SubsampledFourier(torch.ones(3, 4, 4)), "Fourier mask"),
    ],
)
def test_wrong_shapes_give_one_clear_line(make, message):
    with pytest.raises(ShapeError, match=message) as e:
        make()
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: P.Blur(torch.ones(3, 3), "mirror"),
        lambda: P.Downsampling(2.5),
        lambda: P.Downsampling(2, filter="lanczos"),
        lambda: P.CompressedSensing(100, (1, 2, 2)),
        lambda: P.CompressedSensing(100_000, (3, 512, 512)),
        lambda: P.Inpainting.random((1, 4, 4), keep=0.0),
        lambda: P.Denoising(noise="loud"),
        lambda: P.Denoising().solve_normal(torch.ones(1, 1, 2, 2), 0.0),
        lambda: P.cartesian_mask((4, 4), 0.5),
    ],
)
def test_wrong_options_are_usage_errors(make):
    with pytest.raises(UsageError):
        make()


def test_moves_between_dtypes_and_survives_pickling():
    import pickle

    physics = P.Blur(P.gaussian_kernel(1.0), "reflect", noise=0.1)
    x = torch.rand(1, 1, 9, 9, dtype=torch.float64)
    y = physics.A(x)
    copy = pickle.loads(pickle.dumps(physics)).double()
    assert torch.allclose(copy.A(x), y) and copy.sigma == 0.1


def test_the_pseudo_inverse_of_a_matrix_is_kept_and_dependent_rows_do_not_spoil_it():
    g = torch.Generator().manual_seed(0)
    matrix = torch.randn(12, 36, dtype=torch.float64, generator=g)
    for rows in (matrix, torch.cat([matrix, matrix[:3]]), matrix.T.contiguous()):
        physics = P.MatrixPhysics(rows, (1, 6, 6) if rows.shape[1] == 36 else (1, 3, 4))
        y = torch.randn(2, len(rows), dtype=torch.float64, generator=g)
        expected = (torch.linalg.pinv(rows) @ y.T).T
        for _ in range(2):
            torch.testing.assert_close(physics.A_dagger(y).flatten(1), expected, atol=1e-6, rtol=0)
        chosen = physics.select(torch.tensor([1])).A_dagger(y[1:])
        torch.testing.assert_close(chosen.flatten(1), expected[1:], atol=1e-6, rtol=0)


MASK = torch.tensor([[1, 0, 1], [0, 1, 1]])


@pytest.mark.parametrize(
    "mask",
    [
        MASK,
        MASK.bool(),
        MASK.double(),
        (255 * MASK).to(torch.uint8),
        (255 * MASK).numpy().astype(np.uint8),
        (255 * MASK).numpy().astype(np.int64),
        255.0 * MASK,
        MASK.numpy().astype(bool),
        MASK.tolist(),
    ],
)
def test_masks_of_every_type_are_zeros_and_ones(mask):
    assert torch.equal(P.Inpainting(mask).mask[0, 0].float(), MASK.float())
    assert torch.equal(P.SubsampledFourier(mask).mask[0, 0].float(), MASK.float())


def test_no_digit_of_a_weight_or_kernel_is_lost():
    third = torch.full((2, 2), 1 / 3, dtype=torch.float64)
    x = torch.ones(1, 1, 2, 2, dtype=torch.float64)
    assert P.Inpainting(third).A(x)[0, 0, 0, 0] == 1 / 3
    assert abs(float(P.Blur(third).A(x)[0, 0, 0, 0]) - 4 / 3) < 1e-15
    weights = [1 / 3, 1 / 3, 1 / 3]
    y = P.Downsampling(3, filter=weights).A(torch.ones(1, 1, 3, 3, dtype=torch.float64))
    assert abs(float(y) - 1) < 1e-15
    assert P.MatrixPhysics(third).A(x.view(1, 4)[:, :2])[0, 0] == 2 / 3


@pytest.mark.parametrize(
    "make",
    [
        lambda: P.Inpainting(torch.tensor([[0, 3]])),
        lambda: P.Inpainting(torch.tensor([[0, 7, 255]], dtype=torch.uint8)),
        lambda: P.Inpainting(torch.tensor([[-0.1, 1.0]])),
        lambda: P.Inpainting(torch.tensor([[0.5, 1.5]])),
        lambda: P.Inpainting(torch.zeros(2, 2)),
        lambda: P.Inpainting(torch.ones(0, 4)),
        lambda: P.Inpainting(torch.tensor([[torch.nan, 1.0]])),
        lambda: P.Inpainting(torch.ones(2, 2) * 1j),
        lambda: P.Inpainting("mask.png"),
        lambda: P.Inpainting(torch.ones(2, 2), image_shape=(1, 0, 2)),
        lambda: P.SubsampledFourier(torch.full((2, 2), 2)),
        lambda: P.Blur(torch.tensor([[torch.nan]])),
        lambda: P.Blur(torch.zeros(3, 3)),
        lambda: P.Blur(torch.ones(0, 3)),
        lambda: P.Blur(torch.ones(3, 3) * 1j),
        lambda: P.Blur("gaussian"),
        lambda: P.gaussian_kernel(float("inf")),
        lambda: P.gaussian_kernel(float("nan")),
        lambda: P.gaussian_kernel(1.0, 0),
        lambda: P.gaussian_kernel(1.0, 2.5),
        lambda: P.motion_kernel(float("inf")),
        lambda: P.motion_kernel(5, float("nan")),
        lambda: P.Downsampling(0),
        lambda: P.Downsampling(-2),
        lambda: P.Downsampling(float("nan")),
        lambda: P.Downsampling("2"),
        lambda: P.Downsampling(2, filter=[]),
        lambda: P.Downsampling(2, filter=[torch.nan]),
        lambda: P.CompressedSensing(0, (1, 4, 4)),
        lambda: P.CompressedSensing(2.5, (1, 4, 4)),
        lambda: P.CompressedSensing(4, (1, 4.5, 4)),
        lambda: P.FastCompressedSensing(17, (1, 4, 4)),
        lambda: P.build("compressed_sensing", (1, 4, 4), ratio=1.5),
        lambda: P.build("compressed_sensing", (1, 4, 4), ratio=float("nan")),
        lambda: P.build("downsampling", (1, 4, 4), factor=1.5),
        lambda: P.MatrixPhysics(torch.ones(0, 4)),
        lambda: P.MatrixPhysics(torch.tensor([[torch.inf]])),
        lambda: P.Denoising(image_shape="large"),
        lambda: P.Denoising(image_shape=(1, -4, 4)),
        lambda: P.Inpainting.random((1, 4, 4), keep=float("nan")),
        lambda: P.cartesian_mask((4, 4), float("nan")),
        lambda: P.Stacked([]),
        lambda: P.Stacked([P.Denoising(image_shape=(1, 4, 4)), P.Denoising(image_shape=(1, 5, 5))]),
    ],
)
def test_what_is_no_operator_is_refused_in_one_line(make):
    with pytest.raises(InnverseError) as e:
        make()
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("c", [1e-3, 1.0, 1e3])
def test_norms_are_honest(c):
    each = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for physics in (
        P.Blur(c * P.gaussian_kernel(1.0), "reflect"),
        P.Blur(c * P.gaussian_kernel(1.0)),
        P.MatrixPhysics(c * torch.randn(30, 64), (1, 8, 8)),
        P.as_physics((lambda x: c * x.flip(-1), lambda y: c * y.flip(-1))),
    ):
        eye = torch.eye(64, dtype=torch.float64).view(64, 1, 8, 8)
        matrix = physics.A(eye).flatten(1)
        exact = float(torch.linalg.matrix_norm(matrix, 2)) ** 2
        assert 0.99 * exact <= physics.norm_squared((1, 1, 8, 8)) <= 1.001 * exact
    inpainting = P.Inpainting(each)
    assert torch.allclose(inpainting.norms_squared((2, 1, 8, 8)), each.square().amax((1, 2, 3)))
    assert inpainting.norm_squared((2, 1, 8, 8)) == float(each.max() ** 2)


@pytest.mark.parametrize("name", P.names())
def test_operators_say_whether_they_measure_pictures(name):
    from innverse.physics.registry import measures_images

    physics = P.build(name, (1, 16, 16))
    assert physics.measures_images == measures_images(name) == (name not in _NO_PICTURES)


_NO_PICTURES = ("compressed_sensing", "fourier", "tomography", "mri", "phase_retrieval")


def _imresize(x: np.ndarray, factor: int) -> np.ndarray:
    """MATLAB's imresize(x, 1 / factor): cubic, antialiased, symmetric at the edges (its formulas)."""

    def cubic(t):
        t = np.abs(t)
        near = 1.5 * t**3 - 2.5 * t**2 + 1
        return np.where(t <= 1, near, np.where(t <= 2, -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2, 0))

    for axis in (0, 1):
        n = x.shape[axis]
        out = -(-n // factor)
        u = factor * np.arange(1, out + 1) + 0.5 * (1 - factor)
        taps = np.ceil(4 * factor).astype(int) + 2
        index = np.floor(u - 2 * factor)[:, None] + np.arange(taps)
        weights = cubic((u[:, None] - index) / factor)
        weights /= weights.sum(1, keepdims=True)
        mirrored = np.concatenate([np.arange(n), np.arange(n)[::-1]])[
            (index.astype(int) - 1) % (2 * n)
        ]
        moved = np.moveaxis(x, axis, 0)
        x = np.moveaxis((weights[:, :, None] * moved[mirrored]).sum(1), 0, axis)
    return x


@pytest.mark.parametrize(("factor", "size"), [(2, (12, 10)), (3, (13, 11)), (4, (8, 20))])
def test_bicubic_is_matlabs_imresize(factor, size):
    x = torch.rand(1, 1, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    ours = P.Downsampling(factor, (1, *size), boundary="symmetric").A(x)[0, 0]
    assert np.allclose(ours.numpy(), _imresize(x[0, 0].numpy(), factor), atol=1e-12)


@pytest.mark.parametrize(
    ("name", "by"), [("area", "BOX"), ("bilinear", "BILINEAR"), ("bicubic", "BICUBIC")]
)
@pytest.mark.parametrize("factor", [2, 3, 5])
def test_every_filter_is_pillows_up_to_the_edges(name, by, factor):
    x = torch.rand(6 * factor, 4 * factor, generator=torch.Generator().manual_seed(0))
    theirs = Image.fromarray(x.numpy()).resize((4, 6), Image.Resampling[by])
    ours = P.Downsampling(factor, filter=name, boundary="renormalised").A(x[None, None])[0, 0]
    assert np.allclose(ours.numpy(), np.asarray(theirs), atol=1e-6)


def test_a_last_block_whose_one_pixel_lies_beyond_the_border_is_seen_by_its_nearest():
    physics = P.Downsampling(3, (1, 4, 7), "none", "renormalised")
    x = torch.arange(28.0).view(1, 1, 4, 7)
    assert torch.equal(physics.A(x), x[:, :, [1, 3]][..., [1, 4, 6]])
    assert float(physics.norms_squared(x.shape)) == pytest.approx(1.0)
