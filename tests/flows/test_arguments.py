"""What users give a flow: types, sizes and conditions are taken rightly, or refused in one line."""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from flows.every import EVERY, build, items
from innverse import flows
from innverse.bijections import ActNorm, Standardize, initialize
from innverse.data import dequantize
from innverse.errors import InnverseError, InputError, ShapeError, UsageError

NOISE = {"noise": (0.01, 0.4)}


def awake(name, shape, **options):
    torch.manual_seed(0)
    flow = flows.build(name, shape, **options)
    for p in flow.parameters():
        p.data.add_(0.1 * torch.randn_like(p))
    return flow.eval()


def glow(shape=(1, 8, 8), **options):
    return awake("glow", shape, **{"levels": 2, "steps": 1, "hidden": 4} | options)


# ---- types --------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["nsf", "glow"])
def test_types_are_converted_where_nothing_is_lost(case):
    flow = build(case)
    x = items(flow).half().float()
    expected = flow.log_prob(x)
    for given in (x.double(), x.half(), x.numpy(), x.double().numpy(), x.tolist()):
        torch.testing.assert_close(flow.log_prob(given).float(), expected)
    assert flow.double().log_prob(x).dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32, torch.int64, torch.bool])
def test_integer_coordinates_are_numbers(dtype):
    flow = build("nsf")
    x = torch.tensor([[0, 1, 1], [1, 0, 1]])
    found = flow.log_prob(x.to(dtype)).float()
    torch.testing.assert_close(found, flow.log_prob(x.float()))


def test_integer_pixels_are_refused():
    flow, x = glow(), torch.randint(0, 256, (2, 1, 8, 8))
    for dtype in (torch.uint8, torch.int64):
        for method in (flow.log_prob, flow.encode, flow.score, flow):
            with pytest.raises(InputError, match=r"live on \[0, 1\]: divide .* bits_per_dim"):
                method(x.to(dtype))
    mask = x > 100
    torch.testing.assert_close(flow.log_prob(mask), flow.log_prob(mask.float()))


@pytest.mark.parametrize(
    "x", [torch.zeros(2, 3, dtype=torch.complex64), "text", object(), [[1.0, "a", 2.0]], None]
)
def test_what_holds_no_numbers_is_refused(x):
    with pytest.raises(InputError, match="complex|of type"):
        build("nsf").log_prob(x)


def test_half_precision_is_refused():
    for dtype in (torch.float16, torch.bfloat16):
        flow = build("glow").to(dtype)
        with pytest.raises(InputError, match=r"flow.float\(\)"):
            flow.log_prob(items(flow).to(dtype))


