"""The whole method on a noise-conditional prior in closed form: start, warm-up, spaces, checkpoints."""

from __future__ import annotations

import importlib

import pytest
import torch

import innverse
from innverse import physics
from innverse.errors import InputError, UsageError
from innverse.solvers.posterior.verdict import judge_chains

from .levels import SHAPE, Levels
from .test_hmc import matrix_of

S = 0.2
G = torch.Generator().manual_seed(0)
OPERATORS = {
    "inpainting": physics.Inpainting.random(SHAPE, 0.5, G),
    "denoising": physics.Denoising(image_shape=SHAPE),
    "matrix": physics.MatrixPhysics(torch.randn(6, 16, generator=G).double() / 4, SHAPE),
    "blur": physics.Blur(torch.rand(3, 3, generator=G).double() / 5, image_shape=SHAPE),
    "tight frame": physics.FastCompressedSensing(8, SHAPE, G),
}
FEW = {"method": "posterior", "noise": S, "sigma": 0.1, "draws": 24, "chains": 3, "warmup": 6}


def measured(name: str = "inpainting"):
    """The operator, a measurement, and the operator's matrix."""
    g, operator = torch.Generator().manual_seed(1), OPERATORS[name]
    x = Levels().decode(torch.randn(1, *SHAPE, generator=g).double())
    y = operator.A(x)
    y = operator.keep_measured(y + S * torch.randn(y.shape, generator=g).double())
    return operator, y, matrix_of(lambda e: operator.A(e.view(1, *SHAPE)).flatten(), 16)


def agrees(found, mean, std) -> None:
    size = found.diagnostics["ess_bulk"].flatten()
    assert found.diagnostics["r_hat"].max() < 1.2 and size.min() > 200
    assert ((found.x.flatten() - mean) / std * size.sqrt()).abs().max() < 4
    assert (found.std.flatten() / std - 1).abs().max() < 0.15


@pytest.mark.parametrize("space", ["image", "latent"])
def test_chains_from_far_away_arrive_in_both_spaces(space):
    operator, y, a = measured()
    far = torch.full((1, *SHAPE), 30.0, dtype=torch.float64)
    found = innverse.solve(y, operator, Levels(), method="posterior", noise=S, sigma=0.1, init=far,
                           draws=1600, chains=20, warmup=40, space=space)  # fmt: skip
    agrees(found, *Levels().posterior(a, y.flatten(), S, "noisy"))
    assert found.diagnostics["space"] == space and found.diagnostics["of"] == "noisy"
    assert torch.isfinite(found.diagnostics["condition"]).all()


@pytest.mark.parametrize("sigma", [0.1, None])
@pytest.mark.parametrize("name", OPERATORS)
def test_the_clean_picture_has_its_own_mean_and_spread(name, sigma):
    operator, y, a = measured(name)
    found = innverse.solve(y, operator, Levels(), method="posterior", noise=S, sigma=sigma,
                           draws=1600, chains=40, warmup=30, of="clean")  # fmt: skip
    level = found.diagnostics["sigma"]
    # without a word, as much of the noise as can be is that of u
    norm = operator.norm_squared((1, *SHAPE)) ** 0.5
    assert level == 0.1 if sigma else 0.97 * S < level * norm < S
    agrees(found, *Levels().posterior(a, y.flatten(), S, "clean"))
    assert found.diagnostics["of"] == "clean" and found.quantity_of_mean == "x"
    low, high = found.interval(0.9)  # of x, not of the noisy draws
    torch.testing.assert_close((low + high) / 2, found.x)
    torch.testing.assert_close(high - low, 2 * 1.6448536 * found.std)


@pytest.mark.parametrize(
    ("noise", "operator", "words"),
    [
        (0.05, OPERATORS["denoising"], "of='clean' needs noise of at least sigma times"),
        (S, physics.Blur(torch.ones(3, 3).double() / 9, "reflect"), "has no simple form"),
        (physics.PoissonNoise(0.05), OPERATORS["denoising"], "Gaussian noise"),
    ],
)
def test_what_cannot_be_said_of_the_clean_picture_is_refused(noise, operator, words):
    y = torch.full((1, *SHAPE), 0.4, dtype=torch.float64)
    with pytest.raises(UsageError, match=words) as caught:
        innverse.solve(y, operator, Levels(), **(FEW | {"noise": noise, "of": "clean"}))
    assert "\n" not in str(caught.value)


