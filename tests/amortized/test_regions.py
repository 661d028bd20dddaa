"""Supports of torch's distributions: nothing drawn leaves them, log-determinants by autodiff."""

from __future__ import annotations

import math

import pytest
import torch
from torch import distributions as td
from torch.distributions import constraints as C
from torch.distributions import transforms as T

from innverse import amortized
from innverse.amortized.parameters import ParameterTransform
from innverse.amortized.regions import Box, Regions, Simplex
from innverse.amortized.supports import region_of
from innverse.errors import InputError

ONE, TWO = torch.ones(2), 2 * torch.ones(2)
UNIFORM = td.Independent(td.Uniform(0 * ONE, ONE), 1)
NORMAL = td.Independent(td.Normal(0 * ONE, ONE), 1)
MIX = td.Categorical(ONE)
GAP = td.MixtureSameFamily(MIX, td.Uniform(2 * torch.arange(2.0), torch.tensor([1.0, 3.0])))


class Supported:
    """What knows only its support."""

    def __init__(self, support):
        self.support = support


def made(base, *chain):
    return td.TransformedDistribution(base, list(chain))


PRIORS = {
    "uniform": UNIFORM,
    "uniform that is not a vector": td.Uniform(0 * ONE, ONE),
    "expanded": td.Uniform(-1.0, 0.1).expand((3,)),
    "log-normal": td.Independent(td.LogNormal(0 * ONE, 3 * ONE), 1),
    "half-normal": td.Independent(td.HalfNormal(ONE), 1),
    "beta": td.Independent(td.Beta(0.3 * ONE, 0.3 * ONE), 1),
    "pareto": td.Independent(td.Pareto(TWO, ONE), 1),
    "angles": td.Independent(td.VonMises(0 * ONE, ONE), 1),
    "dirichlet": td.Dirichlet(torch.ones(4)),
    "sparse dirichlet": td.Dirichlet(0.1 * torch.ones(4)),
    "dirichlets": td.Independent(td.Dirichlet(torch.ones(2, 3)), 1),
    "logistic-normal": td.LogisticNormal(0 * ONE, ONE),
    "affine": made(UNIFORM, T.AffineTransform(torch.tensor([2.0, 1.0]), torch.tensor([3.0, -2.0]))),
    "log-uniform": made(UNIFORM, T.ExpTransform()),
    "logit-normal": made(NORMAL, T.SigmoidTransform(), T.AffineTransform(-1.0, 4.0)),
    "mirrored": made(NORMAL, T.ExpTransform(), T.AffineTransform(1.0, -2.0)),
    "power": made(td.Uniform(ONE, TWO), T.PowerTransform(torch.tensor(-1.0))),
    "tanh": made(NORMAL, T.TanhTransform()),
    "broken stick": made(UNIFORM, T.StickBreakingTransform()),
    "cat of transforms": made(
        UNIFORM, T.CatTransform([T.ExpTransform(), T.AffineTransform(0.0, -1.0)], -1, [1, 1])
    ),
    "mixture": td.MixtureSameFamily(
        MIX,
        td.Uniform(torch.arange(2.0), torch.tensor([2.0, 3.0]), validate_args=False),
        validate_args=False,
    ),
    "mixture on a simplex": td.MixtureSameFamily(MIX, td.Dirichlet(torch.ones(2, 3))),
    "correlations": td.LKJCholesky(3, 1.0),
    "covariances": td.Wishart(torch.tensor(5.0), torch.eye(3)),
}


@pytest.mark.filterwarnings("ignore:Singular sample")
@pytest.mark.parametrize("name", PRIORS)
def test_prior_draws_lie_inside_and_so_does_what_is_mapped_back(name):
    prior = PRIORS[name]
    shape = prior.batch_shape + prior.event_shape
    theta = prior.sample((1000,)).flatten(1) if shape else prior.sample((1000,))[:, None]
    transform = ParameterTransform(region_of(prior, theta.shape[1]))
    assert transform.region.inside(theta.double()).all()
    transform.learn(theta)
    u, log_det = transform(theta)
    assert u.isfinite().all() and log_det.isfinite().all()
    back = transform.inverse(3 * torch.randn_like(u))  # farther out than any posterior
    assert back.dtype == torch.float32 and transform.region.inside(back.double()).all()
    low, high = theta.amin(0), theta.amax(0)
    assert (back.amin(0) >= low - 0.5 * (high - low).clamp_min(1)).all() or name in (
        "log-normal", "half-normal", "pareto", "mirrored", "covariances",
    )  # fmt: skip


