"""`innverse.fit`: what it learns, takes, refuses, and leaves as it was."""

from __future__ import annotations

import math
import random
import signal

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

import innverse
from innverse import amortized, flows
from innverse.errors import InputError, ShapeError, UsageError
from innverse.fitting import training as training_module
from innverse.train import load_config, train

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


def test_without_an_average_the_weights_of_now_are_judged():
    x, _ = gaussian(300)
    history = small().fit(x, lr=5e-3, average=0, max_epochs=6, progress=False)
    assert history.held_out[-1] < history.held_out[0]


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


def pandas_frame(x):
    return pytest.importorskip("pandas").DataFrame(np.asarray(x), columns=["a", "b"])


KINDS = [np.asarray, Frame, pandas_frame, torch.Tensor.double, torch.Tensor.tolist]


@pytest.mark.parametrize("kind", KINDS)
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


@pytest.mark.parametrize("name", ["realnvp", "maf", "flow_matching"])
def test_units_of_data_and_condition_make_no_difference(name):
    x, _ = gaussian(600)
    c = x @ torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, -1.0]])
    units, origin = torch.tensor([1e6, 1e-6, 1.0]).double(), torch.tensor([1e9, 0, -5e3]).double()
    options = {"width": 16} if name != "flow_matching" else {"hidden": 16, "evaluations": 8}

    def learned(x, c):
        torch.manual_seed(0)
        flow = flows.build(name, (2,), condition=3, **options)
        return flow, flow.fit(x, c, **QUICK).best

    flow, plain = learned(x, c)
    other, scaled = learned(x.double() * 1e-8 + 3e2, c * units + origin)
    shift = 0.0 if name == "flow_matching" else 2 * math.log(1e-8)  # its loss is no likelihood
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


def stopped_after(n: int, error=RuntimeError):
    """`Training.step`, with an ``error`` after the n-th."""
    step = training_module.Training.step

    def limited(self):
        step(self)
        if self.history.steps == n:
            raise error("stopped")

    return limited


@pytest.mark.parametrize("loaded", [False, True])
def test_interrupted_it_ends_where_it_would_have(loaded, tmp_path, monkeypatch):
    x, _ = gaussian(300)
    more = {"progress": False}
    if loaded:
        more["held_out"], x = x[:30], DataLoader(TensorDataset(x[30:]), 32, shuffle=True)
    whole = small()
    want = whole.fit(x, max_epochs=8, **more)

    flow = small()
    with monkeypatch.context() as m:
        m.setattr(training_module, "_SAVE_EVERY", 0.0)
        m.setattr(training_module.Training, "step", stopped_after(21))
        with pytest.raises(RuntimeError, match="stopped"):
            flow.fit(x, max_epochs=8, checkpoint=tmp_path, **more)
    again = small()
    history = again.fit(x, max_epochs=8, checkpoint=tmp_path, **more)
    assert history.held_out == want.held_out and history.training == want.training
    for a, b in zip(again.parameters(), whole.parameters(), strict=True):
        assert torch.equal(a, b)
    # a finished training can be lengthened, and needs no repetition otherwise
    assert small().fit(x, max_epochs=8, checkpoint=tmp_path, **more) == history
    longer = small().fit(x, max_epochs=14, checkpoint=tmp_path, **more)
    assert longer.epochs > 8 and longer.held_out[:8] == history.held_out
    with pytest.raises(InputError, match="lr = 0.001"):
        small().fit(x, lr=1e-2, max_epochs=8, checkpoint=tmp_path, **more)


