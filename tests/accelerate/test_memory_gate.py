"""What a kernel may see: everything else takes the formula, and no pointer leaves unchecked."""

from __future__ import annotations

import subprocess
import sys
import warnings

import pytest
import torch
from torch._subclasses import FakeTensorMode

from innverse import flows
from innverse.accelerate.native import Unavailable, build, memory, perceptron
from innverse.bijections import Affine, Coupling, RationalQuadraticSpline
from innverse.errors import InnverseError
from innverse.nets import MADE, MLP, ConvNet


@pytest.fixture(autouse=True)
def library():
    try:
        return [build.load(name) for name in ("spline", "perceptron", "affine")]
    except Unavailable as why:
        pytest.skip(f"no C++ kernel here: {why}")


def layers():
    """Couplings that kernels serve, with an input, away from their start."""
    made = [
        (Coupling.build(6, lambda i, o: MLP(i, o, 8), Affine()), torch.randn(5, 6)),
        (
            Coupling.build(6, lambda i, o: MLP(i, o, 8), RationalQuadraticSpline(4)),
            torch.randn(5, 6),
        ),
        (Coupling.build(4, lambda i, o: ConvNet(i, o, 8), Affine()), torch.randn(2, 4, 6, 6)),
    ]
    for layer, _ in made:
        for p in layer.parameters():
            p.data.add_(0.2 * torch.randn_like(p))
    return made


class Subclass(torch.Tensor):
    pass


def odd_views(x):
    """x in forms that a kernel cannot read as they are."""
    wide = torch.stack((x, x), -1)
    yield "strided", wide[..., 0]
    yield "transposed", x.mT.contiguous().mT
    yield "negative bit", torch._neg_view(-x)
    yield "conjugate", torch.complex(x, -x).conj().imag
    yield "expanded", x[:1].expand_as(x)
    yield "shifted", torch.cat((x.flatten()[:1], x.flatten()))[1:].view_as(x)
    yield "subclass", x.as_subclass(Subclass)
    yield "parameter", torch.nn.Parameter(x.clone())
    yield "channels last", memory.dense(x)


@pytest.mark.parametrize("case", range(3))
def test_every_view_gives_what_its_numbers_give(case):
    layer, x = layers()[case]
    for name, view in odd_views(x):
        plain = view.detach().as_subclass(torch.Tensor).resolve_neg().clone().contiguous()
        for direction in ("forward", "inverse"):
            results = []
            for given in (view, plain):
                given = given if given.requires_grad else given.detach().requires_grad_()
                out = getattr(layer, direction)(given)
                g = torch.autograd.grad(out[0].square().sum() + out[1].sum(), given)
                results.append([t.as_subclass(torch.Tensor) for t in (*out, *g)])
            torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5, msg=lambda m, n=name: n + m)