def test_chains_too_short_to_be_compared_are_told_so():
    operator, y, _ = measured()
    found = innverse.solve(y, operator, Levels(), **(FEW | {"draws": 9}))
    assert "chains of less than 4 draws cannot be compared" in found.status[0]
    assert not found.converged.any() and found.diagnostics["r_hat"].isnan().all()


def interrupted(y, operator, folder, after: int, **more) -> None:
    def stop(done, total, note):
        if done == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        innverse.solve(y, operator, Levels(), checkpoint=str(folder), progress=stop, **(FEW | more))


@pytest.mark.parametrize("after", [1, 3, 5, 9])
@pytest.mark.parametrize("more", [{}, {"space": "latent"}, {"of": "clean", "thin": 2}])
def test_an_interrupted_run_goes_on_bit_for_bit(tmp_path, after, more):
    operator, y, _ = measured()
    whole = innverse.solve(y, operator, Levels(), **(FEW | more))
    interrupted(y, operator, tmp_path, after, **more)
    found = innverse.solve(y, operator, Levels(), checkpoint=str(tmp_path), **(FEW | more))
    assert torch.equal(found.samples, whole.samples)
    assert torch.equal(found.x, whole.x) and torch.equal(found.std, whole.std)
    assert found.trace == whole.trace and torch.equal(found.evaluations, whole.evaluations)


def test_a_finished_checkpoint_is_read_and_may_be_prolonged(tmp_path):
    operator, y, _ = measured()
    given = FEW | {"checkpoint": str(tmp_path)}
    first = innverse.solve(y, operator, Levels(), **given)
    calls = []
    again = innverse.solve(y, operator, Levels(), progress=lambda *a: calls.append(a), **given)
    assert torch.equal(first.samples, again.samples) and not calls
    assert any("was finished" in note for note in again.notes[0])
    more = innverse.solve(y, operator, Levels(), **(given | {"draws": 48}))
    whole = innverse.solve(y, operator, Levels(), **(FEW | {"draws": 48}))
    assert torch.equal(more.samples, whole.samples)


@pytest.mark.parametrize("what", ["y", "seed", "noise", "prior", "damaged", "file"])
def test_a_checkpoint_of_another_run_is_refused_in_one_line(tmp_path, what):
    operator, y, _ = measured()
    prior, given = Levels(), FEW | {"checkpoint": str(tmp_path)}
    interrupted(y, operator, tmp_path, 8)
    if what == "y":
        y = y + 0.01
    elif what == "seed":
        given["seed"] = 5
    elif what == "noise":
        given["noise"] = 0.3
    elif what == "prior":
        prior.mean += 0.2
        prior.at = lambda sigma: prior
    elif what == "damaged":
        next(tmp_path.glob("*.safetensors")).write_bytes(b"broken")
    else:
        given["checkpoint"] = str(next(tmp_path.glob("*.json")))
    with pytest.raises((InputError, UsageError), match="another run|damaged|is a file") as caught:
        innverse.solve(y, operator, prior, **given)
    assert "\n" not in str(caught.value)


def test_more_draws_than_asked_are_noted():
    operator, y, _ = measured()
    found = innverse.solve(y, operator, Levels(), **(FEW | {"draws": 25}))
    assert len(found.samples) == 27 and "draws=25 was rounded up to 27" in found.notes[0][-1]
    assert not innverse.solve(y, operator, Levels(), **FEW).notes[0]


def test_one_level_is_sampled():
    operator, y, _ = measured()
    with pytest.raises(UsageError, match="sigma"):
        innverse.solve(y, operator, Levels(), **(FEW | {"sigma": [0.3, 0.1]}))