def test_interrupted_without_a_folder_the_best_is_kept(monkeypatch):
    x, _ = gaussian(300)
    judges, flow = x[:100], small()
    monkeypatch.setattr(training_module.Training, "step", stopped_after(40, KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        flow.fit(x[100:], held_out=judges, lr=5e-3, progress=False)
    monkeypatch.undo()
    same = small().fit(x[100:], held_out=judges, lr=5e-3, max_epochs=1000 // 40, progress=False)
    best = min(same.held_out[: 40 // (200 // 32)])  # the learning rate is the same so far
    assert -flow.log_prob(judges).mean().item() == pytest.approx(best, abs=1e-4)
    assert not flow.training


def test_minutes_are_a_budget_that_may_grow(tmp_path, monkeypatch):
    x, _ = gaussian(300)
    clock = iter(range(10**9))  # every look at the clock takes a second
    monkeypatch.setattr(training_module.time, "perf_counter", lambda: float(next(clock)))
    options = {"patience": 10**6, "progress": False, "checkpoint": tmp_path}
    history = small().fit(x, minutes=1, **options)
    assert history.ended == "time is up" and 60 <= history.seconds < 70
    longer = small().fit(x, minutes=2, **options)
    assert 120 <= longer.seconds < 130 and longer.held_out[: history.epochs] == history.held_out


def process() -> tuple:
    """Whatever of this process a training might change."""
    tiny = torch.tensor([torch.finfo(torch.float64).tiny], dtype=torch.float64)
    of_numpy = np.random.get_state()  # noqa: NPY002
    return (
        torch.get_rng_state().tolist(),
        of_numpy[1].tolist(),
        random.getstate(),
        torch.get_num_threads(),
        (tiny / 2).item(),
        torch.get_default_dtype(),
        signal.getsignal(signal.SIGINT),
    )


FLOW = flows.build("realnvp", (2,), layers=1, width=8)


def fitted(tmp_path):
    FLOW.fit(gaussian(300)[0], checkpoint=tmp_path, **QUICK)


def amortised(tmp_path):
    theta, _ = gaussian(300)
    amortized.fit(theta, theta + 0.1, size={"width": 8, "layers": 1}, **QUICK)


def amortised_both_ways(tmp_path):
    theta, _ = gaussian(300)
    amortized.fit_bidirectional(theta, theta + 0.1, layers=1, width=8, **QUICK)


def images(tmp_path):
    np.save(
        tmp_path / "images.npy", np.random.default_rng(0).integers(0, 255, (20, 8, 8), np.uint8)
    )
    settings = {"data.path": str(tmp_path / "images.npy"), "train.steps": 2, "train.batch_size": 4}
    settings |= {"model.levels": 1, "model.steps": 1, "model.hidden": 8, "train.threads": 2}
    train(load_config(None, settings), tmp_path / "run", quiet=True, device="cpu")


def table(tmp_path):
    np.save(tmp_path / "table.npy", gaussian(100)[0].numpy())
    settings = {"data.path": str(tmp_path / "table.npy"), "train.steps": 2, "train.threads": 2}
    settings |= {"model.layers": 1, "model.width": 8}
    train(load_config(None, settings), tmp_path / "run", quiet=True, device="cpu")


@pytest.mark.parametrize("training", [fitted, amortised, amortised_both_ways, images, table])
def test_the_process_of_the_caller_stays_as_it_was(training, tmp_path, monkeypatch):
    def kept(*_):
        raise AssertionError("the allocator belongs to the command line")

    monkeypatch.setattr("innverse.train.allocator.keep_buffers", kept)
    torch.manual_seed(5)
    before = process()
    training(tmp_path)
    assert process() == before


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
        (torch.randn(50, 2), {"seed": 1.5}, UsageError, "seed=1.5: give a whole number"),
        (torch.randn(50, 2), {"held_out": 50}, UsageError, "none would be left"),
        (torch.randn(50, 2), {"c": torch.randn(49, 1)}, ShapeError, "49"),
        (torch.randn(50, 2), {"device": "tpu"}, UsageError, "unknown device"),
    ],
)
def test_what_cannot_be_used_is_said_in_one_line(x, options, error, words):
    with pytest.raises(error, match=words) as caught:
        small().fit(x, progress=False, **options)
    assert "\n" not in str(caught.value)


def test_it_trains_where_the_caller_needs_no_gradient():
    x, _ = gaussian(300)
    want = small().fit(x, **QUICK).held_out
    with torch.no_grad():
        assert small().fit(x, **QUICK).held_out == want


def test_whole_numbers_of_numpy_are_whole_numbers():
    few = np.int64(5)
    options = {"held_out": few, "batch_size": few, "patience": few, "seed": few, "max_epochs": few}
    done = small().fit(torch.randn(50, 2), progress=False, **options)
    assert len(done.held_out) <= 5
