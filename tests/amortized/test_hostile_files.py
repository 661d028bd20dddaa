"""Folders of posteriors that are damaged or hostile: InputError, one line, at once."""

from __future__ import annotations

import hashlib
import json
import os
import signal

import pytest
import torch
from safetensors.torch import load as read_tensors
from safetensors.torch import save as tensor_bytes

from innverse import amortized
from innverse.amortized import BidirectionalPosterior, Posterior
from innverse.errors import InputError, NotConvergedError


@pytest.fixture(autouse=True)
def _no_waiting():
    signal.alarm(60)
    yield
    signal.alarm(0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    torch.manual_seed(0)
    theta = torch.rand(200, 2)
    x = theta + 0.1 * torch.randn(200, 2)
    folder = tmp_path_factory.mktemp("posterior")
    posterior = amortized.fit(
        theta, x, bounds=(0.0, 1.0), max_epochs=1, progress=False,
        size={"layers": 1, "width": 8, "depth": 1, "bins": 4},
    )  # fmt: skip
    posterior.save(folder)
    return posterior, {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def folder(whole, tmp_path):
    for name, data in whole[1].items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def edit(*keys, value):
    def mutate(folder):
        config = json.loads((folder / "config.json").read_text())
        place = config
        for key in keys[:-1]:
            place = place[key]
        place[keys[-1]] = value
        (folder / "config.json").write_text(json.dumps(config))

    return mutate


def tensors(change):
    def mutate(folder):
        found = read_tensors((folder / "model.safetensors").read_bytes())
        data = tensor_bytes(change(found) or found)
        (folder / "model.safetensors").write_bytes(data)
        edit("sha256", value=hashlib.sha256(data).hexdigest())(folder)

    return mutate


def replace(name, make):
    def mutate(folder):
        (folder / name).unlink()
        make(folder / name)

    return mutate


def fill(found):
    next(t for t in found.values() if t.dim() == 2 and t.dtype == torch.float32).fill_(torch.nan)


@pytest.mark.parametrize(
    "mutate",
    [
        edit("format", value="innverse-flow"), edit("format", value=[]),
        edit("format_version", value=99), edit("names", value=3), edit("names", value=["a"]),
        edit("names", value=["a", 3]), edit("names", value=["a"] * 10**6),
        edit("x_shape", value=[10**9]), edit("x_shape", value=["2"]), edit("x_shape", value=[-1]),
        edit("x_shape", value=[3]), edit("x_shape", value=7), edit("config", value=[]),
        edit("config", value={}), edit("config", "size", value=None),
        edit("config", "size", "width", value=10**9), edit("config", "size", "width", value="8"),
        edit("config", "size", "layers", value=10**7), edit("config", "density", value="none"),
        edit("config", "density", value=["nsf"]), edit("config", "summary", value=7),
        edit("history", value=3), edit("history", value={"colour": 1}),
        edit("history", "held_out", value="low"), edit("history", "held_out", value=["low"]),
        edit("history", "steps", value="many"), edit("n_simulations", value="many"),
        edit("default_x", value="here"), edit("default_x", value=[1.0]), edit("sha256", value=1),
        tensors(fill), tensors(lambda found: found | {"more": torch.zeros(1)}),
        tensors(lambda found: {k: found[k] for k in list(found)[1:]}),
        tensors(lambda found: {k: t.half() if t.is_floating_point() else t
                               for k, t in found.items()}),
        replace("config.json", os.mkfifo), replace("model.safetensors", os.mkfifo),
        replace("model.safetensors", os.mkdir), replace("config.json", lambda path: None),
        replace("config.json", lambda path: path.write_text("[" * 100_000)),
        replace("config.json", lambda path: path.symlink_to("/dev/zero")),
    ],
)  # fmt: skip
def test_refused_in_one_line(folder, mutate):
    mutate(folder)
    for kind in (Posterior, BidirectionalPosterior):
        with pytest.raises(InputError) as error:
            kind.load(folder)
        assert "\n" not in str(error.value) and len(str(error.value)) < 600


def test_no_digit_is_lost_on_the_way(whole, folder):
    posterior, again = whole[0], Posterior.load(folder)
    assert again.history == posterior.history
    mine, other = posterior._modules().state_dict(), again._modules().state_dict()
    assert all(torch.equal(mine[k], other[k]) and mine[k].dtype == other[k].dtype for k in mine)


def test_a_training_that_never_was_finite_is_no_posterior():
    torch.manual_seed(0)
    theta, x = torch.rand(100, 1), torch.rand(100, 1)
    with pytest.raises(NotConvergedError, match="diverged"):
        amortized.fit(theta, x, lr=1e30, max_epochs=2, progress=False)
