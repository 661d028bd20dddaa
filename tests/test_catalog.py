"""Operators and methods are declared once: a new one is a class under a name, and known everywhere."""

from __future__ import annotations

import importlib.util
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch

import innverse
from innverse import physics, solvers
from innverse.catalog import METHODS, OPERATORS, Method, Operator
from innverse.cli import main
from innverse.errors import UsageError
from innverse.options import (
    Choice,
    OptionError,
    Options,
    anything,
    array,
    choice,
    real,
    switch,
    whole,
)
from innverse.solvers import Reconstruction
from innverse.solvers.starts import STARTS

DOCS = Path(__file__).parents[1] / "docs"
EVERY = [(c, name) for c in (OPERATORS, METHODS) for name in c]
TITLES = [name for _, name in EVERY]


class Fading(physics.LinearPhysics):
    """y = strength * x."""

    measures_images = acts_per_channel = True

    def __init__(self, strength, image_shape):
        super().__init__(image_shape)
        self.strength = strength

    def A(self, x):
        return self.strength * x

    def A_adjoint(self, y):
        return self.strength * y


class NamedFading(Operator):
    """Pictures that have faded."""

    operator = Fading

    fading: float = real(0.5, "How much light is left.", above=0, high=1)

    def build(self, shape):
        return Fading(self.fading, shape)


class Gradient(Method):
    """Gradient descent: min over x of ||A x - y||^2."""

    needs = "nothing"
    uses_prior = False

    strides: int = whole(40, "How often it steps.")

    def solve(self, problem, prior):
        x = torch.zeros_like(problem.physics.A_adjoint(problem.y))
        size = 1 / problem.physics.norm_squared(x.shape)
        for _ in range(self.strides):
            x = x - size * problem.physics.A_adjoint(problem.physics.A(x) - problem.y)
        return Reconstruction.of(problem, x, "gradient")


@pytest.fixture
def toys():
    OPERATORS.register("fading", NamedFading)
    METHODS.register("gradient", Gradient)
    yield
    OPERATORS.unregister("fading")
    METHODS.unregister("gradient")


