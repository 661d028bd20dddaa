from __future__ import annotations

import math

import pytest
import torch

from innverse.metrics import bits_per_dim


def test_the_uniform_density_needs_all_bits():
    assert bits_per_dim(torch.zeros(4), 3072).tolist() == [8.0] * 4
    assert bits_per_dim(torch.zeros(1), 10, levels=2).item() == 1.0


def test_a_density_concentrated_on_half_of_the_levels_saves_one_bit():
    n = 12  # p(x) = 2^n on half of every axis
    log_prob = torch.tensor([n * math.log(2)])
    assert bits_per_dim(log_prob, n).item() == pytest.approx(7.0, abs=1e-6)
