"""Every layer keeps the whole contract."""

from __future__ import annotations

import pytest
import torch
from registry import LAYERS

from innverse import bijections as b
from innverse.bijections import check_bijection


@pytest.mark.parametrize("name", LAYERS)
def test_layer_keeps_the_contract(name):
    torch.manual_seed(0)
    check_bijection(*LAYERS[name](), compile=True)


@pytest.mark.parametrize("name", LAYERS)
def test_a_consistently_wrong_logdet_is_caught(name):
    """Scale the log-det alike in both directions: round trips still agree, the check must not."""
    torch.manual_seed(0)
    layer, *rest = LAYERS[name]()

    class Mutant(b.Bijection):
        def __init__(self):
            super().__init__()
            self.inner = layer

        def forward(self, x, c=None):
            z, ld = self.inner(x, c)
            return z, ld + 0.01

        def inverse(self, z, c=None):
            x, ld = self.inner.inverse(z, c)
            return x, ld - 0.01

    with pytest.raises(AssertionError, match="log-det of forward against autodiff"):
        check_bijection(Mutant(), *rest)


def test_every_public_layer_is_registered():
    entries = " ".join(str(LAYERS[name]()[0]) for name in LAYERS)
    public = [getattr(b, n) for n in b.__all__]
    layers = [
        t for t in public if isinstance(t, type) and issubclass(t, b.Bijection | b.Elementwise)
    ]
    abstract = {b.Bijection, b.Elementwise, b.ChannelLinear}
    missing = [t.__name__ for t in layers if t not in abstract and t.__name__ not in entries]
    assert not missing, f"add these to tests/bijections/registry.py: {missing}"