def test_bits_per_dim_of_integers_is_that_of_the_exact_dequantisation():
    flow = glow()
    v = torch.randint(0, 256, (2, 1, 8, 8), dtype=torch.uint8)
    for values, levels in ((v, 256), (v.long(), 256), (v // 8, 32), (v.int() * 257, 65536)):
        torch.manual_seed(1)
        found = flow.bits_per_dim(values, levels=levels)
        torch.manual_seed(1)
        x = dequantize(values, levels=levels)
        expected = math.log2(levels) - flow.log_prob(x) / (64 * math.log(2))
        torch.testing.assert_close(found, expected)
    with pytest.raises(InputError, match="from .* with levels=32 they are 0 to 31"):
        flow.bits_per_dim(v, levels=32)


@pytest.mark.parametrize("levels", [2, 16, 100, 256, 1000, 4096, 65536])
def test_dequantised_pixels_stay_below_one(levels):
    most = torch.full((3,), levels - 1)
    largest = torch.tensor([0.0, 0.5, 1 - 2**-24])
    x = dequantize(most, noise=largest, levels=levels)
    assert x.dtype == torch.float32 and x.max() < 1 and x.min() >= (levels - 1) / levels - 1e-7
    if levels & (levels - 1) == 0:
        assert torch.equal((x.double() * levels).floor(), most.double())


# ---- conditions ---------------------------------------------------------------------------------


def test_one_condition_is_that_of_all_items():
    flow = awake("nsf", (3,), layers=2, width=8, condition=2)
    x, c = torch.randn(4, 3), torch.randn(2)
    expected = flow.log_prob(x, c.expand(4, 2))
    for given in (c, c[None], c.double(), c.numpy(), c.tolist()):
        torch.testing.assert_close(flow.log_prob(x, given), expected)
    assert flow.sample(5, c).shape == flow.sample(5, c[None]).shape == (5, 3)
    assert flow.sample((2, 3), torch.randn(2, 3, 2)).shape == (2, 3, 3)
    alone = awake("nsf", (3,), layers=2, width=8, condition=1)
    torch.testing.assert_close(alone.log_prob(x, 0.5), alone.log_prob(x, torch.full((4, 1), 0.5)))


@pytest.mark.parametrize(
    ("c", "message"),
    [
        (torch.zeros(3, 2), "3 conditions for 4 items"),
        (torch.zeros(4, 3), r"is \(B, 2\), got \(4, 3\)"),
        (torch.zeros(4, 2, 1), r"is \(B, 2\)"),
        (torch.zeros(3), r"is \(B, 2\), got \(3,\)"),
        (0.3, r"is \(B, 2\)"),
        (None, "needs condition of 2 channels: pass c"),
        ("a", "the condition c is of type str"),
    ],
)
@pytest.mark.parametrize("method", ["log_prob", "encode", "decode", "score", "bits_per_dim"])
def test_conditions_that_do_not_fit(method, c, message):
    flow = awake("realnvp", (3,), layers=2, width=8, condition=2)
    with pytest.raises(InputError, match=message):
        getattr(flow, method)(torch.randn(4, 3), c)


def test_maps_where_no_network_takes_one():
    for name, options in (
        ("glow", {"how": "film", "levels": 1, "steps": 1, "hidden": 4}),
        ("tarflow", {"blocks": 1, "hidden": 8, "heads": 2, "depth": 1}),
        ("flow_matching", {"hidden": 4, "evaluations": 4}),
    ):
        flow = flows.build(name, (1, 8, 8), condition=2, **options)
        with pytest.raises(ShapeError, match=r"is \(B, 2\), got \(1, 2, 8, 8\)"):
            flow.log_prob(torch.rand(1, 1, 8, 8), torch.rand(1, 2, 8, 8))


@pytest.mark.parametrize("method", ["log_prob", "encode", "sample", "dist", "score", "interpolate"])
def test_other_names_of_the_condition(method):
    flow = awake("nsf", (3,), layers=2, width=8, condition=2)
    x = torch.randn(4, 3)
    given = {"sample": (2,), "dist": (), "interpolate": (x[0], x[1])}.get(method, (x,))
    for name in ("context", "cond", "condition"):
        with pytest.raises(UsageError, match=f"no argument '{name}': the condition is called c"):
            getattr(flow, method)(*given, **{name: torch.zeros(4, 2)})


def test_noise_and_condition_exclude_each_other():
    with pytest.raises(UsageError, match="on one or on the other"):
        glow(condition=2, **NOISE)


@pytest.mark.parametrize("sigma", [0.9, 0.001, 0.0, -0.1, math.nan, math.inf])
@pytest.mark.parametrize("method", ["log_prob", "encode", "decode", "score", "denoise", "sample"])
def test_noise_levels_outside_the_range(method, sigma):
    flow = glow(**NOISE)
    x = 2 if method == "sample" else torch.rand(2, 1, 8, 8)
    for given in (sigma, torch.tensor([0.1, sigma])):
        with pytest.raises(InputError, match="lies outside"):
            getattr(flow, method)(x, given)


def test_levels_outside_the_range_become_nan_where_asking_would_stop():
    flow = glow(**NOISE)
    x, sigma = torch.rand(2, 1, 8, 8), torch.tensor([0.1, 0.9])
    found = torch.func.vmap(lambda x, s: flow.log_prob(x[None], s)[0])(x, sigma)
    assert found.isnan().tolist() == [False, True]


@pytest.mark.parametrize("shape", [(2, 1, 8, 8), (3,), (2, 2)])
def test_maps_of_noise_levels_are_refused(shape):
    flow, x = glow(**NOISE), torch.rand(2, 1, 8, 8)
    for method in (flow.log_prob, flow.denoise, flow.encode):
        with pytest.raises(ShapeError, match="noise level"):
            method(x, torch.full(shape, 0.1))


# ---- what is done to x is done to its condition -------------------------------------------------


@pytest.mark.parametrize(("name", "odd"), [("glow", (9, 11)), ("realnvp", (7, 8))])
def test_a_map_is_padded_with_its_image(name, odd):
    options = {"levels": 2, "hidden": 4} | ({"steps": 1} if name == "glow" else {"blocks": 1})
    flow = awake(name, (1, 8, 8), condition=2, **options)
    x, c = torch.rand(2, 1, *odd), torch.rand(2, 2, *odd)
    pad = [0, -odd[1] % flow.multiple, 0, -odd[0] % flow.multiple]
    whole_x, whole_c = (F.pad(t, pad, mode="reflect") for t in (x, c))
    torch.testing.assert_close(flow.log_prob(x, c), flow.log_prob(whole_x, whole_c))
    z = flow.encode(x, c)
    torch.testing.assert_close(z, flow.encode(whole_x, whole_c))
    back = flow.decode(z, c)
    torch.testing.assert_close(back[..., : odd[0], : odd[1]], x, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(flow.decode(z, c, size=odd), x, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(flow.score(x, c).shape, x.shape)
    path = flow.interpolate(x[0], x[1], 3, c[0])
    assert path.shape == (3, 1, *odd)
    torch.testing.assert_close(path[0], x[0], rtol=1e-3, atol=1e-4)


def test_a_finer_map_is_brought_to_the_image_and_padded_with_it():
    flow = glow(condition=1)
    x, c = torch.rand(1, 1, 9, 11), torch.rand(1, 1, 18, 22)
    expected = flow.log_prob(x, F.avg_pool2d(c, 2))
    torch.testing.assert_close(flow.log_prob(x, c), expected)
    z = flow.encode(x, c)
    torch.testing.assert_close(flow.decode(z, c, size=(9, 11)), x, rtol=1e-3, atol=1e-4)
    with pytest.raises(ShapeError, match=r"say size=\(9, 11\)"):
        flow.decode(z, c)


def test_a_map_that_would_fit_two_images_is_refused():
    with pytest.raises(ShapeError, match="bring c to that size"):
        glow(condition=1).encode(torch.rand(1, 1, 12, 12), torch.rand(1, 1, 10, 11))


def test_samples_of_sizes_that_do_not_divide():
    flow = glow((1, 9, 7), condition=1)
    c = torch.rand(1, 9, 7)
    assert flow.sample(2, c).shape == (2, 1, 9, 7)
    assert flow.dist(c).sample((3,)).shape == (3, 1, 9, 7)
    g = [torch.Generator().manual_seed(0) for _ in range(2)]
    whole = flow.sample(2, F.pad(c, (0, 1, 0, 3), mode="reflect"), size=(12, 8), generator=g[0])
    torch.testing.assert_close(flow.sample(2, c, generator=g[1]), whole[..., :9, :7])
    with pytest.raises(ShapeError, match="multiples of 4"):
        flow.decode(torch.rand(1, 1, 9, 8), c)


def test_paths_between_images_of_different_conditions_end_at_them():
    flow = glow(condition=2)
    (a, b), c = torch.rand(2, 1, 9, 11), torch.rand(2, 2, 9, 11)
    path = flow.interpolate(a, b, 4, c)
    torch.testing.assert_close(path[0], a, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(path[-1], b, rtol=1e-3, atol=1e-4)


# ---- a fixed condition --------------------------------------------------------------------------


def test_the_view_at_a_condition_keeps_it_whatever_is_asked():
    flow = glow(**NOISE)
    x = torch.rand(2, 1, 8, 8)
    view = flow.at(0.1)
    expected = flow.log_prob(x, 0.1)
    for same in (view, view.eval(), view.double().float(), copy.deepcopy(view)):
        torch.testing.assert_close(same.log_prob(x), expected)
        torch.testing.assert_close(same(x), expected)
    torch.testing.assert_close(pickle.loads(pickle.dumps(view)).log_prob(x), expected)
    torch.testing.assert_close(view.dist().log_prob(x), expected)
    torch.testing.assert_close(view.denoise(x), flow.denoise(x, 0.1))
    torch.testing.assert_close(view.denoise(x, 4), flow.denoise(x, 0.1, 4))
    torch.testing.assert_close(view.score(x), flow.score(x, 0.1))
    torch.testing.assert_close(view.at(0.2).log_prob(x), flow.log_prob(x, 0.2))
    g = [torch.Generator().manual_seed(0) for _ in range(2)]
    torch.testing.assert_close(
        view.sample(2, 0.5, generator=g[0]), flow.sample(2, 0.1, 0.5, generator=g[1])
    )
    torch.testing.assert_close(view.interpolate(*x, 3), flow.interpolate(*x, 3, 0.1))
    torch.testing.assert_close(view.draw(2).shape, x.shape)
    with pytest.raises(UsageError, match="is fixed"):
        view.sample(2, c=0.3)


# ---- sizes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [-1, 1.5, "3", (2, -1), None])
def test_numbers_of_samples(n):
    with pytest.raises(UsageError, match="a number of samples"):
        build("nsf").sample(n)


@pytest.mark.parametrize("case", EVERY)
def test_shapes_that_do_not_fit(case):
    flow = build(case)
    x = items(flow)
    for given in (x[0], x[:, :0], torch.cat((x, x), 1), x[None]):
        for method in (flow.log_prob, flow.encode, flow.decode):
            with pytest.raises(ShapeError, match="this flow takes"):
                method(given)


def test_calling_a_flow_is_its_density():
    flow = glow(**NOISE)
    x = torch.rand(2, 1, 8, 8)
    torch.testing.assert_close(flow(x, 0.1), flow.log_prob(x, 0.1))


# ---- the units of the data ----------------------------------------------------------------------


def test_constant_columns_are_named():
    flow = awake("nsf", (3,), layers=2, width=8)
    x = torch.randn(16, 3)
    x[:, 1] = 7.3
    with pytest.warns(UserWarning, match="column 1 of x is constant"):
        initialize(flow, x)
    assert flow.log_prob(x).isfinite().all()


def test_actnorm_says_where_its_scales_end():
    with pytest.warns(UserWarning, match="spread of channel 0, 2 .* Standardize"):
        initialize(ActNorm(3), torch.randn(16, 3) * torch.tensor([1e9, 1.0, 1e-9]))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_batches_to_initialize_from(bad):
    x = torch.randn(4, 3)
    x[2, 1] = bad
    with pytest.raises(InputError, match="NaN or Inf"):
        initialize(build("nsf"), x)
    with pytest.raises(InputError, match="empty"):
        initialize(build("nsf"), x[:0])


def test_standardize_keeps_its_digits_in_every_type():
    layer = Standardize(2)
    x = torch.tensor([[1e9, 1e-9], [1e9 + 3, 4e-9]], dtype=torch.float64)
    initialize(layer, x)
    truth = torch.tensor([[-1.0, -1.0], [1.0, 1.0]])
    for same in (layer, copy.deepcopy(layer).half().float(), copy.deepcopy(layer).double()):
        z, logdet = same(x)
        torch.testing.assert_close(z.float(), truth)
        log_scale = math.log(1.5) + math.log(1.5e-9)
        torch.testing.assert_close(logdet.double(), torch.full((2,), -log_scale).double())
    torch.testing.assert_close(layer.double().inverse(truth.double())[0], x, rtol=1e-14, atol=0)


def test_integers_too_large_for_float32_keep_their_digits():
    flow = awake("nsf", (2,), layers=2, width=8)
    x = torch.randint(0, 1000, (64, 2)) + 10**12
    initialize(flow, x)
    small = awake("nsf", (2,), layers=2, width=8)
    initialize(small, x - 10**12)
    torch.testing.assert_close(flow.encode(x), small.encode(x - 10**12), rtol=1e-4, atol=1e-4)


def test_errors_are_ours():
    """One class to catch, one line to read."""
    flow = glow(**NOISE)
    for call in (
        lambda: flow.log_prob(torch.rand(2, 1, 8, 8, dtype=torch.complex64), 0.1),
        lambda: flow.log_prob(np.zeros((2, 1, 8, 8), np.uint8), 0.1),
        lambda: flow.sample(2, size=(8, 8), c=torch.zeros(3)),
        lambda: flow.interpolate(torch.rand(1, 8, 8), torch.rand(1, 8, 4), c=0.1),
        lambda: flow.interpolate(torch.rand(1, 8, 8), torch.rand(1, 8, 8), 0, 0.1),
        lambda: flow.sample(1, 0.1, -1.0),
        lambda: flow.denoise(torch.rand(1, 1, 8, 8), 0.1, 0),
        lambda: flow.denoise(torch.rand(8, 8), 0.1),
        lambda: build("nsf").sample(2, size=(8, 8)),
    ):
        with pytest.raises(InnverseError) as caught:
            call()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name, shape, options, words",
    [
        ("glow", (1, 8, 8), {"levels": 0}, "levels=0: at least 1"),
        ("residual", (1, 8, 8), {"levels": 0}, "levels=0: at least 1"),
        ("maf", (3,), {"layers": -1}, "layers = -1: 0 or more"),
        ("coupling", (1,), {}, "D >= 2"),
    ],
)
def test_sizes_of_which_no_flow_is_made(name, shape, options, words):
    with pytest.raises(UsageError, match=words):
        flows.build(name, shape, **options)


@pytest.mark.parametrize("levels", [0, 3, 1.5, "all"])
def test_scales_that_there_are_not(levels):
    with pytest.raises(UsageError, match="levels="):
        glow().encode(torch.rand(1, 1, 8, 8), levels=levels)
