"""Every registered flow is the density it says it is: quadrature and autodiff, in float64."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Normal

from innverse import flows

SMALL = {"layers": 3, "width": 16}
PLANE = {
    "coupling": SMALL | {"transform": "spline", "bins": 4},
    "autoregressive": SMALL | {"inverse": True, "transform": "additive"},
    "nice": SMALL,
    "realnvp": SMALL | {"mix": "lu"},
    "nsf": SMALL | {"bins": 4},
    "maf": SMALL,
    "maf, splines": SMALL | {"transform": "spline", "bins": 4},
    "iaf": SMALL,
    "residual": {"layers": 3, "hidden": 16},
    "flow_matching": {"hidden": 8, "depth": 2, "evaluations": 64},
}
# an ODE solver's density is exact in the limit of small steps only: see test_matching.py
TOLERANCE = {"flow_matching": 1e-5}
IMAGES = {
    "glow": {"levels": 1, "steps": 2, "hidden": 8},
    "glow, gaussianized": {"levels": 1, "steps": 2, "hidden": 8, "gaussianize": 4},
    "realnvp": {"levels": 2, "hidden": 8, "blocks": 1},
    "realnvp, gaussianized": {"levels": 2, "hidden": 8, "blocks": 1, "gaussianize": 4},
    "patches": {"patch": 2, "steps": 2, "hidden": 8},
    "tarflow": {"patch": 1, "blocks": 2, "hidden": 8, "depth": 1, "heads": 2},
}


def build(case: str, shape: tuple[int, ...], options: dict):
    """A flow away from its initial values, where many layers are the identity."""
    torch.manual_seed(0)
    flow = flows.build(case.partition(",")[0], shape, **options)
    for p in flow.parameters():
        p.data.add_(0.1 * torch.randn_like(p))
    return flow.double().eval()


def test_no_flow_is_left_out():
    elsewhere = {"injective"}  # a density on a manifold: test_injective.py
    tested = {case.partition(",")[0] for case in (*PLANE, *IMAGES)}
    assert tested | elsewhere == set(flows.names())


@pytest.mark.parametrize("case", PLANE)
def test_density_in_the_plane_integrates_to_one(case):
    flow = build(case, (2,), PLANE[case])
    axis = torch.linspace(-10, 10, 121, dtype=torch.float64)
    with torch.no_grad():
        p = flow.log_prob(torch.cartesian_prod(axis, axis)).exp()
    assert abs(float(p.sum() * (axis[1] - axis[0]) ** 2) - 1) < 1e-3


@pytest.mark.parametrize(
    ("case", "shape"),
    [(case, (2,)) for case in PLANE] + [(case, (1, 2, 2)) for case in IMAGES],
)
def test_density_is_the_change_of_variables_by_autodiff(case, shape):
    flow = build(case, shape, (PLANE if shape == (2,) else IMAGES)[case])
    g = torch.Generator().manual_seed(1)
    for x in torch.rand(3, 1, *shape, dtype=torch.float64, generator=g):
        d = x.numel()
        jacobian = torch.autograd.functional.jacobian(flow.encode, x).view(d, d)
        truth = Normal(0.0, 1.0).log_prob(flow.encode(x)).sum() + torch.linalg.slogdet(jacobian)[1]
        assert abs(flow.log_prob(x)[0] - truth) < TOLERANCE.get(case, 1e-10)
