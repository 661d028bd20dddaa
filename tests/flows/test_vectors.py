"""Flows of vectors: the contract, closed forms in one dimension, training, what each promises."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Normal

from innverse import flows
from innverse.bijections import (
    Affine,
    Autoregressive,
    Chain,
    Diagonal,
    Logit,
    RationalQuadraticSpline,
    check_bijection,
    initialize,
)
from innverse.data import toys
from innverse.errors import UsageError
from innverse.flows import Flow
from innverse.nets import MADE

NEW = {
    "nice": ("nice", {}),
    "maf": ("maf", {}),
    "maf, splines": ("maf", {"transform": "spline", "bins": 4}),
    "iaf": ("iaf", {}),
}
ALL = NEW | {
    "realnvp": ("realnvp", {"mix": "lu"}),
    "nsf": ("nsf", {"bins": 4}),
}


def build(case: str, d: int, **options) -> Flow:
    torch.manual_seed(0)
    name, own = ALL[case]
    return flows.build(name, (d,), **({"layers": 3, "width": 16} | own | options))


def awake(flow: Flow) -> Flow:
    for p in flow.parameters():
        p.data.add_(0.1 * torch.randn_like(p))
    return flow.double()


@pytest.mark.parametrize("case", NEW)
def test_flow_keeps_the_contract(case):
    flow = build(case, 3, layers=2, width=8, condition=2, how="film" if case == "maf" else "concat")
    check_bijection(flow.bijection, torch.randn(3, 3), torch.randn(3, 2))


@pytest.mark.parametrize("mix", ["reverse", "permute", "lu"])
def test_orders_and_groups_keep_the_contract(mix):
    flow = flows.build("maf", (4,), layers=2, width=8, mix=mix, passes=2, norm=mix != "lu")
    check_bijection(flow.bijection, torch.randn(3, 4))
    assert all(m.net.passes == 2 for m in flow.modules() if isinstance(m, Autoregressive))


# ---- one dimension ------------------------------------------------------------------------------


def one_dimensional(layer) -> Flow:
    torch.manual_seed(1)
    for p in layer.parameters():
        p.data.add_(0.5 * torch.randn_like(p))
    return Flow(layer, (1,)).double()


def test_affine_map_of_a_normal_is_normal():
    flow = one_dimensional(Diagonal(1, Affine(2.0)))
    u, t = flow.bijection.p.detach()
    scale = torch.exp(u / (1 + (u / 2) ** 2).sqrt())
    x = torch.linspace(-3, 3, 50, dtype=torch.float64)[:, None]
    truth = Normal(-t / scale, 1 / scale).log_prob(x[:, 0])
    torch.testing.assert_close(flow.log_prob(x), truth, rtol=0, atol=1e-12)


def test_autoregressive_flow_of_one_coordinate_is_normal():
    flow = awake(flows.build("maf", (1,), layers=2, width=4))
    z = flow.encode(torch.tensor([[0.0], [1.0]], dtype=torch.float64)).detach()
    scale = z[1] - z[0]
    x = torch.linspace(-3, 3, 50, dtype=torch.float64)[:, None]
    truth = Normal(-z[0] / scale, 1 / scale).log_prob(x[:, 0])
    torch.testing.assert_close(flow.log_prob(x), truth, rtol=0, atol=1e-12)


def test_logit_of_a_normal_is_logistic_normal():
    """p(x) = N(log(u / (1 - u))) (1 - 2 a) / (u (1 - u)) at u = a + (1 - 2 a) x."""
    a = 0.05
    x = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
    u = a + (1 - 2 * a) * x
    truth = Normal(0.0, 1.0).log_prob((u / (1 - u)).log()).exp() * (1 - 2 * a) / (u * (1 - u))
    found = Flow(Logit(a), (1,)).log_prob(x[:, None]).exp()
    torch.testing.assert_close(found, truth, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    "layer",
    [
        lambda: Diagonal(1, RationalQuadraticSpline(6, 3.0)),
        lambda: Chain(
            Diagonal(1, RationalQuadraticSpline(4, 4.0)),
            Autoregressive(MADE(1, 2, 8)),
            Diagonal(1, RationalQuadraticSpline(5, 3.0)),
        ),
    ],
)
def test_monotone_maps_against_the_normal_distribution_and_a_histogram(layer):
    """The mass of an interval is Phi(z(b)) - Phi(z(a)): by density, and by counting samples."""
    flow = one_dimensional(layer())
    edges = torch.linspace(-3, 3, 25, dtype=torch.float64)
    with torch.no_grad():
        mass = Normal(0.0, 1.0).cdf(flow.encode(edges[:, None])[:, 0]).diff()
        fine = (torch.arange(24 * 2000, dtype=torch.float64) + 0.5) * 6 / (24 * 2000) - 3
        by_density = flow.log_prob(fine[:, None]).exp().view(24, -1).sum(1) * 6 / (24 * 2000)
        n = 50000
        x = flow.sample(n, generator=torch.Generator().manual_seed(0))[:, 0]
    torch.testing.assert_close(by_density, mass, rtol=0, atol=1e-7)
    counts = torch.histogram(x, edges).hist
    assert bool(((counts - n * mass).abs() < 5 * (n * mass * (1 - mass)).sqrt() + 1).all())


# ---- training -----------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ALL)
def test_training_lowers_the_held_out_loss(case):
    flow = build(case, 2, layers=4, width=32)
    g = torch.Generator().manual_seed(0)
    held_out = toys.sample("two moons", 2000, g)
    initialize(flow, toys.sample("two moons", 512, g))

    def nll() -> float:
        with torch.no_grad():
            return -flow.log_prob(held_out).mean().item()

    untrained = nll()
    optimizer = torch.optim.Adam(flow.parameters(), 5e-3)
    for _ in range(60):
        loss = -flow.log_prob(toys.sample("two moons", 256, g)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert nll() < untrained - (0.1 if case == "nice" else 0.3)
    assert nll() > toys.entropy("two moons") - 0.1  # nothing can be better than the truth


# ---- what each flow promises --------------------------------------------------------------------


def test_nice_has_one_log_determinant_for_all_points():
    flow = awake(build("nice", 4))
    logdet = flow.bijection(torch.randn(8, 4, dtype=torch.float64))[1].detach()
    torch.testing.assert_close(logdet, logdet[:1].expand(8), rtol=0, atol=1e-12)
    assert abs(float(logdet[0])) > 1e-3


def test_maf_is_fast_one_way_and_iaf_the_other():
    for name, encode_calls, decode_calls in (("maf", 1, 5), ("iaf", 5, 1)):
        flow = flows.build(name, (5,), layers=1, width=16)
        net = next(m for m in flow.modules() if isinstance(m, MADE))
        calls = []
        net.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        z = flow.encode(torch.randn(2, 5))
        assert len(calls) == encode_calls
        flow.decode(z)
        assert len(calls) == encode_calls + decode_calls


def test_errors_name_the_fault():
    for name in ("nice", "maf", "iaf"):
        with pytest.raises(UsageError, match=f"{name} is for vectors"):
            flows.build(name, (1, 8, 8))
    with pytest.raises(UsageError, match="mix='swap': choose one of reverse, permute, lu"):
        flows.build("maf", (4,), mix="swap")
    with pytest.raises(UsageError, match="'cubic': choose one of additive, affine, spline"):
        flows.build("iaf", (4,), transform="cubic")
    with pytest.raises(UsageError, match="passes=5: choose 1 to 4"):
        flows.build("maf", (4,), passes=5)
