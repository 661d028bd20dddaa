"""Injective flows: closed forms on a linear manifold, autodiff and surface integrals on others."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal

import innverse
from innverse import flows
from innverse.bijections import ActNorm, Additive, Chain, Coupling, initialize
from innverse.bijections.embedding import Embedding
from innverse.errors import InputError, ShapeError, UsageError
from innverse.flows.scales import coarse_first, scale_shapes
from innverse.flows.volume import Volume, _conjugate_gradients, _quadrature
from innverse.physics import Denoising
from innverse.train import load_config, train


def build(shape=(3,), latent=2, **options):
    torch.manual_seed(0)
    small = {"steps": 2, "width": 8, "levels": 1, "tail_steps": 2, "hidden": 8}
    flow = flows.build("injective", shape, latent=latent, **small | options)
    for p in flow.parameters():
        p.data.add_(0.1 * torch.randn_like(p))
    return flow.double().eval()


class Bowl(nn.Module):
    """c = (a^2 + b^2) / 4, for an additive coupling that makes a paraboloid of a plane."""

    def forward(self, ab, c=None):
        return -ab.square().sum(1, keepdim=True) / 4


@pytest.mark.parametrize("learned", [True, False])
def test_the_embedding_keeps_lengths_and_has_a_left_inverse(learned):
    torch.manual_seed(0)
    layer = Embedding(3, 7, learned).double()
    u, v = torch.randn(5, 3).double(), torch.randn(5, 7).double()
    torch.testing.assert_close(layer.left_inverse(layer(u)), u)
    jacobian = torch.func.jacfwd(lambda u: layer(u[None])[0])(u[0])
    torch.testing.assert_close(jacobian.T @ jacobian, torch.eye(3).double())
    # what is left is orthogonal to the range
    rest = v - layer(layer.left_inverse(v))
    torch.testing.assert_close(rest @ jacobian, torch.zeros(5, 3).double(), atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    "shape, latent, levels",
    [((3,), 2, 1), ((4,), 4, 1), ((1, 4, 4), 3, 1), ((3,), 1, 1), ((2, 3, 3), 5, 0)],
)
def test_density_is_that_of_the_jacobian_of_decode(shape, latent, levels):
    flow = build(shape, latent, levels=levels)
    z = torch.randn(4, latent).double()
    j = torch.stack([torch.func.jacrev(lambda z: flow.decode(z[None])[0].flatten())(a) for a in z])
    log_n = -0.5 * z.square().sum(1) - latent / 2 * math.log(2 * math.pi)
    expected = log_n - 0.5 * torch.linalg.slogdet(j.mT @ j)[1]
    torch.testing.assert_close(flow.log_prob(flow.decode(z)), expected, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(flow.encode(flow.decode(z)), z)


def test_on_a_linear_manifold_it_is_probabilistic_principal_components():
    torch.manual_seed(0)
    mix = torch.randn(5, 2).double()
    x = torch.randn(4000, 2).double() @ mix.T + torch.arange(5.0).double()
    flow = flows.build("injective", (5,), latent=2, steps=1, levels=1, tail_steps=0).double()
    flow.tail = Chain()
    flow.core = Chain(ActNorm(2)).double()
    initialize(flow, x)
    on_it, distance = flow.project(x)
    assert float(distance.detach().max()) < 1e-8
    off = x + torch.randn(4000, 5).double()
    on_it, distance = flow.project(off)
    centre, basis = x.mean(0), torch.linalg.qr(mix)[0]
    nearest = centre + (off - centre) @ basis @ basis.T
    torch.testing.assert_close(on_it, nearest, atol=1e-8, rtol=0)
    torch.testing.assert_close(distance, (off - nearest).norm(dim=1), atol=1e-8, rtol=0)
    # z has unit variances along principal axes: the Gaussian of the sample covariance
    u = (x - centre) @ basis
    gaussian = MultivariateNormal(torch.zeros(2).double(), u.T @ u / len(u))
    torch.testing.assert_close(flow.log_prob(x), gaussian.log_prob(u), atol=1e-8, rtol=0)


def test_density_integrates_to_one_over_a_mesh_of_the_surface():
    """Triangles in polar coordinates, of which the flow knows nothing."""
    flow = build()
    flow.embedding = Embedding(2, 3, learned=False)
    flow.tail = Chain(Coupling(3, Bowl(), Additive(), keep=2))
    r = torch.linspace(0, 12, 500, dtype=torch.float64)
    angle = torch.linspace(0, 2 * math.pi, 241, dtype=torch.float64)
    a, b = r[:, None] * angle.cos(), r[:, None] * angle.sin()
    points = torch.stack([a, b, (a**2 + b**2) / 4], -1)
    p, q, s, t = points[:-1, :-1], points[1:, :-1], points[:-1, 1:], points[1:, 1:]
    total = 0.0
    for corner, one, two in ((p, q, s), (t, s, q)):
        area = 0.5 * torch.linalg.cross(one - corner, two - corner).norm(dim=-1)
        with torch.no_grad():
            middle = (corner + one + two) / 3
            middle[..., 2] = middle[..., :2].square().sum(-1) / 4  # back on the surface
            density = flow.log_prob(middle.reshape(-1, 3)).exp().view(area.shape)
        total += float((area * density).sum())
    assert abs(total - 1) < 1e-3


def test_density_with_noise_on_a_linear_manifold_is_a_gaussian():
    """N(b, A A^T + s^2 I), G(z) = A z + b: near the manifold and far from it, one draw is enough."""
    flow = build((5,), 2, steps=1, tail_steps=0)
    flow.tail, flow.core = Chain(), Chain(ActNorm(2)).double()
    flow.core.initialize_(torch.randn(50, 2).double() * 0.7 + 0.2)
    b = flow.decode(torch.zeros(1, 2).double())[0]
    a = (flow.decode(torch.eye(2).double()) - b).T
    x = flow.sample(20) + torch.randn(20, 5).double()
    for noise in (0.05, 1.0):
        cov = a @ a.T + noise**2 * torch.eye(5).double()
        expected = MultivariateNormal(b, cov).log_prob(x)
        torch.testing.assert_close(flow.log_prob(x, noise, samples=1), expected, atol=1e-6, rtol=0)


def test_density_with_noise_is_the_integral_over_the_latents():
    """On a curved manifold, against a sum over a grid of z."""
    flow = build()
    noise = 0.05
    x = flow.sample(20) + noise * torch.randn(20, 3).double()
    axis = torch.linspace(-6, 6, 401, dtype=torch.float64)
    with torch.no_grad():
        z = torch.cartesian_prod(axis, axis)
        made = flow.decode(z)
        log_n = -0.5 * z.square().sum(1) - math.log(2 * math.pi) + 2 * math.log(12 / 400)
        off = torch.cdist(x, made).square() / (2 * noise**2)
        expected = (log_n - off).logsumexp(1) - 3 * math.log(noise * (2 * math.pi) ** 0.5)
        found = flow.log_prob(x, noise, samples=200)
    torch.testing.assert_close(found, expected, atol=0.03, rtol=0)


def test_density_with_noise_has_its_gradient_in_the_data():
    """On a linear manifold, where it is a Gaussian's."""
    flow = build((4,), 2, steps=1, tail_steps=0)
    flow.tail, flow.core = Chain(), Chain()
    x = torch.randn(5, 4).double().requires_grad_()
    w = flow.embedding.matrix(x).detach()
    normal = MultivariateNormal(flow.embedding.offset.detach(), w @ w.T + torch.eye(4).double())
    (score,) = torch.autograd.grad(flow.log_prob(x, noise=1.0, samples=4000).sum(), x)
    (expected,) = torch.autograd.grad(normal.log_prob(x).sum(), x)
    torch.testing.assert_close(score, expected, atol=0.05, rtol=0)