def test_a_new_operator_and_a_new_method_are_known_everywhere(toys, tmp_path, capsys, monkeypatch):
    assert "fading" in physics.names() and physics.options("fading")["fading"] == 0.5
    assert physics.build("fading", (1, 8, 8), fading="1/4").strength == 0.25
    assert solvers.options("gradient") == {"strides": 40}
    x = torch.rand(1, 1, 8, 8)
    solved = innverse.solve(
        0.25 * x, physics.build("fading", (1, 8, 8), fading=0.25), None, "gradient"
    )
    torch.testing.assert_close(solved.x, x, atol=1e-4, rtol=0)
    assert main(["solve", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "--fading" in text and "How much light is left (fading). [default: 0.5]" in text
    assert "--strides" in text and "gradient: Gradient descent" in text
    monkeypatch.chdir(tmp_path)
    picture = np.random.default_rng(0).integers(0, 255, (12, 12), np.uint8)
    PIL.Image.fromarray(picture // 2).save("faded.png")
    argv = ["solve", "faded.png", "--physics", "fading", "--method", "gradient", "--out", "r"]
    assert main([*argv, "--strides", "30", "--quiet"]) == 0
    found = np.asarray(PIL.Image.open("r/result.png")).astype(int)
    assert np.abs(found - 2 * (picture // 2).astype(int)).max() <= 1
    record = json.loads(Path("r/result.json").read_text())
    assert record["physics"] == {"name": "fading", "fading": 0.5, "noise": None}
    assert record["method"] == "gradient" and record["options"] == {"strides": 30}
    assert main([*argv, "--fading", "2"]) == 2 and "--fading=2" in capsys.readouterr().err
    assert main([*argv, "--strides", "0"]) == 2 and "--strides=" in capsys.readouterr().err


def test_help_and_names_need_no_torch():
    code = (
        "import sys; from innverse.cli import main; main(['solve', '--help']); "
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    flags = set(re.findall(r"--([a-z-]+)", done.stdout))
    for catalog in (OPERATORS, METHODS):
        for name in catalog:
            wanted = {k.replace("_", "-") for k, o in catalog[name].declared.items() if o.flag}
            assert wanted <= flags, name


@pytest.mark.parametrize(("catalog", "name"), EVERY, ids=TITLES)
def test_what_is_read_of_a_file_is_what_runs(catalog, name):
    read, real_ = catalog.declared(name), catalog[name]
    assert read is not real_  # it was not imported for the purpose
    assert read.declared == real_.declared and read.summary() == real_.summary()


@pytest.mark.parametrize(("catalog", "name"), EVERY, ids=TITLES)
def test_declarations_are_complete(catalog, name):
    kind = catalog[name]
    assert kind.summary()
    for key, option in kind.declared.items():
        assert option.help.endswith(".") and "\n" not in option.help
        if option.default is not None:
            assert option.check(option.default) == option.default
            if isinstance(option.default, (int, float)):  # as the command line has it
                text = str(option.default).lower()
                assert getattr(kind(**{key: text}), key) == option.default
        else:
            assert option.auto or not option.flag or key == "mask"
        for other in option.excludes:
            assert other in kind.declared


@pytest.mark.parametrize("name", OPERATORS)
def test_options_of_operators_reach_them(name):
    defaults = OPERATORS[name]()
    given = {k: v for k, v in physics.options(name).items() if v is not None}
    shape = (3 if name == "grayscale" else 1, 16, 16)
    a, b = physics.build(name, shape), physics.build(name, shape, **given)
    x = torch.rand(1, *shape)
    assert torch.equal(a.A(x), b.A(x))
    measured = tuple(defaults.build(shape).A(x).shape[1:])
    if a.measures_images:
        assert defaults.image_shape(measured) == shape


def test_no_option_of_a_method_is_one_of_an_operator():
    """`solve` and `restore` take both at once; "seed" is that of everything random."""
    of_operators = {name for kind in OPERATORS for name in OPERATORS.declared(kind).declared}
    of_methods = {name for kind in METHODS for name in METHODS.declared(kind).declared}
    assert of_operators & of_methods == {"seed"}


def test_words_of_options_are_those_that_the_code_knows():
    from innverse.physics.convolution import BOUNDARIES
    from innverse.solvers.baselines import BASES

    def choices(catalog, name, key):
        option = catalog[name].declared[key]
        assert isinstance(option, Choice)
        return option.choices

    assert choices(METHODS, "latent", "start") == tuple(STARTS)
    assert choices(METHODS, "lasso", "basis") == BASES
    own = {*BOUNDARIES, "renormalised"}
    assert set(choices(OPERATORS, "downsampling", "boundary")) == own
    assert choices(OPERATORS, "blur", "boundary") == (*BOUNDARIES, "valid")


def test_tables_of_the_documentation_are_what_the_code_declares():
    spec = importlib.util.spec_from_file_location("tables", DOCS / "tables.py")
    tables = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tables)
    for page in tables.PAGES:
        text = page.read_text("utf-8")
        assert "<!-- generated" in text
        assert tables.generated(text) == text, f"run: python docs/tables.py ({page.name})"


def test_every_operator_is_shared_by_name_and_alias():
    assert OPERATORS["superresolution"] is OPERATORS["downsampling"]
    with pytest.raises(UsageError, match="unknown physics 'radon': choose denoising"):
        OPERATORS["radon"]


class Everything(Options):
    """One of each."""

    count: int = whole(3, "A number.", 1, 10, words=("auto",))
    weight: float = real(0.5, "A weight.", low=0, high=1)
    levels: float | None = real(None, "Levels.", above=0, several=True, auto="some")
    word: str = choice("a", "A word.", ("a", "b"))
    on: bool = switch(True, "On or off.")
    init: torch.Tensor | None = array(None, "A start.")
    file: str | None = anything(None, "A file.", excludes=("weight",))


def test_values_become_what_is_declared():
    made = Everything(count="7", weight=torch.tensor(0.25), levels=[1, "1/2"], on="false", word="b")
    assert made.count == 7 and type(made.count) is int
    assert made.weight == 0.25 and made.levels == [1.0, 0.5] and made.on is False
    assert Everything(count="auto").count == "auto" and Everything(count=None).count == 3
    assert Everything(count=np.int64(4), weight=np.float32(1)).in_force() == {
        "count": 4, "weight": 1.0, "levels": None, "word": "a", "on": True, "file": None,
    }  # fmt: skip
    assert "weight" not in Everything(file="x").in_force()


@pytest.mark.parametrize(
    "given",
    [{"count": 0}, {"count": 11}, {"count": 2.5}, {"count": True}, {"count": "many"},
     {"weight": math.nan}, {"weight": -0.1}, {"weight": 1.1}, {"weight": "1/0"}, {"levels": []},
     {"levels": [1, 0]}, {"word": "c"}, {"word": 1}, {"on": "yes"}, {"on": 2}, {"init": "x"},
     {"strange": 1}, {"file": "x", "weight": 0.5}],
    ids=str,
)  # fmt: skip
def test_values_that_make_no_sense_are_one_line(given):
    with pytest.raises(OptionError) as error:
        Everything(**given)
    assert "\n" not in str(error.value) and any(name in str(error.value) for name in given)
    assert any(f"--{name}" in error.value.spelled(lambda o: f"--{o}") for name in given)
