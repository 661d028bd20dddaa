"""What is made once of parameters that are promised not to change."""

import copy

import pytest
import torch

from innverse import flows
from innverse.accelerate.constant import constant_parameters, remember, varying_inputs
from innverse.bijections import Chain, ConditionalScale


def prior(**options):
    torch.manual_seed(0)
    flow = flows.build("glow", (3, 8, 8), levels=2, steps=2, hidden=8, **options)
    with torch.no_grad():
        for p in flow.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return flow.eval()


def test_remembers_for_the_very_same_objects_and_only_inside():
    owner, a, b, made = object(), torch.zeros(1), torch.zeros(1), []
    make = lambda: made.append(1) or len(made)  # noqa: E731
    assert [remember(owner, (a,), make) for _ in range(2)] == [1, 2]
    with constant_parameters():
        assert [remember(owner, (a, 2), make) for _ in range(2)] == [3, 3]
        assert remember(owner, (b, 2), make) == 4
        assert remember(owner, (b, 3), make) == 5
        with constant_parameters():
            assert remember(owner, (b, 3), make) == 6
        assert remember(owner, (b, 3), make) == 5
    assert remember(owner, (b, 3), make) == 7


@pytest.mark.parametrize(
    "options", [{}, {"noise": (0.01, 1.0)}, {"noise": (0.01, 1.0), "how": "film"}]
)
@pytest.mark.parametrize("frozen", [True, False])
def test_values_and_gradients_are_those_without_the_promise(options, frozen):
    flow = prior(**options).requires_grad_(not frozen)
    levels = (0.02, 0.5, 0.02) if options else (None,)
    y = torch.rand(2, 3, 8, 8)

    def results():
        found = []
        for c in levels:
            z = torch.linspace(-1, 1, 384).view(2, 3, 8, 8).requires_grad_()
            x = flow.decode(z, c)
            found += [x.detach(), *torch.autograd.grad((x - y).square().sum(), z)]
            with torch.no_grad():
                found += [flow.log_prob(y, c), flow.log_prob(y[:1], c)]
        return found

    expected = results()
    with constant_parameters():
        for _ in range(2):
            for a, b in zip(results(), expected, strict=True):
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * float(b.abs().max()))


def test_a_condition_that_all_items_share_is_folded_into_the_matrices():
    flow = prior(noise=(0.01, 1.0))
    chain = next(m for m in flow.modules() if isinstance(m, Chain))
    one, two = torch.rand(1, 32), torch.rand(2, 32)
    assert chain._steps.given(one) is chain._steps  # nothing is promised
    with constant_parameters():
        folded = chain._steps.given(one.expand(2, -1))
        assert not any(isinstance(step, ConditionalScale) for step in folded.all)
        assert any(isinstance(step, ConditionalScale) for step in chain._steps.all)
        x = torch.rand(2, chain.layers[0].channels, 4, 4)
        with torch.no_grad():
            z, logdet = chain(x, one.expand(2, -1))
            torch.testing.assert_close(chain.inverse(z, one.expand(2, -1))[0], x)
            torch.testing.assert_close(chain.inverse(z, one.expand(2, -1))[1], -logdet)
        assert chain._steps.given(two) is chain._steps  # a level for each item
        assert chain._steps.given(None) is chain._steps
        assert chain._steps.given(one.requires_grad_()) is chain._steps
        with varying_inputs():
            assert chain._steps.given(one.detach()) is chain._steps


def test_levels_of_each_item_and_their_gradients_within_the_promise():
    flow = prior(noise=(0.01, 1.0)).double()
    y = torch.rand(2, 3, 8, 8).double()

    def results(levels):
        sigma = levels.clone().requires_grad_()
        found = flow.log_prob(y, sigma)
        return found.detach(), *torch.autograd.grad(found.sum(), sigma)

    for levels in (torch.tensor([0.1, 0.1]).double(), torch.tensor([0.02, 0.5]).double()):
        expected = results(levels)
        with constant_parameters(), torch.no_grad():
            flow.log_prob(y, levels)
            with torch.enable_grad():
                for a, b in zip(results(levels), expected, strict=True):
                    torch.testing.assert_close(a, b)


def test_outside_a_change_is_seen():
    flow, x = prior(), torch.rand(1, 3, 8, 8)
    with constant_parameters():
        before = flow.log_prob(x)
    other = copy.deepcopy(flow)
    with torch.no_grad():
        for p in flow.parameters():
            p.mul_(1.1)
    assert not torch.equal(flow.log_prob(x), before)
    torch.testing.assert_close(other.log_prob(x), before, rtol=1e-4, atol=1e-4)