def test_far_items_are_warned_of_and_near_ones_are_not():
    flow = build()
    x = flow.sample(50)
    flow.usual_distance.fill_(0.01)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        flow.log_prob(x)
    with pytest.warns(match="50 of 50 items"):
        flow.log_prob(x + 5)


def test_training_finds_a_bowl_and_its_density():
    """Both losses fall, and the gradient of the likelihood leaves the manifold alone."""
    torch.manual_seed(0)
    flow = flows.build("injective", (3,), latent=2, steps=2, width=16, hidden=16, levels=1)
    u = torch.randn(512, 2)
    x = torch.cat([u, u.square().sum(1, keepdim=True) / 4], 1)
    initialize(flow, x)
    before = float(flow.project(x)[1].detach().square().mean())
    optimiser = torch.optim.Adam(flow.parameters(), 1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        flow.training_loss(x).backward()
        optimiser.step()
    assert float(flow.project(x)[1].detach().square().mean()) < before / 4
    assert 0 < float(flow.usual_distance) < 10


def test_a_volume_of_many_dimensions_is_estimated():
    """Exact for a diagonal Jacobian, of which random signs see the logarithm and its gradient."""
    u = (0.5 * torch.randn(3, 20).double()).requires_grad_()
    volume = Volume(exact_dims=0, probes=2)(torch.exp, u)
    torch.testing.assert_close(volume, u.sum(1), rtol=1e-6, atol=1e-6)
    (gradient,) = torch.autograd.grad(volume.sum(), u)
    torch.testing.assert_close(gradient, torch.ones_like(u), rtol=1e-6, atol=1e-6)


def test_the_estimate_is_that_of_the_whole_matrix():
    """Lanczos and conjugate gradients against the matrix functions, for one direction."""
    mix = torch.randn(8, 6).double()
    a, eps = mix.T @ mix, torch.randn(1, 6).double()
    product = lambda v: v @ a  # noqa: E731
    values, axes = torch.linalg.eigh(a)
    log_a = axes @ torch.diag(values.log()) @ axes.T
    torch.testing.assert_close(_quadrature(product, eps), (eps @ log_a @ eps.T)[0])
    torch.testing.assert_close(_conjugate_gradients(product, eps).T, torch.linalg.solve(a, eps.T))


def moved(flow, x) -> set[str]:
    """The parts that a gradient of the training loss moves."""
    flow.zero_grad()
    flow.train().training_loss(x).backward()
    moving = (n for n, p in flow.named_parameters() if p.grad is not None and bool(p.grad.any()))
    return {name.partition(".")[0] for name in moving}


def test_each_training_moves_what_it_should():
    whole = {"core", "embedding", "tail"}
    for training, parts in (("manifold", whole - {"core"}), ("density", {"core"}), ("both", whole),
                            ("joint", whole)):  # fmt: skip
        flow = build(training=training)
        assert moved(flow, torch.randn(8, 3).double()) == parts, training
    with pytest.raises(UsageError, match="choose one of both"):
        build(training="all")


def test_joint_training_descends_the_likelihood_of_the_manifold():
    """Its gradient is that of reconstruction minus `log_prob`."""
    flow = build(training="joint")
    x = torch.randn(5, 3).double()
    joint = torch.autograd.grad(flow.training_loss(x), flow.parameters(), allow_unused=True)
    squares = flow.project(x)[1].square() / (2 * flow.spread**2)
    expected = torch.autograd.grad(
        (squares - flow.log_prob(x)).mean() / 3, flow.parameters(), allow_unused=True
    )
    for one, two in zip(joint, expected, strict=True):
        if two is not None:
            torch.testing.assert_close(one, two)


def test_the_nearest_point_is_orthogonal_to_the_manifold():
    flow = build()
    x = 0.3 * torch.randn(4, 3).double()
    near, distance = flow.project(x, steps=200)
    assert bool((distance <= flow.project(x)[1] + 1e-9).all())
    z = flow.encode(near).detach()
    j = torch.stack([torch.func.jacrev(lambda z: flow.decode(z[None])[0])(a) for a in z])
    along = (j.detach().mT @ (x - near).detach()[..., None])[..., 0]
    assert float(along.abs().max()) < 1e-3


def test_the_nearest_point_is_found_where_the_code_is_no_way_to_it():
    """On the axis of a bowl, c = r^2 / 4: at h = 5 the vertex is a saddle, and r^2 = 12 the nearest."""
    flow = build()
    flow.embedding = Embedding(2, 3, learned=False)
    flow.tail = Chain(Coupling(3, Bowl(), Additive(), keep=2))
    axis = torch.tensor([[0.0, 0.0, 5.0]]).double()
    torch.testing.assert_close(flow.project(axis)[1], torch.tensor([5.0]).double())
    on_it, distance = flow.project(axis, steps=100)
    torch.testing.assert_close(distance, torch.tensor([4.0]).double())
    torch.testing.assert_close(on_it[:, 2], torch.tensor([3.0]).double(), atol=1e-4, rtol=0)


def test_coarse_scales_alone_are_made():
    flow = build((1, 8, 8), 5, levels=2, coarse=1)
    z = torch.randn(3, 5).double()
    x = flow.decode(z)
    torch.testing.assert_close(flow.encode(x), z)
    fine = coarse_first(flow.tail, flow.tail(x)[0])[:, 32:]
    torch.testing.assert_close(fine, torch.zeros_like(fine), atol=1e-9, rtol=0)
    with pytest.raises(UsageError, match="have 32 numbers"):
        build((1, 8, 8), 40, levels=2, coarse=1)


def test_nested_dropout_puts_the_latents_in_the_order_of_principal_components():
    """On a linear manifold every beginning of the code is as good as PCA; without it, none need be."""
    torch.manual_seed(0)
    x = torch.randn(400, 5).double() * torch.tensor([2.0, 1.4, 1.0, 0.5, 0.2]).double()
    x = x @ torch.linalg.qr(torch.randn(5, 5).double())[0]
    variances = torch.linalg.eigvalsh(torch.cov(x.T, correction=0)).flip(0)
    least = torch.stack([variances[j:].sum() for j in range(1, 4)])

    def errors(nested: float) -> torch.Tensor:
        flow = flows.build("injective", (5,), latent=3, steps=1, tail_steps=0, nested=nested,
                           training="manifold").double()  # fmt: skip
        flow.tail, flow.core = Chain(), Chain(ActNorm(3)).double()
        initialize(flow, x)
        flow.embedding.columns.data = torch.randn(5, 3).double()
        optimizer = torch.optim.Adam(flow.parameters(), 0.05)
        for k in range(300):
            optimizer.param_groups[0]["lr"] = 0.05 * (1 - k / 300)
            optimizer.zero_grad()
            flow.training_loss(x).backward()
            optimizer.step()
        with torch.no_grad():
            z = flow.eval().encode(x)
            cut = [flow.decode(z[:, :j]) for j in range(1, 4)]
        return torch.stack([(c - x).square().sum(1).mean() for c in cut])

    found = errors(0.7)
    assert bool((found[1:] < found[:-1]).all())
    assert bool((found < 1.05 * least).all()) and not bool((errors(0.0) < 1.05 * least).all())


def test_a_search_over_k_numbers(tmp_path):
    flow = build((1, 4, 4), 3).float().requires_grad_(False)
    x = flow.sample(2, temperature=0.5)
    found = innverse.solve(x, Denoising(), flow, "latent", steps=100)
    assert float((found.x - x).abs().max()) < 1e-2 and found.z.shape == (2, 3)


def test_of_images_it_begins_with_the_principal_components_in_pixels():
    torch.manual_seed(0)
    x = torch.randn(64, 5).double() @ torch.randn(5, 64).double()
    x = (x * torch.logspace(0, -3, 64).double()).view(64, 1, 8, 8)  # fine channels are small
    flow = flows.build("injective", (1, 8, 8), latent=5, levels=1, tail_steps=[2], hidden=[4])
    assert len(x) > flow.items_to_start
    initialize(flow.double(), x)
    torch.testing.assert_close(flow.project(x)[0], x)


@pytest.mark.parametrize("training", ["both", "joint"])
def test_trained_by_the_trainer(tmp_path, training):
    settings = {
        "data.path": "digits", "model.name": "injective", "model.latent": 4, "model.levels": 1,
        "model.tail_steps": 1, "model.hidden": 8, "model.steps": 1, "model.width": 8,
        "model.training": training, "train.steps": 3, "train.batch_size": 8, "train.eval_images": 8,
    }  # fmt: skip
    outcome = train(load_config(overrides=settings), tmp_path / "run", quiet=True)
    assert outcome.held_out.keys() == {"reconstruction_psnr", "code_nats"}
    again = innverse.load(outcome.model)
    assert again.latent_shape == (4,) and bool(again.usual_distance.isfinite())
    second = settings | {"model.training": "density", "model.init": str(outcome.model)}
    density = train(load_config(overrides=second), tmp_path / "second", quiet=True)
    x = torch.rand(2, 1, 8, 8)
    kept = innverse.load(density.model)
    torch.testing.assert_close(kept.project(x)[0], again.project(x)[0])  # the manifold has stayed


def test_saved_and_loaded(tmp_path):
    flow = build((1, 4, 4), 3)
    flow.save_pretrained(tmp_path / "model")
    again = innverse.load(tmp_path / "model")
    x = torch.rand(2, 1, 4, 4).double()
    torch.testing.assert_close(again.log_prob(x), flow.log_prob(x))


def test_what_is_wrong_is_said():
    with pytest.raises(UsageError, match="from 1 to 3"):
        flows.build("injective", (3,), latent=4)
    with pytest.raises(UsageError, match="one for each of the 2 levels"):
        flows.build("injective", (1, 8, 8), levels=2, tail_steps=[1, 2, 3])
    with pytest.raises(UsageError, match="have no levels"):
        flows.build("injective", (3,), latent=2, hidden=[8])
    with pytest.raises(ShapeError, match=r"takes z \(B, 2\) or its"):
        build().decode(torch.zeros(1, 3).double())
    with pytest.raises(ShapeError, match=r"takes \(B, 3\)"):
        build().log_prob(torch.zeros(1, 4).double())
    with pytest.raises(UsageError, match="no condition"):
        build().sample(1, c=0.1)
    with pytest.raises(UsageError, match="reconstructs nothing"):
        build(training="density", nested=0.5)
    with pytest.raises(UsageError, match="samples=0"):
        build().log_prob(torch.zeros(1, 3).double(), noise=0.1, samples=0)
    for noise in ("a", 0, math.inf, math.nan):
        with pytest.raises(UsageError, match="noise="):
            build().log_prob(torch.zeros(1, 3).double(), noise=noise)
    for steps in (-1, 2.5):
        with pytest.raises(UsageError, match="steps="):
            build().project(torch.zeros(1, 3).double(), steps=steps)
    with pytest.raises(UsageError, match="temperature=-1"):
        build().sample(1, temperature=-1.0)
    with pytest.raises(UsageError, match="halve 0 times"):
        build((1, 5, 6))
    with pytest.raises(InputError, match="float16"):
        build().half().log_prob(torch.zeros(1, 3))
    flow = build()
    with pytest.raises(UsageError, match=r"torch\.func"):
        torch.func.vmap(lambda x: flow.log_prob(x[None], noise=0.1))(torch.zeros(2, 3).double())


@pytest.mark.parametrize("side, levels", [(28, 2), (32, 3), (7, 0)])
def test_levels_follow_the_size_of_images(side, levels):
    flow = flows.build("injective", (1, side, side), latent=3, tail_steps=1, hidden=4)
    assert len(scale_shapes(flow.tail, flow.shape)) == max(levels, 1)
    assert flow.sample(2).shape == (2, 1, side, side)


def test_batches_may_be_empty():
    flow = build()
    x = torch.zeros(0, 3).double()
    assert flow.log_prob(x).shape == flow.log_prob(x, noise=0.1).shape == (0,)
    assert flow.project(x, steps=2)[0].shape == (0, 3)


def test_an_estimated_volume_knows_no_other_item():
    """Alone, in a batch, under vmap: the same directions."""
    flow = build((4,), 2, steps=1, tail_steps=1)
    flow.volume.exact_dims, flow.volume.probes = 0, 2
    flow.usual_distance.fill_(1.0)
    x = flow.sample(3)
    found = flow.log_prob(x)
    torch.testing.assert_close(flow.log_prob(x[1:]), found[1:])
    torch.testing.assert_close(torch.func.vmap(lambda x: flow.log_prob(x[None])[0])(x), found)
    flow.train()  # where a gradient through eight directions only would follow them
    assert not torch.equal(flow.log_prob(x), flow.log_prob(x))


def test_density_with_noise_needs_no_grad_mode_and_bears_nan_and_little_noise():
    flow = build()
    x = flow.sample(3)
    expected = flow.log_prob(x, noise=0.1)
    with torch.inference_mode():
        torch.testing.assert_close(flow.log_prob(x, noise=0.1), expected)
    x[1] = math.nan
    found = flow.log_prob(x, noise=0.1)
    torch.testing.assert_close(found[[0, 2]], expected[[0, 2]])
    assert bool(found[1].isnan())
    mode = flow.float()._posterior(flow.sample(5), 1e-9)[1]
    assert bool(mode.isfinite().all())


def test_an_initialised_flow_warns_of_what_is_far():
    torch.manual_seed(0)
    flow = flows.build("injective", (5,), latent=2, levels=1, tail_steps=1, hidden=8)
    x = torch.randn(200, 2) @ torch.randn(2, 5)
    initialize(flow, x)  # a plane: its usual distance is what rounding leaves
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        flow.log_prob(x)
    with pytest.warns(match="200 of 200 items"):
        flow.log_prob(x + torch.randn(5))
