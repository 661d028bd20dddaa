"""`innverse.fit`: what it learns, takes, refuses, and leaves as it was."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import innverse
from innverse import flows
from innverse.errors import InputError, ShapeError, UsageError

QUICK = {"max_epochs": 3, "progress": False}


def gaussian(n: int = 2000):
    """Correlated normal rows, and the mean of -log p under their own density."""
    g = torch.Generator().manual_seed(1)
    root = torch.tensor([[2.0, 0.0], [1.5, 0.5]])
    x = torch.randn(n, 2, generator=g) @ root.T + torch.tensor([3.0, -1.0])
    entropy = math.log(2 * math.pi * math.e) + root.det().abs().log().item()
    return x, entropy


def small(**options):
    torch.manual_seed(0)
    return flows.build("realnvp", (2,), layers=2, width=16, depth=1, **options)


def test_it_reaches_the_entropy_of_a_gaussian():
    x, entropy = gaussian()
    flow = small()
    history = innverse.fit(flow, x, lr=5e-3, batch_size=128, max_epochs=25, progress=False)
    fresh, _ = gaussian(6000)
    nll = -flow.log_prob(fresh[2000:]).mean().item()
    assert abs(nll - entropy) < 0.05
    assert history.best == min(history.held_out) and not flow.training
    assert len(history.training) == len(history.held_out) == history.epochs


def test_the_method_of_a_flow_is_the_same_training():
    x, _ = gaussian(300)
    one, other = small(), small()
    assert one.fit(x, **QUICK).held_out == innverse.fit(other, x, **QUICK).held_out
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


class Frame:
    """As much of a DataFrame as fit asks for."""

    def __init__(self, x, columns=("a", "b")):
        self.x, self.columns = np.asarray(x), list(columns)

    def __getitem__(self, name):
        return self.x[:, self.columns.index(name)]

    def to_numpy(self, dtype=None):
        return self.x.astype(dtype)


@pytest.mark.parametrize("kind", [np.asarray, Frame, torch.Tensor.double, torch.Tensor.tolist])
def test_arrays_frames_and_lists_are_tensors(kind):
    x, _ = gaussian(300)
    want = small().fit(x, **QUICK).held_out
    assert small().fit(kind(x), **QUICK).held_out == pytest.approx(want, rel=1e-4)


def test_loaders_of_data_and_pairs():
    x, entropy = gaussian()
    loader = DataLoader(TensorDataset(x[:1600]), 50, shuffle=True)
    history = small().fit(loader, held_out=x[1600:], lr=5e-3, max_epochs=20, progress=False)
    assert abs(history.best - entropy) < 0.2 and history.steps == 32 * history.epochs
    pairs = DataLoader(TensorDataset(x, x[:, :1]), 100)
    conditional = small(condition=1).fit(pairs, **QUICK)
    assert math.isfinite(conditional.best)
    with pytest.raises(UsageError, match="leave c out"):
        small().fit(loader, x)
    with pytest.raises(InputError, match="must know its length"):
        small().fit(iter([x]))


def test_a_condition_tells_what_it_knows():
    x, _ = gaussian()
    options = {"lr": 5e-3, "batch_size": 128, "max_epochs": 12, "progress": False}
    alone = small().fit(x, **options).best
    known = small(condition=2).fit(x, x + 0.1 * torch.randn_like(x), **options)
    assert known.best < alone - 1


@pytest.mark.parametrize("name", ["realnvp", "maf", "matching"])
def test_units_of_data_and_condition_make_no_difference(name):
    x, _ = gaussian(600)
    c = x @ torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, -1.0]])
    units, origin = torch.tensor([1e6, 1e-6, 1.0]).double(), torch.tensor([1e9, 0, -5e3]).double()
    options = {"width": 16} if name != "matching" else {"hidden": 16, "evaluations": 8}

    def learned(x, c):
        torch.manual_seed(0)
        flow = flows.build(name, (2,), condition=3, **options)
        return flow, flow.fit(x, c, **QUICK).best

    flow, plain = learned(x, c)
    other, scaled = learned(x.double() * 1e-8 + 3e2, c * units + origin)
    shift = 0.0 if name == "matching" else 2 * math.log(1e-8)  # its loss is no likelihood
    assert scaled == pytest.approx(plain + shift, abs=2e-3)
    # raw x and c give the density in their units, now and from the file
    want = flow.log_prob(x[:20], c[:20]).double() - 2 * math.log(1e-8)
    given = x[:20].double() * 1e-8 + 3e2, c[:20] * units + origin
    assert torch.allclose(other.log_prob(*given).double(), want, atol=0.05)
    draws = other.double().sample(200, given[1][0])
    assert (draws - given[0][0]).abs().max() < 1e-6


def test_scales_of_the_condition_are_saved(tmp_path):
    x, _ = gaussian(300)
    flow = small(condition=1)
    flow.fit(x, 1e6 * x[:, :1] + 1e7, **QUICK)
    flow.save_pretrained(tmp_path)
    c = 1e6 * x[:9, :1] + 1e7
    assert torch.equal(innverse.load(tmp_path).log_prob(x[:9], c), flow.log_prob(x[:9], c))


def test_bytes_are_images_and_noise_levels_are_drawn():
    torch.manual_seed(0)
    images = torch.randint(0, 256, (120, 1, 4, 4), dtype=torch.uint8)
    options = {"levels": 1, "steps": 1, "hidden": 8}
    plain = flows.build("glow", (1, 4, 4), **options)
    best = plain.fit(images, max_epochs=20, progress=False).best
    assert -0.5 < best < 2.9  # uniform on [0, 1]^16: entropy 0, a normal is 2.8 above
    noisy = flows.build("glow", (1, 4, 4), noise=(0.05, 0.5), **options)
    assert math.isfinite(noisy.fit(images / 255, **QUICK).best)


def test_float64_and_bf16():
    x, _ = gaussian(300)
    flow = small().double()
    assert math.isfinite(flow.fit(x, **QUICK).best)
    assert flow.log_prob(x.double()).dtype == torch.float64
    assert math.isfinite(small().fit(x, precision="bf16", **QUICK).best)


def test_interrupted_it_ends_where_it_would_have(tmp_path, monkeypatch):
    from innverse.fitting import training

    x, _ = gaussian(300)
    whole = small()
    want = whole.fit(x, max_epochs=8, progress=False)

    def stop_after(n):
        step = training.Training.step

        def limited(self):
            step(self)
            if self.history.steps == n:
                raise RuntimeError("killed")

        return limited

    flow = small()
    with monkeypatch.context() as m:
        m.setattr(training, "_SAVE_EVERY", 0.0)
        m.setattr(training.Training, "step", stop_after(21))
        with pytest.raises(RuntimeError, match="killed"):
            flow.fit(x, max_epochs=8, progress=False, checkpoint=tmp_path)
    again = small()
    history = again.fit(x, max_epochs=8, progress=False, checkpoint=tmp_path)
    assert history.held_out == want.held_out and history.training == want.training
    for a, b in zip(again.parameters(), whole.parameters(), strict=True):
        assert torch.equal(a, b)
    # a finished training can be lengthened, and needs no repetition otherwise
    assert small().fit(x, max_epochs=8, progress=False, checkpoint=tmp_path) == history
    longer = small().fit(x, max_epochs=14, progress=False, checkpoint=tmp_path)
    assert longer.epochs > 8 and longer.held_out[:8] == history.held_out
    with pytest.raises(InputError, match="lr = 0.001"):
        small().fit(x, lr=1e-2, max_epochs=8, progress=False, checkpoint=tmp_path)


def test_the_process_of_the_caller_stays_as_it_was():
    x, _ = gaussian(300)
    torch.manual_seed(5)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    small_number = torch.tensor([torch.finfo(torch.float64).tiny], dtype=torch.float64)
    flow = small()
    torch.set_rng_state(state)
    flow.fit(x, **QUICK)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert (small_number / 2).item() != 0


def test_generators_with_a_loss_of_their_own():
    from innverse import generators

    torch.manual_seed(0)
    images = torch.rand(80, 1, 8, 8)
    vae = generators.build("vae", (1, 8, 8), latent=2, width=8)
    history = innverse.fit(vae, images, max_epochs=4, progress=False)
    assert history.held_out[-1] < history.held_out[0]
    with pytest.raises(UsageError, match="neither a density nor a loss"):
        innverse.fit(generators.build("gan", (1, 8, 8), latent=2, width=8), images)


@pytest.mark.parametrize(
    ("x", "options", "error", "words"),
    [
        (torch.randn(50, 3), {}, ShapeError, r"\(N, 2\)"),
        (torch.full((50, 2), math.nan), {}, InputError, "50 of 50 rows"),
        (Frame([[0.0, math.inf]] * 9), {}, InputError, "column 'b'"),
        (Frame(np.array([["u", "v"]] * 9, dtype=object)), {}, InputError, "'a' of x holds no"),
        (torch.empty(0, 2), {}, InputError, "empty"),
        ("words", {}, InputError, "array of numbers"),
        (torch.randn(50, 2, dtype=torch.complex64), {}, InputError, "complex"),
        (torch.randn(50, 2), {"held_out": 1.5}, UsageError, "held_out"),
        (torch.randn(50, 2), {"held_out": 50}, UsageError, "none would be left"),
        (torch.randn(50, 2), {"c": torch.randn(49, 1)}, ShapeError, "49"),
        (torch.randn(50, 2), {"device": "tpu"}, UsageError, "unknown device"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(x, options, error, words):
    with pytest.raises(error, match=words) as caught:
        small().fit(x, progress=False, **options)
    assert "\n" not in str(caught.value)
