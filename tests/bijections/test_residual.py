"""Residual layers beyond the registry: estimators of the log-determinant, and the inverse."""

from __future__ import annotations

import math

import pytest
import torch

from innverse.bijections import Chain, Inverse, Residual, set_memory
from innverse.errors import NotConvergedError, UsageError
from innverse.nets import LipschitzConv, LipschitzMLP


def layer(lipschitz=0.6, **options):
    torch.manual_seed(0)
    net = LipschitzMLP(4, 16, lipschitz=lipschitz, condition=0)
    for p in net.parameters():
        p.data.add_(torch.randn_like(p))
    return Residual(net, **options).double()


def weights(residual):
    return [m.weight for m in residual.net.layers]


def truth(residual, x):
    exact = Residual(residual.net, logdet="exact")
    logdet = exact(x)[1]
    return logdet.detach(), torch.autograd.grad(logdet.sum(), weights(residual))


def test_roulette_is_unbiased_in_value_and_gradient():
    residual = layer(logdet="roulette", generator=torch.Generator().manual_seed(0))
    x = torch.randn(1, 4, dtype=torch.float64)
    exact, exact_gradient = truth(residual, x)
    values, gradients = [], []
    many = x.expand(64, -1)  # fresh probes for every item, a fresh length for every call
    for _ in range(150):
        logdet = residual(many)[1]
        values.append(logdet.mean().item())
        found = torch.autograd.grad(logdet.mean(), weights(residual))
        gradients.append(torch.cat([g.flatten() for g in found]))
    values, gradients = torch.tensor(values), torch.stack(gradients)
    assert values.std() > 0
    assert abs(values.mean() - exact) < 4 * values.std() / math.sqrt(len(values))
    expected = torch.cat([g.flatten() for g in exact_gradient])
    error = (gradients.mean(0) - expected).norm()
    spread = gradients.var(0).sum().div(len(gradients)).sqrt()
    assert spread < 0.2 * expected.norm()  # or the next line would say little
    assert error < 2 * spread


def test_roulette_draws_from_its_generator_alone():
    residual = layer(logdet="roulette")
    x = torch.randn(3, 4, dtype=torch.float64)
    draws = []
    for seed in (1, 1, 2):
        residual.generator = torch.Generator().manual_seed(seed)
        state = torch.get_rng_state()
        draws.append(residual(x)[1])
        assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(draws[0], draws[1]) and not torch.equal(draws[0], draws[2])


def test_series_converges_to_the_determinant_within_its_bound():
    x = torch.randn(2, 4, dtype=torch.float64)
    exact, _ = truth(layer(), x)
    for terms in (2, 8, 32):
        # the basis is replaced by many signs: leave room for their noise
        logdet = layer(logdet="series", terms=terms, probes=20_000)(x)[1]
        bound = 4 * 0.6 ** (terms + 1) / ((terms + 1) * 0.4)
        assert (logdet - exact).abs().max() < bound + 0.01


def test_evaluation_is_deterministic_and_training_is_not():
    residual = layer(exact_dims=2)
    x = torch.randn(3, 4, dtype=torch.float64)
    assert not torch.equal(residual(x)[1], residual(x)[1])
    residual.eval()
    assert torch.equal(residual(x)[1], residual(x)[1])
    torch.testing.assert_close(residual(x[:1])[1], residual(x)[1][:1])


def test_gradient_of_the_inverse_is_that_of_the_implicit_function():
    residual = layer()
    z = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    x, logdet = Inverse(residual)(z)
    wanted = [z, *residual.parameters()]
    w = torch.randn_like(z)
    given = torch.autograd.grad((w * x).sum() + logdet.sum(), wanted)
    h = 1e-5
    for tensor, gradient in zip(wanted, given):
        v = torch.randn_like(tensor)
        sides = []
        for sign in (1, -1):
            tensor.data.add_(v, alpha=sign * h)
            moved, ld = residual.inverse(z)
            sides.append(((w * moved).sum() + ld.sum()).item())
            tensor.data.sub_(v, alpha=sign * h)
        slope = (sides[0] - sides[1]) / (2 * h)
        assert slope == pytest.approx((gradient * v).sum().item(), rel=1e-6, abs=1e-8)


def test_near_the_limit_the_inverse_still_converges_in_float32():
    torch.manual_seed(0)
    net = LipschitzConv(3, 16, lipschitz=0.98)
    for p in net.parameters():
        p.data.add_(torch.randn_like(p))
    x = 3 * torch.randn(4, 3, 8, 8)
    with torch.no_grad():
        residual = Residual(net).eval()
        back = residual.inverse(residual(x)[0])[0]
    torch.testing.assert_close(back, x, rtol=0, atol=1e-3)


def test_items_converge_alone_and_nan_stays_where_it_is():
    residual = layer()
    z = torch.randn(3, 4, dtype=torch.float64) * torch.tensor([[0.1], [1.0], [50.0]])
    together = residual.inverse(z)[0]
    for i in range(3):
        assert torch.allclose(residual.inverse(z[i : i + 1])[0], together[i : i + 1], atol=1e-14)
    z[1, 2] = math.nan
    with_nan = residual.inverse(z)[0]
    assert with_nan[1].isnan().any() and with_nan[[0, 2]].isfinite().all()


def test_what_is_no_contraction_is_reported():
    residual = layer()
    residual.net.weights = lambda: [20 * m.weight for m in residual.net.layers]
    with pytest.raises(NotConvergedError, match=r"still moves by .* after \d+ steps"):
        residual.inverse(10 * torch.randn(2, 4, dtype=torch.float64))


def test_reversible_memory_gives_the_gradients():
    x = torch.randn(5, 4, dtype=torch.float64)
    chain = Chain(layer(), layer())
    found = []
    for mode in ("store", "reversible"):
        set_memory(chain, mode)
        z, logdet = chain(x)
        loss = z.square().sum() - logdet.sum()
        found.append(torch.autograd.grad(loss, list(chain.parameters())))
    for a, b in zip(*found):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9)


def test_mistakes():
    with pytest.raises(UsageError, match="auto, exact, roulette, series"):
        Residual(LipschitzMLP(2), logdet="exakt")
    with pytest.raises(UsageError, match="terms=0"):
        Residual(LipschitzMLP(2), terms=0)
