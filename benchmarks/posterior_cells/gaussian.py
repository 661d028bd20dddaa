"""The linear-Gaussian case: a flow set to a normal density, whose posterior is known in closed form.

Mean and covariance of the draws of `solve(method="posterior")` against it, each number in units of its
own Monte-Carlo error (from effective sizes), for five operators; and `evidence`, log p(y), in units of
the error that it states itself.
"""

from __future__ import annotations

import harness
import torch
from torch import Tensor

import innverse
from innverse.bijections import Bijection
from innverse.flows import Flow
from innverse.metrics.calibration import holm
from innverse.metrics.chains import effective_size
from innverse.physics.noise import GaussianNoise
from innverse.solvers import evidence

from . import _problems as problems
from ._setting import Setting

SEED = 7
NOISE = 0.1
SIZES = {"items": 2, "draws": 1600, "chains": 8}
EVIDENCE = {"draws": 1024, "runs": 16}


class Colour(Bijection):
    """z = L^-1 (x - m): the flow of N(m, L L^T)."""

    mean: Tensor
    root: Tensor

    def __init__(self, mean: Tensor, covariance: Tensor):
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("root", torch.linalg.cholesky(covariance))

    def forward(self, x, c=None):
        centred = (x.flatten(1) - self.mean).T
        z = torch.linalg.solve_triangular(self.root, centred, upper=False).T
        log_det = -self.root.diagonal().log().sum()
        return z.reshape(x.shape), log_det.expand(len(x))

    def inverse(self, z, c=None):
        x = self.mean + z.flatten(1) @ self.root.T
        return x.reshape(z.shape), self.root.diagonal().log().sum().expand(len(z))


def gaussian_flow(size: int = 8) -> Flow:
    """Smooth pictures of size x size around 1/2, with an exponential covariance."""
    at = torch.cartesian_prod(*[torch.arange(float(size), dtype=torch.float64)] * 2)
    covariance = 0.04 * (-torch.cdist(at, at) / 3).exp() + 4e-4 * torch.eye(size**2)
    flow = Flow(Colour(torch.full((size**2,), 0.5).double(), covariance), (1, size, size))
    flow.register_parameter("none", torch.nn.Parameter(torch.zeros(1).double(), False))
    return flow.eval()


def closed_form(flow: Flow, op, y: Tensor, s: float) -> tuple[Tensor, Tensor]:
    """Means (B, D) and covariance (D, D) of p(x | y)."""
    mean, root = flow.bijection.mean, flow.bijection.root
    a = op.A(torch.eye(len(mean), dtype=torch.float64).view(-1, *flow.shape)).flatten(1).T
    gain = root @ (root.T @ a.T)
    inner = a @ gain + s**2 * torch.eye(len(a), dtype=torch.float64)
    gain = torch.linalg.solve(inner, gain.T).T
    return mean + (y.flatten(1) - a @ mean) @ gain.T, root @ root.T - gain @ a @ root @ root.T


def log_evidence(flow: Flow, op, y: Tensor, s: float) -> Tensor:
    """log p(y) (B,) of what is measured."""
    mean, root = flow.bijection.mean, flow.bijection.root
    a = op.A(torch.eye(len(mean), dtype=torch.float64).view(-1, *flow.shape)).flatten(1).T
    y = y.flatten(1)
    there = (y != 0).any(0)  # what is not measured is exactly 0
    a, y = a[there], y[:, there]
    covariance = (a @ root) @ (a @ root).T + s**2 * torch.eye(len(a), dtype=torch.float64)
    return torch.distributions.MultivariateNormal(a @ mean, covariance).log_prob(y)


def run(setting: Setting) -> dict:
    case = problems.Case("gaussian", 8, 0.0, NOISE)
    result = {
        operator: setting.part(operator, SIZES, lambda o=operator: errors(setting, case, o))
        | setting.part(
            f"{operator}-evidence", EVIDENCE, lambda o=operator: of_evidence(setting, case, o)
        )
        for operator in (problems.OPERATORS[:1] if setting.quick else problems.OPERATORS)
    }
    p = [found["p_mean"] for found in result.values()]
    p += [found["p_covariance"] for found in result.values()]
    return {"smallest_p_holm": float(holm(p).min()), "within": bool(holm(p).min() > 0.05), **result}


