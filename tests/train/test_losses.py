from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from innverse.bijections import initialize, set_memory
from innverse.train.losses import Objective, log_uniform, to_bits
from innverse.train.model import build_model


class Gaussian(nn.Module):
    """The exact density of black images plus noise."""

    def log_prob(self, y, sigma):
        s = sigma.view(-1, 1, 1, 1)
        density = -0.5 * (y / s).square() - s.log() - 0.5 * math.log(2 * math.pi)
        return density.flatten(1).sum(1)


class Uniform(nn.Module):
    def log_prob(self, x):
        assert (x >= 0).all() and (x < 1).all()
        return torch.zeros(len(x))


def test_the_true_density_has_no_gap_and_the_true_score_no_error():
    torch.manual_seed(0)
    black = torch.zeros(64, 1, 32, 32, dtype=torch.uint8)
    noise = torch.randn(black.shape)
    sigma = log_uniform(torch.rand(64), 0.01, 0.4)
    assert sigma.min() >= 0.01 and sigma.max() < 0.4
    loss, gap, score = Objective(Gaussian())(black, noise, sigma, 1.0)
    assert abs(gap.item()) < 0.01
    assert score.item() < 1e-10
    assert loss.item() == pytest.approx(gap.item() + 0.5 * math.log(2 * math.pi * math.e)
                                        + sigma.log().mean().item(), abs=1e-5)  # fmt: skip


def test_the_uniform_density_costs_eight_bits():
    images = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    _, nll, _ = Objective(Uniform())(images, torch.rand(images.shape))
    assert to_bits(nll.item()) == 8.0


def gradients(flow, **batch):
    flow.zero_grad()
    loss, _, score = Objective(flow)(**batch)
    assert score > 0
    loss.backward()
    return [p.grad.clone() for p in flow.parameters()]


def test_score_matching_through_the_memory_modes(settings):
    torch.manual_seed(0)
    flow = build_model(settings(model_noise=[0.05, 0.4])).double()
    batch = {
        "images": torch.randint(0, 256, (4, 1, 4, 4), dtype=torch.uint8),
        "noise": torch.randn(4, 1, 4, 4, dtype=torch.float64),
        "sigma": torch.tensor([0.05, 0.1, 0.2, 0.4], dtype=torch.float64),
    }
    initialize(flow, Objective.inputs(**batch), batch["sigma"][:, None])
    for p in flow.parameters():
        nn.init.normal_(p, std=0.2)
    batch["score_weight"] = 0.7
    stored = gradients(flow, **batch)
    assert any(g.abs().max() > 1e-3 for g in stored)
    for mode in ("checkpoint", "reversible"):
        set_memory(flow, mode)
        for a, b in zip(stored, gradients(flow, **batch), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10)