@pytest.mark.parametrize("name", PRIORS)
def test_round_trips_and_log_determinants_against_autodiff(name):
    """The Jacobian of the independent numbers: of all, of all but the last of a simplex, or of the
    lower triangle (below the diagonal for correlations)."""
    prior = PRIORS[name]
    shape = prior.batch_shape + prior.event_shape
    region = region_of(prior, shape.numel())
    v = 0.7 * torch.randn(4, region.free, dtype=torch.float64)
    theta = region.from_line(v, torch.float64)
    again, log_det = region.to_line(theta)
    torch.testing.assert_close(again, v, atol=1e-6, rtol=0)
    torch.testing.assert_close(log_det, region.log_det_at(v), atol=1e-6, rtol=0)
    # any k columns of full rank in general position; these are torch's
    n = math.isqrt(region.size)
    if name in ("correlations", "covariances"):
        rows, columns = torch.tril_indices(n, n, -1 if name == "correlations" else 0)
        kept = rows * n + columns
    else:
        sizes = [(p.size, p.free) for p in region.parts]
        starts = [sum(s for s, _ in sizes[:k]) for k in range(len(sizes))]
        kept = torch.cat([torch.arange(free) + start for start, (_, free) in zip(starts, sizes)])
    for k in range(4):
        jacobian = torch.autograd.functional.jacobian(
            lambda u: region.from_line(u[None], torch.float64)[0, kept], v[k]
        )
        slope = -torch.linalg.slogdet(jacobian)[1]
        torch.testing.assert_close(slope, log_det[k], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize(
    ("support", "low", "high"),
    [
        (C.half_open_interval(0.0, 1.0), [0, 0], [1, 1]),
        (C.greater_than(torch.tensor([1.0, 2.0])), [1, 2], [math.inf] * 2),
        (C.greater_than_eq(3.0), [3, 3], [math.inf] * 2),
        (C.less_than(3.0), [-math.inf] * 2, [3, 3]),
        (C.nonnegative, [0, 0], [math.inf] * 2),
        (C.unit_interval, [0, 0], [1, 1]),
        (C.real_vector, [-math.inf] * 2, [math.inf] * 2),
        (C.stack([C.positive, C.interval(1.0, 2.0)], -1), [0, 1], [math.inf, 2]),
        (C.cat([C.positive, C.real], -1, [1, 1]), [0, -math.inf], [math.inf] * 2),
        (C.independent(C.stack([C.positive, C.less_than(1.0)], -1), 1), [0, -math.inf], [math.inf, 1]),
    ],
)  # fmt: skip
def test_bounds_of_constraints(support, low, high):
    region = region_of(Supported(support), 2)
    assert region.low.tolist() == low and region.high.tolist() == high


def test_parts_of_every_kind_side_by_side():
    support = C.cat([C.positive, C.simplex, C.independent(C.interval(0.0, 2.0), 1)], -1, [1, 3, 2])
    region = region_of(Supported(support), 6)
    draws = region.from_line(3 * torch.randn(500, region.free).double(), torch.float32)
    assert region.free == 5 and (draws[:, 0] > 0).all()
    assert C.simplex.check(draws[:, 1:4]).all()
    assert ((draws[:, 4:] > 0) & (draws[:, 4:] < 2)).all()
    for kind, numbers in ((C.lower_cholesky, 6), (C.lower_triangular, 6), (C.symmetric, 6)):
        region = region_of(Supported(kind), 9)
        draws = region.from_line(torch.randn(50, numbers).double(), torch.float32)
        assert kind.check(draws.unflatten(1, (3, 3))).all() and region.inside(draws.double()).all()


@pytest.mark.parametrize(
    ("words", "prior"),
    [
        ("Boolean is discrete", td.Independent(td.Bernoulli(0.5 * ONE), 1)),
        ("IntegerInterval is discrete", Supported(C.integer_interval(0, 3))),
        ("IntegerGreaterThan is discrete", Supported(C.cat([C.real, C.nonnegative_integer], -1))),
        ("in pieces", GAP),
        ("depends on what is not known", Supported(C.dependent)),
        ("cannot be mapped", Supported(type("Odd", (C.Constraint,), {})())),
    ],
)  # fmt: skip
def test_what_cannot_be_mapped_is_named(words, prior):
    shape = getattr(prior, "event_shape", torch.Size((2,)))
    with pytest.raises(InputError, match=words) as caught:
        region_of(prior, shape.numel())
    assert "\n" not in str(caught.value)


def test_uniform_on_the_simplex_is_the_base_density():
    """Dirichlet(1) becomes N(0, I), whose density the log-determinant turns into (n - 1)!."""
    theta = td.Dirichlet(torch.ones(5)).sample((20_000,)).double()
    v, log_det = Simplex(5).to_line(theta)
    assert v.mean(0).abs().max() < 0.03 and (v.T.cov() - torch.eye(4)).abs().max() < 0.04
    density = td.Normal(0.0, 1.0).log_prob(v).sum(1) + log_det
    torch.testing.assert_close(density, torch.full_like(density, math.lgamma(5)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("low", "high"), [(0.0, 0.1), (0.0, 0.7), (-1e-3, 1e6), (1e3, 1e3 + 0.1)])
def test_rounded_draws_lie_strictly_between_the_bounds(low, high, dtype):
    """0.1 of float32 lies above 0.1: a draw that rounds to it would leave the prior."""
    box = Box(torch.tensor([low], dtype=torch.float64), torch.tensor([high], dtype=torch.float64))
    draws = box.from_line(torch.linspace(-40, 40, 81, dtype=torch.float64)[:, None], dtype)
    assert draws.dtype == dtype and (draws.double() > low).all() and (draws.double() < high).all()


@pytest.mark.parametrize(("low", "high"), [(0.0, None), (None, 0.0), (5.0, None)])
def test_half_lines_never_round_to_their_end_or_to_infinity(low, high):
    ends = [torch.tensor([v if v is not None else s * math.inf]) for v, s in ((low, -1), (high, 1))]
    far = torch.tensor([[-1000.0], [-95.0], [0.0], [95.0], [1000.0]], dtype=torch.float64)
    draws = Box(*ends).from_line(far, torch.float32)
    assert draws.isfinite().all() and ((draws > ends[0]) & (draws < ends[1])).all()


def test_the_probit_has_tails_to_the_last_digit():
    """Where torch.special.ndtr(-9) is 0: p = 1.1e-19."""
    box = Box(torch.zeros(1), torch.ones(1))
    v = torch.tensor([[-9.0], [-20.0]], dtype=torch.float64)
    theta = box.from_line(v, torch.float64)
    want = torch.special.log_ndtr(v)
    torch.testing.assert_close(theta.log(), want, rtol=1e-9, atol=0)
    torch.testing.assert_close(box.to_line(theta)[0], v, rtol=1e-9, atol=0)


def test_small_values_of_a_half_line_keep_their_density():
    """log-normal over many decades: 1e-9 of the median is no end."""
    prior = td.LogNormal(torch.zeros(1), 6 * torch.ones(1))
    theta = prior.sample((2000,))
    transform = ParameterTransform(torch.zeros(1), torch.full((1,), math.inf))
    transform.learn(theta)
    u, log_det = transform(torch.tensor([[1e-9], [1.0], [1e9]]))
    log_q = td.Normal(0.0, 1.0).log_prob(u).sum(1) + log_det
    want = prior.log_prob(torch.tensor([[1e-9], [1.0], [1e9]])).sum(1)
    assert (log_q - want).abs().max() < 0.7  # mean and deviation are estimated


# ---- in a posterior -----------------------------------------------------------------------------

QUICK = {
    "max_epochs": 2,
    "size": {"layers": 2, "width": 16},
    "density": "realnvp",
    "progress": False,
}


@pytest.mark.parametrize("name", ["dirichlet", "affine", "angles", "correlations", "mixture"])
def test_posteriors_never_leak_and_integrate_to_one(name, tmp_path):
    prior = PRIORS[name]
    theta = prior.sample((300,)).reshape(300, -1)
    x = theta + 0.3 * torch.randn_like(theta)
    found = amortized.fit(theta, x, prior=prior, **QUICK)
    draws = found.sample((2000,), x=x[0])
    region = found.estimator.transform.region
    assert draws.shape == (2000, theta.shape[1]) and region.inside(draws.double()).all()
    log_q = found.log_prob(draws, x=x[0])
    assert log_q.isfinite().all()
    # the integral of q, by draws of a wider normal on the line, and of the prior, by draws of q
    wide = td.Normal(0.0, 1.5)
    u = wide.sample((20_000, region.free))
    transform = found.estimator.transform
    log_wide = wide.log_prob(u).sum(1) + transform.log_det_at(u)
    weight = (found.log_prob(transform.inverse(u), x=x[0]) - log_wide).exp()
    assert abs(float(weight.mean()) - 1) < 0.06
    shape = prior.batch_shape + prior.event_shape
    points = transform.inverse(u)
    log_p = prior.log_prob(points.reshape(-1, *shape)).reshape(len(u), -1).sum(1)
    assert abs(float((log_p - log_wide).exp().mean()) - 1) < 0.06
    found.save(tmp_path / "p")
    again = amortized.load(tmp_path / "p")
    assert torch.equal(again.log_prob(draws, x=x[0]), log_q)
    off = draws.clone()
    off[:, 0] += 10
    assert (found.log_prob(off, x=x[0]) == -math.inf).all()


def test_a_prior_that_ends_where_nothing_says_so_is_asked():
    class Triangle:
        """Uniform where theta_0 < theta_1, which no bounds say."""

        bounds = (0.0, 1.0)

        def sample(self, shape):
            return torch.rand(*shape, 2).sort(-1).values

        def log_prob(self, theta):
            inside = ((theta > 0) & (theta < 1)).all(-1) & (theta[..., 0] < theta[..., 1])
            return torch.where(inside, math.log(2), -math.inf)

    theta = Triangle().sample((200,))
    with pytest.warns(UserWarning, match="does not have density at"):
        amortized.fit(theta, theta + torch.randn_like(theta), prior=Triangle(), **QUICK)


def test_a_transform_of_ones_own_cannot_be_saved(tmp_path):
    prior = PRIORS["broken stick"]
    theta = prior.sample((200,))
    found = amortized.fit(theta, theta + torch.randn_like(theta), prior=prior, **QUICK)
    with pytest.raises(amortized.posterior.InnverseError, match="cannot be saved"):
        found.save(tmp_path / "p")


def test_regions_know_their_columns():
    region = Regions([Box(torch.zeros(1), torch.ones(1)), Simplex(3)])
    assert region.structured().tolist() == [False, True, True, True]
    assert Regions.from_json(region.to_json()).free == 3
