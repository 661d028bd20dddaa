from __future__ import annotations

import torch

from innverse.metrics.memory import peak_tensor_bytes

MB = 2**20


def test_the_peak_counts_what_lives_at_the_same_time():
    def one_after_the_other():
        for _ in range(3):
            torch.zeros(MB // 4)

    def together():
        return [torch.zeros(MB // 4) for _ in range(3)]

    assert peak_tensor_bytes(one_after_the_other) == MB
    assert peak_tensor_bytes(together) == 3 * MB


def test_what_was_there_before_does_not_count_and_nothing_is_printed(capfd):
    x = torch.ones(MB // 4, requires_grad=True)

    def gradient():
        x.grad = None
        (x * x).sum().backward()

    peak = peak_tensor_bytes(gradient)
    assert 2 * MB <= peak <= 4 * MB  # x * x, the gradient, and temporaries
    assert capfd.readouterr() == ("", "")
