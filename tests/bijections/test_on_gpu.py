"""Layers on a GPU: nothing in them is made on the CPU, and nothing waits."""

from __future__ import annotations

import pytest
import torch
from registry import LAYERS

from absent_gpu import GPU, nobody_waits

# their inverse is solved for to a tolerance, which is read
SOLVED = [name for name in LAYERS if "residual" in name and "net" not in name]


@pytest.mark.parametrize("name", LAYERS)
def test_no_layer_waits(monkeypatch, name):
    torch.manual_seed(0)
    layer, x, *c = LAYERS[name]()
    layer, x, c = layer.to(GPU), x.to(GPU).requires_grad_(), [t.to(GPU) for t in c]
    with nobody_waits(monkeypatch):
        z, log_det = layer(x, *c)
        (g,) = torch.autograd.grad(z.sum() + log_det.sum(), x)
        assert {t.device for t in (z, log_det, g)} == {GPU}
        if name not in SOLVED:
            assert {t.device for t in layer.inverse(z.detach(), *c)} == {GPU}