def test_a_folder_that_cannot_be_is_said_at_once(tmp_path):
    operator, y, _ = measured()
    (tmp_path / "file").touch()
    calls = []
    with pytest.raises(innverse.errors.InnverseError, match="cannot write"):
        innverse.solve(y, operator, Levels(), checkpoint=str(tmp_path / "file" / "in"),
                       progress=lambda *a: calls.append(a), **FEW)  # fmt: skip
    assert not calls


def test_items_adapt_on_their_own():
    operator, y, _ = measured()
    both = torch.cat((y, 3 * y))  # the second lies far from where the prior expects it
    together = innverse.solve(both, operator, Levels(), **FEW)
    steps = torch.tensor([row["steps"] for row in together.trace])
    assert (steps[:, 0] != steps[:, 1]).any()
    for i in (0, 1):
        alone = innverse.solve(both[i : i + 1], operator, Levels(), **FEW)
        assert torch.allclose(together.samples[:, i], alone.samples[:, 0], atol=1e-8)


def test_an_operator_without_adjoint_is_one_line():
    def by_numpy(x):
        return torch.from_numpy(x.detach().numpy()[..., ::2, :].copy())

    y = torch.rand(1, 1, 2, 4)
    with pytest.raises(UsageError, match="give its adjoint too") as caught:
        innverse.solve(y, by_numpy, Levels(), image_shape=SHAPE, **FEW)
    assert "\n" not in str(caught.value)


def test_thinned_draws_are_those_of_the_longer_run():
    operator, y, _ = measured()
    every = innverse.solve(y, operator, Levels(), **FEW)
    third = innverse.solve(y, operator, Levels(), **(FEW | {"draws": 12, "thin": 2}))
    by_chain = every.samples.unflatten(0, (3, 8))
    assert torch.equal(third.samples.unflatten(0, (3, 4)), by_chain[:, 1::2])


def test_draws_that_do_not_fit_in_memory_are_refused_at_once(monkeypatch):
    monkeypatch.setattr("innverse.solvers.posterior.memory.free_memory", lambda device: 10**6)
    operator, y, _ = measured()
    with pytest.raises(InputError, match=r"\d draws .* of memory, .* are free") as caught:
        innverse.solve(y, operator, Levels(), **(FEW | {"draws": 100_000}))
    assert "\n" not in str(caught.value)
    from innverse.solvers.posterior import memory

    monkeypatch.undo()
    free = memory.free_memory(torch.device("cpu"))
    assert free is None or free > 2**20


class Broken(Levels):
    """A density that is nowhere smooth: what is no start is NaN."""

    noise_range = None

    def at(self, sigma):
        return self

    def log_prob(self, x):
        value = super().log_prob(x)
        return torch.where(value > value.detach().mean() + 1e9, value, torch.nan * value)


def test_chains_that_diverge_are_said_to_have_failed():
    operator, y, _ = measured()
    start = torch.full((1, *SHAPE), 0.4, dtype=torch.float64)
    found = innverse.solve(y, operator, Broken(), **(FEW | {"init": start}))
    assert not found.converged.any()
    assert found.status[0].startswith("failed: every trajectory diverged")
    assert "\n" not in found.status[0] and (found.diagnostics["divergences"] == 24).all()


def chains(shift: float = 0.0, stuck: bool = False):
    g = torch.Generator().manual_seed(0)
    draws, log_p = torch.randn(4, 100, 1, 8, 8, generator=g), torch.randn(4, 100, generator=g)
    draws[2] += shift
    log_p[2] -= 10 * shift
    accepted = torch.full((4,), 0.8)
    if stuck:
        draws[2], accepted[2] = draws[2, 0], 0.0
    return draws, log_p, accepted, torch.zeros(4)


def test_bad_chains_are_named_with_how_far_off_they_are():
    good = judge_chains(*chains())
    assert good.status == "converged" and not good.bad_chains
    apart = judge_chains(*chains(shift=2.0))
    assert apart.status.startswith("not converged: chain 2 of 4 stands apart")
    assert "is 2 standard deviations off" in apart.bad_chains[0]
    assert "-20" in apart.bad_chains[0].split("log-density")[1]
    stuck = judge_chains(*chains(stuck=True))
    assert stuck.status.startswith("not converged: chain 2 of 4 never moved")
    draws, *rest = chains()
    draws += torch.arange(4.0).view(-1, 1, 1, 1, 1)  # all differ: none is to blame
    everyone = judge_chains(draws, *rest)
    assert everyone.status.startswith("not converged: the chains disagree")
    assert not everyone.bad_chains


