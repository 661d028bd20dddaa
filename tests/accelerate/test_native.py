"""The C++ kernels: equal to their formulas, and never in the way."""

from __future__ import annotations

import copy
import functools
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from innverse.accelerate.coupling import Fused
from innverse.accelerate.native import Unavailable, bfloat16, build, perceptron
from innverse.accelerate.native import spline as native
from innverse.accelerate.native.memory import dense
from innverse.bijections import Affine, Coupling, RationalQuadraticSpline
from innverse.errors import UsageError
from innverse.nets import MLP, ConvNet

SHAPES = {"rows of 32": (64, 32), "odd": (7, 5), "images": (3, 2, 5, 7), "one": (1, 1)}


@pytest.fixture
def library():
    try:
        return [build.load(name) for name in ("spline", "perceptron", "affine")]
    except Unavailable as why:
        pytest.skip(f"no C++ kernel here: {why}")


def formula_of(map, direction):
    return functools.partial(getattr(type(map), direction).__wrapped__, map)


def inputs(shape, bins, dtype=torch.float32):
    torch.manual_seed(0)
    x = 2 * torch.randn(shape, dtype=torch.float64)  # some beyond the bound
    p = torch.randn(shape[0], 3 * bins - 1, *shape[1:], dtype=torch.float64)
    return x.to(dtype).requires_grad_(), p.to(dtype).requires_grad_()


def value_and_gradient(function, x, p):
    z, log_derivative = function(x, p)
    weights = torch.linspace(-1, 1, z.numel(), dtype=z.dtype).view_as(z)
    loss = (z * weights).sum() + (log_derivative * weights.cos()).sum()
    return [t.double() for t in (z, log_derivative, *torch.autograd.grad(loss, (x, p)))]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("bins", [2, 8, 13])
@pytest.mark.parametrize("direction", ["forward", "inverse"])
def test_the_kernel_is_the_formula(library, shape, bins, direction):
    map = RationalQuadraticSpline(bins, 3.0)
    assert native.applies(*inputs(shape, bins), bins)
    found = value_and_gradient(getattr(map, direction), *inputs(shape, bins))
    formula = formula_of(map, direction)
    exact = value_and_gradient(formula, *inputs(shape, bins, torch.float64))
    torch.testing.assert_close(found, exact, rtol=2e-3, atol=2e-4)


def test_second_derivatives_go_through_the_formula(library):
    map = RationalQuadraticSpline(4, 3.0)

    def second(function, dtype=torch.float32):
        x, p = inputs((3, 5), 4, dtype)
        z, log_derivative = function(x, p)
        (g,) = torch.autograd.grad(z.square().sum() + log_derivative.sum(), x, create_graph=True)
        return torch.autograd.grad(g.square().sum(), (x, p))

    found, exact = second(map.forward), second(formula_of(map, "forward"), torch.float64)
    for ours, theirs in zip(found, exact, strict=True):
        size = float(theirs.abs().max())
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-3, atol=1e-4 * size)


def test_strided_input_and_what_is_not_a_number(library):
    map = RationalQuadraticSpline(4, 3.0)
    x, p = (t.detach() for t in inputs((6, 8), 4))
    exact = formula_of(map, "forward")(x.double(), p.double())
    strided = map.forward(x.T.contiguous().T, p.movedim(1, -1).contiguous().movedim(-1, 1))
    for ours, theirs in zip(strided, exact, strict=True):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=1e-4)
    x[2, 3] = float("nan")
    z, _ = map.forward(x, p)
    assert z.isnan().nonzero().tolist() == [[2, 3]]


