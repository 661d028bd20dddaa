"""Transforms, networks and flows of one's own: by name, in files, on the command line."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

import innverse
from innverse import flows
from innverse.bijections import (
    ActNorm,
    Affine,
    Elementwise,
    RationalQuadraticSpline,
    check_bijection,
)
from innverse.errors import InnverseError, UsageError

MODULE = """
import torch
from torch import nn
from innverse import flows
from innverse.bijections import ActNorm, Chain, Elementwise

@flows.register_transform
class Scaling(Elementwise):
    n_params = 1
    def __init__(self, most: float = 1.0):
        self.most = most
    def forward(self, x, p):
        s = self.most * p[:, 0].tanh()
        return x * s.exp(), s
    def inverse(self, z, p):
        s = self.most * p[:, 0].tanh()
        return z * (-s).exp(), -s

@flows.register_network
def linear(n_in, n_out, condition=0):
    return Linear(n_in, n_out, condition)

class Linear(nn.Module):
    def __init__(self, n_in, n_out, condition):
        super().__init__()
        self.layer = nn.Linear(n_in + condition, n_out)
    def forward(self, x, c=None):
        return self.layer(x if c is None else torch.cat((x, c), 1))

@flows.register
def own_flow(shape, *, layers: int = 2):
    return flows.Flow(Chain(*(ActNorm(shape[0]) for _ in range(layers))), shape)
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """The module, imported; what it registers is forgotten again."""
    from innverse.flows.registry import FLOWS, NETWORKS, TRANSFORMS

    folder = tmp_path_factory.mktemp("own")
    (folder / "own_flows.py").write_text(MODULE)
    sys.path.insert(0, str(folder))
    import own_flows

    yield own_flows
    sys.path.remove(str(folder))
    for registry, name in ((FLOWS, "own_flow"), (NETWORKS, "linear"), (TRANSFORMS, "Scaling")):
        del registry._builders[name]


def moved(flow):
    for p in flow.parameters():
        p.data.add_(0.1 * torch.randn_like(p))
    return flow.eval()


@pytest.mark.parametrize("name", ["coupling", "maf", "iaf"])
@pytest.mark.parametrize("of", ["name", "object", "object of ours"])
def test_transforms(own, tmp_path, name, of):
    torch.manual_seed(0)
    ours = RationalQuadraticSpline(3, 4.0)
    transform = {"name": "Scaling", "object": own.Scaling(0.5)}.get(of, ours)
    flow = moved(flows.build(name, (3,), layers=2, width=8, transform=transform))
    x = torch.randn(4, 3)
    check_bijection(flow.bijection, x)
    flow.save_pretrained(tmp_path)
    again = innverse.load(tmp_path)
    with torch.no_grad():
        assert torch.equal(again.log_prob(x), flow.log_prob(x))
    assert repr(again.config["transform"]) == repr(transform)


@pytest.mark.parametrize("condition", [0, 2])
def test_networks(own, tmp_path, condition):
    torch.manual_seed(0)
    flow = moved(flows.build("nsf", (4,), layers=2, bins=4, net="linear", condition=condition))
    assert any(type(m) is own.Linear for m in flow.modules())
    x, c = torch.randn(3, 4), torch.randn(3, 2) if condition else None
    flow.save_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(innverse.load(tmp_path).log_prob(x, c), flow.log_prob(x, c))


def test_a_network_without_a_name_builds_and_says_how_to_be_saved(tmp_path):
    flow = flows.build("realnvp", (4,), layers=1, net=lambda i, o: nn.Linear(i, o))
    with pytest.raises(InnverseError, match="register_network"):
        flow.save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="takes no condition"):
        flows.build("realnvp", (4,), condition=2, net=lambda i, o: nn.Linear(i, o))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"transform": "cubic"}, "no transform is called 'cubic': .*additive, affine, spline"),
        ({"transform": 3}, "transform=3: give an object"),
        ({"transform": Affine(), "bound": 2.0}, "bound: .* has its own"),
        ({"transform": "additive", "bound": 2.0}, "additive has no option 'bound'"),
        ({"transform": "affine", "bins": 8}, "affine has no option 'bins'"),
        ({"net": "perceptron"}, "no network is called 'perceptron'"),
        ({"net": 3}, "net=3: give a function"),
    ],
)
def test_what_is_no_transform_or_network(options, message):
    with pytest.raises(UsageError, match=message):
        flows.build("coupling", (3,), **options)


def test_presets_are_the_builders_with_other_defaults():
    kinds = {"nice": "Additive()", "realnvp": "Affine(bound=2.0)", "maf": "Affine(bound=2.0)"}
    for name, transform in kinds.items():
        assert transform in repr(flows.build(name, (4,), layers=1, width=8))
    assert "RationalQuadraticSpline(bins=8, bound=5.0" in repr(flows.build("nsf", (4,), layers=1))
    with pytest.raises(UsageError, match="nsf has no option 'transform'"):
        flows.build("nsf", (4,), transform="affine")
    with pytest.raises(UsageError, match="no flow is called 'spline'"):
        flows.build("spline", (4,))


def test_memory_is_no_part_of_a_model(tmp_path):
    with pytest.raises(UsageError, match="glow has no option 'memory'"):
        flows.build("glow", (1, 8, 8), memory="reversible")
    flow = flows.build("maf", (3,), layers=1, width=8).set_memory("reversible")
    assert flow.bijection.memory == "reversible"
    flow.save_pretrained(tmp_path)
    assert innverse.load(tmp_path).bijection.memory == "store"


def test_a_class_of_ones_own_is_described_by_its_module(own, tmp_path):
    assert issubclass(own.Scaling, Elementwise)
    flow = flows.build("coupling", (3,), layers=1, width=8, transform=own.Scaling(0.5))
    flow.save_pretrained(tmp_path)
    assert '"own_flows.Scaling"' in (tmp_path / "config.json").read_text()


def test_the_command_line_imports_a_module(own, tmp_path):
    (tmp_path / "own_flows.py").write_text(MODULE)
    flows.build("own_flow", (3,)).save_pretrained(tmp_path / "model")

    def run(*words):
        command = [sys.executable, "-m", "innverse", "info", "model", *words]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    assert "own_flow" in run("--import", "own_flows").stdout
    flows.Flow(ActNorm(3), (3,)).save_pretrained(tmp_path / "model")
    assert "built by hand, 6 parameters" in run().stdout
    flows.build("own_flow", (3,)).save_pretrained(tmp_path / "model")
    for words, code, message in [
        ((), 4, "no flow is called 'own_flow'"),
        (("--import", "no_such_module"), 2, "--import no_such_module: ModuleNotFoundError"),
        (("--import",), 2, "--import takes the name of a Python module"),
    ]:
        done = run(*words)
        assert done.returncode == code and message in done.stderr and done.stderr.count("\n") == 1
