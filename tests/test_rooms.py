"""Rooms know only those below them, names are loaded at first use, and a prior inherits nothing."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import innverse
from innverse import physics, solve
from innverse.protocols import Density, Encoder, Generator, NoiseConditional, Physics

SOURCE = Path(innverse.__file__).parent
LAZY = ["", ".bijections", ".data", ".flows", ".nets", ".physics", ".train"]


@pytest.mark.parametrize("package", LAZY)
def test_lazy_names_are_there_and_none_is_hidden_by_a_module(package):
    module = importlib.import_module(f"innverse{package}")
    for name in module.__all__:
        assert getattr(module, name) is not None and name in dir(module)
    files = {path.stem for path in Path(module.__file__).parent.glob("*.py")}
    rooms = {"protocols", "tabular", "toys"}  # modules that are public themselves
    assert (files & set(module.__all__)) <= rooms
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        module.nothing  # noqa: B018


def test_models_know_no_flow_and_no_generator():
    for path in (SOURCE / "models").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert (node.module or "").split(".")[0] not in ("flows", "generators", "zoo"), path


def test_solvers_load_neither_builders_nor_training():
    code = "import sys, innverse.solvers; print(*(m for m in sys.modules if 'innverse' in m))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    above = ("flows.flow", "flows.glow", "fitting", "train", "generators", "models.store", "zoo")
    assert not loaded & {f"innverse.{name}" for name in above}


class Pixels:
    """p(x) = N(x; mean, 0.1^2 I), as somebody else would write it."""

    shape = latent_shape = (1, 4, 4)

    def __init__(self):
        self.mean = torch.linspace(0.2, 0.8, 16).view(1, 4, 4)

    def decode(self, z):
        return self.mean + 0.1 * z

    def encode(self, x):
        return (x - self.mean) / 0.1

    def log_prob(self, x):
        return -0.5 * self.encode(x).square().flatten(1).sum(1)


@pytest.mark.parametrize("method", ["map", "latent"])
def test_a_prior_of_ones_own_gives_the_posterior_mode(method):
    """For two normals the mode is the mean weighted by precision."""
    prior = Pixels()
    assert all(isinstance(prior, kind) for kind in (Generator, Encoder, Density))
    assert not isinstance(prior, NoiseConditional)
    assert isinstance(physics.Denoising(), Physics)
    y = prior.mean + 0.05 * torch.randn(2, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    options = {"gamma": 0.05**2, "penalty": "square"} if method == "latent" else {}
    found = solve(y, physics.Denoising(), prior, method, noise=0.05, **options).x
    mode = (y / 0.05**2 + prior.mean / 0.1**2) / (1 / 0.05**2 + 1 / 0.1**2)
    torch.testing.assert_close(found, mode, rtol=0, atol=2e-3)