def measured(setting: Setting, case: problems.Case, operator: str, items: int):
    """The flow, an operator, and measurements of draws of the flow."""
    flow = gaussian_flow(case.size)
    op = problems.operator(operator, case).double()
    op.noise = GaussianNoise(NOISE)
    g = setting.generator(operator)
    return flow, op, op(flow.sample(items, generator=g), g)


def of_evidence(setting: Setting, case: problems.Case, operator: str) -> dict:
    """Beside the closed form, in nats."""
    flow, op, y = measured(setting, case, operator, SIZES["items"])
    options = EVIDENCE if not setting.quick else {"draws": 64, "runs": 4}
    found = evidence(y, op, flow, image_shape=case.shape, seed=0, **options)
    exact = log_evidence(flow, op, y, NOISE)
    return {
        "log_evidence": found.log_evidence.tolist(),
        "log_evidence_error": found.error.tolist(),
        "log_evidence_exact": exact.tolist(),
        "evidence_off": ((found.log_evidence - exact) / found.error).tolist(),
    }


def errors(setting: Setting, case: problems.Case, operator: str) -> dict:
    """In standard errors, the largest deviation of a mean and of a covariance, with its p-value after
    the correction for their number."""
    items, draws, chains = (2, 400, 4) if setting.quick else SIZES.values()
    flow, op, y = measured(setting, case, operator, items)
    found = innverse.solve(
        y, op, flow, "posterior", image_shape=case.shape, draws=draws, chains=chains, seed=0
    )
    mean, covariance = closed_form(flow, op, y, NOISE)
    # whitened, the draws should be N(0, I)
    root = torch.linalg.cholesky(covariance)
    z = (found.samples.flatten(2) - mean) @ torch.linalg.inv(root).T
    by_chain = z.unflatten(0, (chains, draws // chains))
    i, j = torch.triu_indices(z.shape[2], z.shape[2])
    products = by_chain[..., i] * by_chain[..., j]
    of_mean = (by_chain, torch.zeros(()).double())
    of_product = (products, (i == j).double())
    result = {"converged": float(found.converged.double().mean())}
    result["ess_bulk"] = float(found.diagnostics["ess_bulk"].median())
    for name, (values, want) in (("mean", of_mean), ("covariance", of_product)):
        size = torch.stack([effective_size(values[:, :, b]) for b in range(items)])
        flat = values.flatten(0, 1)
        errors = (flat.mean(0) - want) / (flat.std(0) / size.sqrt())
        largest = errors.abs().max()
        p = float(torch.special.erfc(largest / 2**0.5)) * errors.numel()
        result |= {f"largest_{name}": float(largest), f"p_{name}": min(1.0, p)}
        result[f"rms_{name}"] = float(errors.square().mean().sqrt())
    return result


def table(result: dict) -> str:
    """Deviations in units of their Monte-Carlo errors."""
    keys = ("rms_mean", "largest_mean", "rms_covariance", "largest_covariance", "ess_bulk")
    each = {name: found for name, found in result.items() if name in problems.OPERATORS}
    rows = [
        [name, *(f"{found[k]:.2f}" for k in keys), *map(nats, *(found[k] for k in OF_EVIDENCE))]
        for name, found in each.items()
    ]
    head = [
        "operator",
        *(k.replace("_", " ") for k in keys),
        "log p(y), its error, exact",
        "of another y",
    ]
    return (
        f"{harness.table(head, rows)}\n\nSmallest p after Holm's correction: "
        f"{result['smallest_p_holm']:.2f}."
    )


OF_EVIDENCE = "log_evidence", "log_evidence_error", "log_evidence_exact"


def nats(found: float, error: float, exact: float) -> str:
    return f"{found:.2f} ± {error:.2f}, {exact:.2f}"
