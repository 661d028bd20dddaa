"""Every architecture once, tiny, for tests of what all flows promise."""

from __future__ import annotations

import torch

from innverse import flows

_VECTORS = {"layers": 2, "width": 8}
_IMAGES = {"levels": 2, "hidden": 4}
_ODE = {"hidden": 8, "method": "heun"}
_TOKENS = {"patch": 4, "blocks": 1, "hidden": 8, "depth": 1, "heads": 2}

# name: architecture, shape of an item, options
EVERY = {
    "coupling": ("coupling", (3,), _VECTORS | {"transform": "spline", "bins": 4, "mix": "swap"}),
    "autoregressive": ("autoregressive", (3,), _VECTORS | {"inverse": True}),
    "nice": ("nice", (3,), _VECTORS),
    "realnvp": ("realnvp", (3,), _VECTORS | {"mix": "lu"}),
    "nsf": ("nsf", (3,), _VECTORS | {"bins": 4}),
    "maf": ("maf", (3,), _VECTORS),
    "maf, splines": ("maf", (3,), _VECTORS | {"transform": "spline", "bins": 4}),
    "iaf": ("iaf", (3,), _VECTORS),
    "residual": ("residual", (3,), {"layers": 1, "hidden": 8}),
    "flow_matching": (
        "flow_matching",
        (3,),
        {"hidden": 8, "depth": 1, "method": "heun", "evaluations": 4},
    ),
    "glow": ("glow", (1, 8, 8), _IMAGES | {"steps": 1}),
    "glow, by level": ("glow", (1, 8, 8), {"levels": 2, "steps": (1, 2), "hidden": (4, 8)}),
    "glow, wavelets": (
        "glow",
        (1, 8, 8),
        _IMAGES | {"steps": 1, "squeeze": "haar", "mix": "swap", "activation": "silu"},
    ),
    "realnvp, images": ("realnvp", (1, 8, 8), _IMAGES | {"blocks": 1}),
    "realnvp, gaussianized": ("realnvp", (1, 8, 8), _IMAGES | {"blocks": 1, "gaussianize": 4}),
    "residual, images": (
        "residual",
        (1, 4, 4),
        {"layers": 1, "levels": 1, "hidden": 4, "terms": 4, "probes": 2},
    ),
    "flow_matching, images": (
        "flow_matching",
        (1, 4, 4),
        _ODE | {"levels": 1, "evaluations": 2},
    ),
    "patches": ("patches", (1, 8, 8), {"patch": 4, "steps": 2, "hidden": 8}),
    "tarflow": ("tarflow", (1, 8, 8), _TOKENS),
    "tarflow, couplings": ("tarflow", (1, 8, 8), _TOKENS | {"kind": "coupling"}),
}


def build(case: str, **options) -> flows.Flow:
    """A flow away from its initial values, where many layers are the identity; in eval mode."""
    torch.manual_seed(0)
    name, shape, own = EVERY[case]
    flow = flows.build(name, shape, **own | options)
    for p in flow.parameters():
        p.data.add_(0.1 * torch.randn_like(p))
    return flow.eval()


def items(flow: flows.Flow, n: int = 2) -> torch.Tensor:
    """Data (n, *shape) inside the domain of every flow."""
    g = torch.Generator().manual_seed(1)
    return torch.rand(n, *flow.shape, generator=g) * 0.8 + 0.1
