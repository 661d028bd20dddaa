"""`Flow.dist` keeps the contract of `torch.distributions`."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import (
    AffineTransform,
    Distribution,
    Independent,
    TransformedDistribution,
    constraints,
)

from innverse import flows
from innverse.errors import InnverseError

VECTOR = ("nsf", (3,), {"layers": 2, "width": 8})
IMAGE = ("glow", (1, 4, 4), {"levels": 1, "steps": 1, "hidden": 4})


def make(kind, **options):
    torch.manual_seed(0)
    name, shape, own = kind
    flow = flows.build(name, shape, **own | options)
    for p in flow.parameters():
        p.data.add_(0.1 * torch.randn_like(p))
    return flow.eval()


@pytest.mark.parametrize("kind", [VECTOR, IMAGE])
def test_events_are_whole_items(kind):
    d = make(kind).dist()
    shape = kind[1]
    assert d.event_shape == shape and d.batch_shape == ()
    assert d.support.event_dim == len(shape)
    x = d.sample((5,))
    assert x.shape == (5, *shape) and not x.requires_grad
    assert d.support.check(x).shape == (5,) and d.support.check(x).all()
    assert not d.support.check(x * torch.nan).any()
    assert d.sample().shape == shape and d.log_prob(d.sample()).shape == ()
    torch.testing.assert_close(d.log_prob(x), d.flow.log_prob(x))
    with pytest.raises(ValueError, match="to be within the support|NaN|nan"):
        d.log_prob(x * torch.nan)


@pytest.mark.parametrize(
    ("kind", "options", "c", "batch"),
    [
        (VECTOR, {"condition": 2}, torch.randn(2), ()),
        (VECTOR, {"condition": 2}, torch.randn(4, 2), (4,)),
        (VECTOR, {"condition": 2}, torch.randn(5, 4, 2), (5, 4)),
        (VECTOR, {"condition": 1}, torch.randn(4), (4,)),
        (VECTOR, {"condition": 1}, 0.3, ()),
        (IMAGE, {"condition": 2}, torch.randn(2), ()),
        (IMAGE, {"condition": 2}, torch.randn(2, 4, 4), ()),
        (IMAGE, {"condition": 2}, torch.randn(3, 2, 4, 4), (3,)),
        (IMAGE, {"condition": 2}, torch.randn(5, 3, 2), (5, 3)),
        (IMAGE, {"noise": (0.01, 0.4)}, 0.1, ()),
        (IMAGE, {"noise": (0.01, 0.4)}, torch.tensor([0.1, 0.2, 0.3]), (3,)),
        (IMAGE, {"noise": (0.01, 0.4)}, torch.full((3, 1), 0.1), (3,)),
    ],
)
def test_batches_are_those_of_the_condition(kind, options, c, batch):
    flow = make(kind, **options)
    d = flow.dist(c)
    assert d.batch_shape == batch
    x = d.rsample((2,))
    assert x.shape == (2, *batch, *flow.shape) and x.requires_grad
    log_p = d.log_prob(x)
    assert log_p.shape == (2, *batch)
    # the last of the batch alone
    last = torch.as_tensor(c)
    for _ in batch:
        last = last[-1]
    one = x.flatten(0, len(batch))[-1:]
    torch.testing.assert_close(log_p.flatten()[-1:], flow.log_prob(one, last))
    wider = d.expand((6, *batch))
    assert isinstance(wider, Distribution) and wider.batch_shape == (6, *batch)
    torch.testing.assert_close(wider.log_prob(x[0]), log_p[0].expand(6, *batch))
    assert wider.sample((2,)).shape == (2, 6, *batch, *flow.shape)
    together = Independent(wider, len(wider.batch_shape)).log_prob(x[0])
    torch.testing.assert_close(together, 6 * log_p[0].sum())


def test_transformed_and_reparametrised():
    flow = make(VECTOR, condition=2)
    c = torch.randn(4, 2, requires_grad=True)
    d = flow.dist(c)
    moved = TransformedDistribution(d, AffineTransform(1.0, 2.0, event_dim=1))
    y = moved.rsample((3,))
    expected = d.log_prob((y - 1) / 2) - 3 * torch.tensor(2.0).log()
    torch.testing.assert_close(moved.log_prob(y), expected)
    y.sum().backward()
    assert c.grad.abs().sum() > 0
    assert constraints.is_dependent(type(d).support) or d.support.event_dim == 1


def test_a_missing_or_needless_condition():
    with pytest.raises(InnverseError, match="needs condition"):
        make(VECTOR, condition=2).dist()
    with pytest.raises(InnverseError, match="takes no condition"):
        make(VECTOR).dist(torch.zeros(2))
    with pytest.raises(InnverseError, match="pass c=sigma"):
        make(IMAGE, noise=(0.01, 0.4)).dist()
    with pytest.raises(InnverseError, match=r"is \(\.\.\., 2\), got \(3,\)"):
        make(VECTOR, condition=2).dist(torch.zeros(3))


def test_pyro_samples_and_scores_a_flow():
    pyro = pytest.importorskip("pyro")
    flow = make(VECTOR, condition=2)
    c = torch.randn(4, 2)

    def model(x=None):
        with pyro.plate("data", 4):
            return pyro.sample("x", flow.dist(c), obs=x)

    trace = pyro.poutine.trace(model).get_trace()
    x = trace.nodes["x"]["value"]
    assert x.shape == (4, 3)
    found = pyro.poutine.trace(model).get_trace(x).log_prob_sum()
    torch.testing.assert_close(found, flow.log_prob(x, c).sum())
    with pyro.plate("two", 2):
        assert pyro.sample("y", flow.dist(c[0])).shape == (2, 3)