@pytest.mark.parametrize("case", range(3))
def test_gradients_may_come_in_any_form(case):
    layer, x = layers()[case]
    x.requires_grad_()
    z, logdet = layer(x)
    g = torch.randn_like(z)
    ones = torch.ones(()).expand_as(logdet)
    expected = torch.autograd.grad((z, logdet), x, (g, ones.clone()), retain_graph=True)
    for name, view in odd_views(g):
        if name not in ("expanded", "subclass", "parameter"):
            found = torch.autograd.grad((z, logdet), x, (view, ones), retain_graph=True)
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    many = torch.stack((g, 2 * g))
    (found,) = torch.autograd.grad(
        (z, logdet), x, (many, torch.stack((ones, 2 * ones))), is_grads_batched=True
    )
    torch.testing.assert_close(found[0], expected[0], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found[1], 2 * expected[0], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("case", range(3))
def test_defaults_of_the_caller_change_nothing(case):
    layer, x = layers()[case]
    x.requires_grad_()

    def run():
        z, logdet = layer(x)
        back = layer.inverse(z.detach())
        return z, logdet, *back, *torch.autograd.grad(z.square().sum() + logdet.sum(), x)

    expected = run()
    with torch.device("meta"):  # where new tensors would lie
        torch.testing.assert_close(run(), expected)
    torch.set_default_dtype(torch.float64)
    try:
        torch.testing.assert_close(run(), expected)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("case", range(3))
def test_fake_meta_and_transformed_tensors_take_the_formula(case):
    layer, x = layers()[case]
    z, logdet = layer(x)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = layer(mode.from_tensor(x))
        weights = layer(x)  # real numbers under the mode: what comes out is fake
    for found in (fake, weights):
        assert found[0].shape == z.shape and found[1].shape == logdet.shape
    on_meta = layer.to("meta")(x.to("meta"))
    assert on_meta[0].device.type == "meta" and on_meta[0].shape == z.shape

    layer, x = layers()[case]
    z, _ = layer(x)
    torch.testing.assert_close(
        torch.vmap(lambda v: layer(v[None])[0][0])(x), z, rtol=1e-4, atol=1e-5
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # shapes become constants
        traced = torch.jit.trace(layer, x, check_trace=False)
    torch.testing.assert_close(traced(x + 1), layer(x + 1), rtol=1e-4, atol=1e-5)
    from torch.fx.experimental.proxy_tensor import make_fx

    graph = make_fx(lambda v: layer(v))(x)
    torch.testing.assert_close(graph(x + 1), layer(x + 1), rtol=1e-4, atol=1e-5)


def test_what_does_not_fit_is_no_case_for_the_kernels():
    kind, x = perceptron.Kind("silu"), torch.randn(3, 4)
    net = [torch.randn(8, 4), torch.randn(8), torch.randn(2, 8), torch.randn(2)]
    assert perceptron.applies(x, kind, net)
    for i, wrong in (
        (0, torch.randn(8, 5, 1)),
        (1, torch.randn(7)),
        (2, torch.randn(2, 9)),
        (3, torch.randn(2, dtype=torch.float64)),
        (3, torch.randn(2).to("meta")),
        (0, torch.randn(8, 4).to_sparse()),
        (1, torch.randn(8).as_subclass(Subclass)),
        (2, torch.randn(0, 8)),
    ):
        assert not perceptron.applies(x, kind, [*net[:i], wrong, *net[i + 1 :]])
    assert not perceptron.applies(x, kind, net, channels=5)
    assert not perceptron.applies(x[:0], kind, net)
    assert not perceptron.applies(x, kind, net[:3])


def test_no_pointer_leaves_unchecked():
    x = torch.randn(3, 4)
    assert memory.address(x, (3, 4)) == x.data_ptr()
    gone = torch.randn(3, 4)
    gone.untyped_storage().resize_(0)
    wrong = (
        x[:, :3], x.T, x.double(), x.to("meta"), x[:1].expand(3, 4), torch._neg_view(x), gone,
        x.as_subclass(Subclass),
    )  # fmt: skip
    for t in wrong:
        with pytest.raises(InnverseError, match="report"):
            memory.address(t, (3, 4))
    weights = perceptron.Weights(
        [torch.randn(8, 4), torch.randn(8), torch.randn(2, 8), torch.ones(2)]
    )
    for rows in (
        perceptron.Rows(x, 1, 4),
        perceptron.Rows(x, 0, 3),
        perceptron.Rows(x, -1, 4),
        perceptron.Rows(x[:, :, None, None], 0, 4),
    ):
        with pytest.raises(InnverseError):
            perceptron.forward(rows, perceptron.Kind("silu"), weights, keep=False)


def test_masked_networks_and_maps_are_checked_too():
    net, x = MADE(4, 2, 8), torch.randn(3, 4)
    for given in (x.double(), x.to("meta")):
        with pytest.raises(RuntimeError):
            net(given)
    map = RationalQuadraticSpline(4)
    expected = map.forward(torch.zeros(3, 4), torch.zeros(3, 11, 4))
    spread = map.forward(torch.zeros(3, 4), torch.zeros(1, 11, 1).expand(3, 11, 4))
    torch.testing.assert_close(spread, expected)


def test_a_condition_too_wide_ends_in_a_sentence_and_not_in_a_signal():
    code = (
        "import torch; from innverse import flows, errors;"
        "f = flows.build('nsf', (4,), layers=2, width=8, condition=2)\n"
        "try: f.log_prob(torch.randn(3, 4), torch.randn(3, 10**6))\n"
        "except errors.ShapeError: print('refused')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "refused\n")


def test_flows_keep_their_precision_under_autocast_of_float64():
    flow = flows.build("realnvp", (4,), layers=2, width=8).double()
    x = torch.randn(3, 4, dtype=torch.float64)
    for p in flow.parameters():
        p.data.add_(0.2 * torch.randn_like(p))
    exact = flow.log_prob(x)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(flow.log_prob(x), exact)
