"""Graphs give what the functions give: here by a recorder that replays operations on the CPU."""

from __future__ import annotations

import pytest
import torch

from absent_gpu import recording_on_cpu
from innverse.accelerate.captured import Captured, Graphed


@pytest.fixture
def recorder(monkeypatch):
    return recording_on_cpu(monkeypatch)


def test_a_captured_step_runs_once_a_call(recorder):
    total = torch.zeros(3)

    def step(x, scale, *, power: int):
        total.add_(scale * x**power)
        return total.sum()

    captured, expected = Captured(step), torch.zeros(3)
    for k in range(8):
        x, scale, power = torch.full((3,), 1.0 + k), torch.tensor(0.5 * k), 1 + (k == 6)
        expected = expected + scale * x**power
        assert torch.equal(captured(x, scale, power=power), expected.sum())
        assert torch.equal(total, expected)
    assert (recorder.made, recorder.replays) == (1, 5)


def test_random_numbers_of_a_captured_step_follow_the_seed(recorder):
    captured = Captured(lambda x: x + torch.rand(3))
    for k in range(6):
        torch.manual_seed(k % 2)
        found = captured(torch.zeros(3))
        torch.manual_seed(k % 2)
        assert torch.equal(found, torch.rand(3))
    assert recorder.replays == 4


def test_results_survive_the_next_call(recorder):
    double = Captured(lambda x: 2 * x)
    found = [double(torch.full((2,), float(k))) for k in range(5)]
    assert [float(t[0]) for t in found] == [0, 2, 4, 6, 8]


def test_what_cannot_be_recorded_runs_as_it_is(recorder):
    seen = []

    def waiting(x):
        seen.append(x.sum().item())
        return x + seen[-1]

    captured = Captured(waiting)
    with pytest.warns(UserWarning, match="without a CUDA graph.*not permitted") as told:
        for k in range(5):
            assert torch.equal(captured(torch.full((2,), float(k))), torch.full((2,), 3.0 * k))
    assert recorder.replays == 0 and len(told) == 1


@pytest.mark.parametrize("kind", [Captured, Graphed])
def test_what_is_seen_to_wait_is_not_recorded(recorder, monkeypatch, kind):
    """A record that fails spoils the random numbers of a GPU: none is begun in vain."""
    monkeypatch.setattr(recorder, "waited", "called a synchronizing CUDA operation (here.py:3)")
    captured = kind(lambda x: 2 * x)
    with pytest.warns(UserWarning, match="here.py:3") as told:
        assert [float(captured(torch.ones(1))) for _ in range(6)] == [2] * 6
    assert recorder.made == 0 and len(told) == 1


def test_autocast_around_a_call_has_graphs_of_its_own(recorder):
    weight = torch.ones(4, 4)
    captured = Captured(lambda x: x @ weight)
    for _ in range(5):
        assert captured(torch.ones(2, 4)).dtype == torch.float32
        with torch.autocast("cpu", torch.bfloat16):
            assert captured(torch.ones(2, 4)).dtype == torch.bfloat16
            weight.add_(1)  # a copy that autocast keeps would not see it
            assert float(captured(torch.ones(2, 4))[0, 0]) == 4 * float(weight[0, 0])


def test_it_can_be_switched_off(recorder, monkeypatch):
    monkeypatch.setenv("INNVERSE_CAPTURE", "0")
    captured = Captured(lambda x: 2 * x)
    assert [float(captured(torch.ones(1))) for _ in range(5)] == [2] * 5
    assert recorder.made == 0


# ---- gradients ----------------------------------------------------------------------------------


def weighted(x, c):
    return (x.sin() * c[:, None]).square().sum(1)


def gradients(f, x, c):
    x, c = x.clone().requires_grad_(), c.clone().requires_grad_()
    value = f(x, c)
    weight = torch.arange(1.0, 1 + len(value))
    return value.detach(), *torch.autograd.grad((weight * value).sum(), (x, c))


def batches(n=6, seed=0):
    g = torch.Generator().manual_seed(seed)
    return [(torch.randn(4, 3, generator=g), torch.rand(4, generator=g)) for _ in range(n)]


def test_a_graphed_function_has_its_values_and_gradients(recorder):
    graphed = Graphed(weighted)
    for x, c in batches():
        for found, right in zip(gradients(graphed, x, c), gradients(weighted, x, c), strict=True):
            torch.testing.assert_close(found, right)
    assert recorder.made == 2 and recorder.replays == 10  # forward and back


def test_calls_between_forward_and_back_do_not_disturb(recorder):
    graphed = Graphed(weighted)
    for x, c in batches(3):
        gradients(graphed, x, c)
    pairs = batches(4, seed=1)
    inputs = [x.clone().requires_grad_() for x, _ in pairs]
    values = [
        graphed(x, c.clone().requires_grad_()) for x, (_, c) in zip(inputs, pairs, strict=True)
    ]
    for k in (2, 0, 3, 1, 2):  # in any order, also twice
        (found,) = torch.autograd.grad(values[k].sum(), inputs[k], retain_graph=True)
        x = inputs[k].detach().requires_grad_()
        (right,) = torch.autograd.grad(weighted(x, pairs[k][1]).sum(), x)
        torch.testing.assert_close(found, right)
    assert recorder.replays > 8


def test_second_derivatives_take_the_function_itself(recorder):
    graphed = Graphed(weighted)
    for x, c in batches(4):
        gradients(graphed, x, c)
    x, c = (t.clone().requires_grad_() for t in batches(1)[0])

    def second(f):
        (g,) = torch.autograd.grad(f(x, c).sum(), x, create_graph=True)
        return torch.autograd.grad(g.square().sum(), (x, c))

    for found, right in zip(second(graphed), second(weighted), strict=True):
        torch.testing.assert_close(found, right)


def test_other_shapes_have_graphs_of_their_own(recorder):
    graphed = Graphed(lambda x: x.square().sum(1))
    for k in range(5):
        for n in (2, 3):
            x = torch.full((n, 2), float(k), requires_grad=True)
            assert torch.equal(torch.autograd.grad(graphed(x).sum(), x)[0], 2 * x)
            assert torch.equal(graphed(x.detach()), x.detach().square().sum(1))
    assert recorder.made == 2 * 2 + 2


def test_images_turned_share_a_graph(recorder):
    graphed = Graphed(lambda x: (x * torch.arange(3.0)).sum((1, 2)))
    x = torch.rand(2, 3, 3)
    for k in range(6):
        turned = x.mT if k % 2 else x
        right = (turned * torch.arange(3.0)).sum((1, 2))
        torch.testing.assert_close(graphed(turned), right)
    assert recorder.made == 1


def test_ever_other_shapes_are_left_to_python(recorder):
    graphed = Graphed(lambda x: x.square())
    for _ in range(6):
        for n in range(1, 12):
            for _ in range(3):
                assert torch.equal(graphed(torch.full((n,), 3.0)), torch.full((n,), 9.0))
    assert recorder.made < 6 * 11