def test_without_kernels_the_formula_serves():
    code = (
        "import torch; from innverse import flows; from innverse.accelerate.native import spline;"
        "assert spline._library() is None;"
        "flow = flows.build('nsf', (4,), layers=2, width=8);"
        "assert flow.log_prob(torch.randn(3, 4)).isfinite().all()"
    )
    environment = {**os.environ, "INNVERSE_NATIVE": "0"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


# ---- networks and couplings ------------------------------------------------------------------

NETWORKS = {  # batch and space, (channels, first and number of those taken), hidden, out
    "tiny": ((3,), (4, 1, 2), [5, 5], 3),
    "odd": ((33,), (5, 0, 5), [17, 9, 20], 7),
    "wide": ((130,), (64, 32, 32), [256, 256], 64),
    "one pixel": ((1, 1, 1), (3, 0, 3), [4, 4], 2),
    "image": ((2, 5, 7), (6, 3, 3), [20, 20], 5),
    "shared lines": ((1, 7, 33), (4, 0, 2), [12], 6),
    "long lines": ((1, 3, 230), (2, 1, 1), [8, 8], 2),
    "image, deep": ((3, 4, 4), (48, 24, 24), [128, 30, 128], 48),
}


def network(space, channels, hidden, out):
    """x and the tensors of a network in float64."""
    torch.manual_seed(1)
    total, _, taken = channels
    sizes = [taken, *hidden, out]
    tensors = []
    for i, (a, b) in enumerate(zip(sizes, sizes[1:])):
        side = 3 if i in (0, len(hidden)) else 1
        kernel = (side, side) if len(space) == 3 else ()
        tensors += [torch.randn(b, a, *kernel) / a**0.5, torch.randn(b)]
    x = torch.randn(space[0], total, *space[1:])
    return [t.double().requires_grad_() for t in (x, *tensors)]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("activation", perceptron.ACTIVATIONS)
@pytest.mark.parametrize("case", NETWORKS)
def test_a_network_is_its_formula(library, case, activation, bf16, threads):
    if bf16 and not bfloat16.can_multiply():
        pytest.skip("this processor has no AVX-512 BF16")
    kind = perceptron.Kind(activation, bf16)
    space, channels, hidden, out = NETWORKS[case]
    x, *tensors = network(space, channels, hidden, out)
    _, first, taken = channels
    expected = perceptron.formula(
        perceptron.Kind(activation), x[:, first : first + taken], *tensors
    )
    g = torch.randn_like(expected)
    exact = torch.autograd.grad(expected, (x, *tensors), g)

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        rough = [t.detach().float() for t in tensors]
        weights = perceptron.Weights(rough)
        rows = perceptron.Rows(dense(x.detach().float()), first, taken)
        result, kept = perceptron.forward(rows, kind, weights, keep=True)
        g_x = torch.zeros_like(rows.tensor)
        to = perceptron.Rows(g_x, first, taken)
        all_of = [True] * len(rough)
        found = perceptron.backward(rows, kind, weights, rough, kept, g.float(), to, all_of)
        if activation == "relu":
            same, signs = perceptron.forward(rows, kind, weights, keep=True, signs=True)
            g_signs = torch.zeros_like(g_x)
            to = perceptron.Rows(g_signs, first, taken)
            none = [False] * len(rough)
            perceptron.backward(rows, kind, weights, rough, signs, g.float(), to, none, signs=True)
            assert torch.equal(same, result) and torch.equal(g_signs, g_x)
        some = [i == 2 for i in range(len(rough))]
        only = perceptron.backward(rows, kind, weights, rough, kept, g.float(), None, some)
    finally:
        torch.set_num_threads(before)
    for ours, theirs in zip([result, g_x, *found], [expected, *exact]):
        theirs = theirs.detach()
        if bf16:
            smooth = activation == "silu" or ours is result
            if not smooth and case == "one pixel":
                continue  # rounding turns some ReLUs on or off, and here one is much
            assert (ours.double() - theirs).norm() < (0.03 if smooth else 0.2) * theirs.norm()
        else:
            size = float(theirs.abs().max())
            torch.testing.assert_close(ours.double(), theirs, rtol=1e-4, atol=3e-6 * size)
    assert [t is not None for t in only] == some
    torch.testing.assert_close(
        only[2], found[2], rtol=1e-4, atol=1e-5 * float(found[2].abs().max())
    )


def coupling(shape, map, swap, **options):
    """A coupling away from its start, and an input."""
    torch.manual_seed(2)
    net = ConvNet if len(shape) == 4 else MLP
    layer = Coupling.build(shape[1], lambda i, o: net(i, o, 12, **options), map, swap=swap)
    with torch.no_grad():
        for p in layer.parameters():
            p.add_(0.2 * torch.randn_like(p))
    return layer, torch.randn(shape)


COUPLINGS = {
    "vectors": ((6, 5), Affine(), {}),
    "vectors, conditioned": ((6, 5), Affine(), {"condition": 3, "activation": "relu"}),
    "vectors, splines": ((6, 5), RationalQuadraticSpline(5), {}),
    "images": ((2, 6, 4, 5), Affine(), {}),
    "images, splines": ((2, 6, 4, 5), RationalQuadraticSpline(4), {"activation": "silu"}),
    "images, one noise level": (
        (3, 6, 4, 5), Affine(), {"condition": 3, "how": "film", "activation": "silu"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("swap", [False, True])
@pytest.mark.parametrize("direction", ["forward", "inverse"])
@pytest.mark.parametrize("case", COUPLINGS)
def test_a_fused_coupling_is_the_coupling(library, case, direction, swap):
    shape, map, options = COUPLINGS[case]
    layer, x = coupling(shape, map, swap, **options)
    rows = 1 if options.get("how") == "film" else shape[0]
    c = torch.randn(rows, 3) if "condition" in options else None

    def spread(c):
        return None if c is None else c.expand(shape[0], 3)

    assert Fused.find(layer, x, spread(c)) is not None
    exact_layer = copy.deepcopy(layer).double()
    results = []
    for module, dtype in ((layer, torch.float32), (exact_layer, torch.float64)):
        inputs = x.to(dtype).requires_grad_()
        condition = None if c is None else c.to(dtype).requires_grad_()
        out, logdet = getattr(module, direction)(inputs, spread(condition))
        loss = (out * torch.linspace(-1, 1, out.numel(), dtype=dtype).view_as(out)).sum()
        loss = loss + (logdet * torch.arange(1, 1 + len(x))).sum()
        wanted = [inputs, *([] if c is None else [condition]), *module.parameters()]
        plain = torch.autograd.grad(loss, wanted, retain_graph=True)
        again = torch.autograd.grad(loss, wanted, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in again), wanted)
        results.append([t.detach().double() for t in (out, logdet, *plain, *again, *second)])
    for ours, exact in zip(*results):
        torch.testing.assert_close(ours, exact, rtol=2e-3, atol=2e-3 * float(exact.abs().max()))


@pytest.mark.parametrize("case", COUPLINGS)
def test_without_a_graph_a_fused_coupling_gives_the_same(library, case):
    shape, map, options = COUPLINGS[case]
    layer, x = coupling(shape, map, swap=True, **options)
    c = torch.randn(1, 3).expand(shape[0], 3) if "condition" in options else None
    exact_layer, exact_c = copy.deepcopy(layer).double(), None if c is None else c.double()
    with torch.inference_mode():
        z, logdet = layer(x, c)
        back, inverse_logdet = layer.inverse(z, c)
    exact = exact_layer(x.double(), exact_c)
    exact_back = exact_layer.inverse(z.double(), exact_c)
    for ours, theirs in zip((z, logdet, back, inverse_logdet), (*exact, *exact_back)):
        # a steep spline enlarges what the network's products round
        close = {"rtol": 1e-3, "atol": 1e-3 * float(theirs.detach().abs().max())}
        torch.testing.assert_close(ours.double(), theirs.detach(), **close)


def test_what_is_not_a_number_stays_so(library):
    layer, x = coupling((4, 6), Affine(), swap=False, activation="relu")
    x[1, 2] = float("nan")
    z, logdet = layer(x)
    assert z.isnan().any(1).tolist() == logdet.isnan().tolist() == [False, True, False, False]


def test_which_couplings_are_fused(library, monkeypatch):
    monkeypatch.setenv("INNVERSE_BF16", "native")
    from innverse.nets import set_precision

    layer, x = coupling((4, 6), Affine(), swap=False)
    assert Fused.find(layer, x, None).kind == ("silu", False)
    assert not Fused.find(layer, x.double(), None)
    assert not Fused.find(coupling((4, 6), Affine(), swap=False, residual=True)[0], x, None)
    bf16 = bfloat16.can_multiply()
    with torch.autocast("cpu", torch.bfloat16):
        found = Fused.find(layer, x, None)
    assert found.kind.bf16 if bf16 else found is None
    with torch.autocast("cpu", torch.float16):
        assert not Fused.find(layer, x, None)
    found = Fused.find(set_precision(layer, "bf16"), x, None)
    assert found.kind.bf16 if bf16 else found is None


@pytest.mark.parametrize("shape", [(40, 6), (4, 6, 8, 8)])
def test_a_coupling_in_bfloat16_is_near_that_in_float32(library, shape):
    from innverse.nets import set_precision

    layer, x = coupling(shape, Affine(), swap=False)
    results = []
    for precision in ("fp32", "bf16"):
        set_precision(layer, precision)
        layer.zero_grad()
        z, logdet = layer(x)
        (z.square().sum() - logdet.sum()).backward()
        results.append((z, logdet, *(p.grad.clone() for p in layer.parameters())))
    exact, rough = results
    for a, b in zip(exact, rough, strict=True):
        assert (a - b).norm() < 0.05 * a.norm()
    assert not torch.equal(exact[0], rough[0])
    z, logdet = layer(x)  # the same network both ways: exact but where rounding differs
    back, inverse_logdet = layer.inverse(z)
    torch.testing.assert_close(back, x, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(inverse_logdet, -logdet, rtol=1e-4, atol=1e-3)


def test_who_multiplies_in_bfloat16(library, monkeypatch):
    if not bfloat16.can_multiply():
        pytest.skip("this processor has no AVX-512 BF16")
    kind, x, sizes = perceptron.Kind("silu", True), torch.randn(20, 3), (3, 8, 8, 2)
    trials = []

    def trial(kind, shape, sizes, threads):
        trials.append(shape)
        return shape[0] > 100

    monkeypatch.delenv("INNVERSE_BF16", raising=False)
    monkeypatch.setattr(bfloat16, "has_amx", lambda: False)
    monkeypatch.setattr(bfloat16, "is_faster", trial)
    assert bfloat16.is_worth_it(kind, x, sizes) and not trials
    monkeypatch.setattr(bfloat16, "has_amx", lambda: True)  # now it depends on the sizes
    assert not bfloat16.is_worth_it(kind, x, sizes)
    assert bfloat16.is_worth_it(kind, x.repeat(10, 1), sizes)
    assert bfloat16.is_worth_it(kind, torch.randn(10**5, 3), sizes)
    assert trials == [(32, 3), (256, 3), (8192, 3)]
    for choice, expected in (("native", True), ("onednn", False)):
        monkeypatch.setenv("INNVERSE_BF16", choice)
        assert bfloat16.is_worth_it(kind, x, sizes) is expected
    monkeypatch.setenv("INNVERSE_BF16", "amx")
    with pytest.raises(UsageError, match="auto, native, onednn"):
        bfloat16.is_worth_it(kind, x, sizes)


@pytest.mark.parametrize("shape", [(32, 3), (2, 3, 8, 8)])
def test_the_trial_runs_anywhere_and_once(library, shape):
    if not bfloat16.can_multiply():
        pytest.skip("this processor has no AVX-512 BF16")
    kind, sizes = perceptron.Kind("silu", True), (3, 8, 8, 2)
    state = torch.get_rng_state()
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        first = bfloat16.is_faster(kind, shape, sizes, 1)
    assert isinstance(first, bool) and bfloat16.is_faster(kind, shape, sizes, 1) is first
    assert torch.equal(state, torch.get_rng_state())


def stepped(coupling):
    optimizer = torch.optim.Adam(coupling.parameters(), lr=0.1, fused=True)
    coupling(torch.ones(2, 8))[0].sum().backward()
    optimizer.step()
    return coupling


def loaded(coupling):
    coupling.load_state_dict({k: v + 1 for k, v in coupling.state_dict().items()})
    return coupling


def given_other_data(coupling):
    for p in coupling.parameters():  # matrices that are not dense either
        p.data = (p.data + 1).mT.contiguous().mT if p.dim() == 2 else p.data + 1
    return coupling


def edited(coupling):
    with torch.no_grad():
        torch._foreach_add_([*coupling.parameters()], 1.0)
    return coupling


def copied(coupling):
    return edited(copy.deepcopy(coupling))


CHANGES = [stepped, loaded, given_other_data, edited, copied]


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("change", CHANGES)
def test_weights_that_change_are_seen_at_once(library, change, grad):
    torch.manual_seed(0)
    coupling, x = Coupling.build(8, lambda i, o: MLP(i, o, 8), Affine()), torch.randn(5, 8)
    with torch.set_grad_enabled(grad):
        before = edited(coupling)(x)
    coupling = change(coupling)
    with torch.set_grad_enabled(grad), ThreadPoolExecutor(3) as pool:
        assert Fused.find(coupling, x, None) is not None
        found = [coupling(x), *pool.map(lambda _: coupling(x), range(6))]
    exact = copy.deepcopy(coupling).double()(x.double())
    assert (before[0] - exact[0]).abs().max() > 1e-2
    for z, logdet in found:
        torch.testing.assert_close((z.double(), logdet.double()), exact, rtol=1e-4, atol=1e-4)