def test_progress_says_acceptance_and_r_hat():
    operator, y, _ = measured()
    said = []
    innverse.solve(y, operator, Levels(), progress=lambda *a: said.append(a), **FEW)
    assert "warm-up, acceptance" in said[0][2] and "R-hat" in said[-1][2]
    assert said[-1][0] == said[-1][1] == 6 + 8


def test_r_hat_on_the_way_costs_little(monkeypatch):
    # all draws were once ranked anew at every transition
    operator, y, _ = measured()
    module, judged = importlib.import_module("innverse.solvers.posterior.solve"), []
    r_hat = module.r_hat
    monkeypatch.setattr(
        module, "r_hat", lambda draws: judged.append(draws.shape[1]) or r_hat(draws)
    )
    innverse.solve(y, operator, Levels(), **(FEW | {"draws": 300}))
    assert judged[0] == 4
    assert sum(judged) < 10 * 100  # draws that were ranked; of each chain 100 were drawn


def bent(x):
    """A detector that saturates."""
    return torch.tanh(2 * x[..., :2, :])


@pytest.mark.parametrize("noise", [0.1, torch.linspace(0.05, 0.2, 8).view(1, 1, 2, 4).double()])
def test_an_operator_that_is_not_linear_is_sampled_by_its_own_likelihood(noise):
    g, prior = torch.Generator().manual_seed(1), Levels()
    x = prior.decode(torch.randn(1, *SHAPE, generator=g).double())
    operator = physics.Nonlinear(bent, SHAPE, noise=noise)
    y = operator(x, g)
    found = innverse.solve(y, operator, prior, method="posterior", sigma=0.1,
                           draws=1000, chains=20, warmup=40)  # fmt: skip
    u = found.samples.flatten(0, 1).requires_grad_()
    misfit = ((bent(u) - y) / noise).square().flatten(1).sum(1)
    (score,) = torch.autograd.grad((prior.at(0.1).log_prob(u) - 0.5 * misfit).sum(), u)
    score, u, size = score.flatten(1), u.detach().flatten(1), found.diagnostics["ess_bulk"].min()
    # of any posterior: E[score] = 0, and E[(u - mean) score] = -1 for each pixel
    assert ((score.mean(0) / score.std(0) * size.sqrt()).abs() < 5).all()
    product = (u - u.mean(0)) * score
    assert (((product.mean(0) + 1) / product.std(0) * size.sqrt()).abs() < 5).all()


def test_methods_that_need_adjoints_refuse_an_operator_that_is_not_linear():
    operator = physics.Nonlinear(bent, SHAPE, noise=0.1)
    y = operator.A(torch.rand(1, *SHAPE))
    with pytest.raises(
        UsageError, match="needs a linear operator: latent, map, posterior, .* take"
    ):
        innverse.solve(y, operator, Levels(), method="pnp")


def test_chains_in_latent_space_stay_in_the_precision_of_the_measurement():
    """Operators of others may know no double precision."""

    class Round:
        shape = latent_shape = (1, 4, 4)

        def log_prob(self, x):
            return -0.5 * ((x - 0.5) / 0.3).square().flatten(1).sum(1)

        def decode(self, z):
            return 0.5 + 0.3 * z

        def encode(self, x):
            return (x - 0.5) / 0.3

        def sample(self, n):
            return self.decode(torch.randn(n, *self.shape))

    kinds = set()

    def single(v):
        kinds.add(v.dtype)
        return v

    physics = innverse.physics.as_physics((single, single), Round.shape, 0.3)
    y, few = torch.rand(1, *Round.shape), {"draws": 8, "chains": 2, "warmup": 4, "steps": 1}
    found = innverse.solve(y, physics, Round(), "posterior", space="latent", **few)
    assert found.diagnostics["space"] == "latent" and kinds == {torch.float32}
