"""All checks of a posterior at once, on one that is wrong on purpose."""

from __future__ import annotations

import pytest
import torch
from torch import distributions as td

from innverse.amortized import assess
from innverse.errors import InputError


class Narrow:
    """theta ~ N(0, I), x = theta + N(0, I): exact is N(x / 2, I / 2), this has ``width`` of it."""

    names = ["a", "b"]

    def __init__(self, width: float):
        self.std = width * 0.5**0.5

    def sample(self, shape, x, generator=None):
        return self.sample_batched(shape, x[None], generator=generator)[:, 0]

    def sample_batched(self, shape, x, generator=None):
        return x / 2 + self.std * torch.randn(*shape, *x.shape, generator=generator)

    def log_prob(self, theta, x):
        return td.Normal(x / 2, self.std).log_prob(theta).sum(-1)


def log_joint(theta, x):
    return td.Normal(0.0, 1.0).log_prob(theta).sum(-1) + td.Normal(theta, 1.0).log_prob(x).sum(-1)


def test_repair_is_seen_in_every_check():
    g = torch.Generator().manual_seed(0)
    theta = torch.randn(2000, 2, generator=g)
    x = theta + torch.randn(2000, 2, generator=g)
    found = assess(
        Narrow(0.6), theta, x, draws=200, generator=g,
        simulator=lambda t: t + torch.randn_like(t), log_joint=log_joint,
    )  # fmt: skip
    assert found.pairs == 1000 and found.names == ["a", "b"]
    assert found.before.error > 0.08 and found.after.error < 0.025
    assert found.before.coverage.error > 0.1 and found.after.coverage.error < 0.04
    assert (found.before.sbc.p_values < 1e-4).all() and (found.after.sbc.p_values > 1e-4).all()
    assert found.before.tarp.area < -0.03 < found.after.tarp.area
    # the variance is 0.36 / 2 of a prior variance of 1
    assert found.learned.contraction.mean() == pytest.approx(0.82, abs=0.02)
    posterior, prior = (float(t.median()) for t in found.resimulation)
    assert posterior < prior
    assert len(found.corrections) == 20
    # the weights of a proposal of 0.6 of the width have a tail of shape 1 - 0.6^2
    k = torch.tensor([c.importance.pareto_k for c in found.corrections])
    assert 0.45 < float(k.mean()) < 0.8 and all(c.efficiency < 0.8 for c in found.corrections)
    summary = found.summary()
    assert summary["after"]["coverage_error"] < summary["before"]["coverage_error"]
    assert set(summary["importance"]) == {"efficiency", "pareto_k", "log_evidence"}


def test_exact_posteriors_have_efficient_weights():
    theta = torch.randn(60, 2)
    found = assess(Narrow(1.0), theta, theta + torch.randn(60, 2), log_joint=log_joint)
    assert all(c.efficiency > 0.99 for c in found.corrections)
    assert found.resimulation is None


def test_too_few_pairs():
    with pytest.raises(InputError, match="at least 40"):
        assess(Narrow(1.0), torch.zeros(10, 2), torch.zeros(10, 2))
