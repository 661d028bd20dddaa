"""Flows on disk: same numbers back, and one clear line for everything that can be broken."""

from __future__ import annotations

import json

import pytest
import torch

from innverse import flows
from innverse.bijections import (
    ActNorm,
    Affine,
    Autoregressive,
    Chain,
    ConditionalScale,
    Coupling,
    Inverse,
    Invertible1x1,
    Logit,
    MaskedCoupling,
    Partial,
    Permute,
    RationalQuadraticSpline,
    Squeezed,
    Standardize,
)
from innverse.errors import InnverseError, InputError, UsageError
from innverse.flows import ContinuousFlow, Flow, Integral, Velocity
from innverse.nets import MADE, MLP, ConvNet


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    flow = flows.build("realnvp", (3,), layers=2, width=8)
    flow.save_pretrained(tmp_path / "model")
    return flow, tmp_path / "model"


def test_round_trip(saved):
    flow, folder = saved
    flow.symmetries = ("mirror",)
    flow.save_pretrained(folder)
    other = Flow.from_pretrained(folder)
    assert other.symmetries == ("mirror",)
    x = torch.randn(4, 3)
    assert torch.equal(flow.log_prob(x), other.log_prob(x))
    assert not any(p.requires_grad for p in other.parameters())
    assert {p.name for p in folder.iterdir()} == {"config.json", "model.safetensors", "README.md"}


def test_a_class_reads_its_own_models_only(saved):
    with pytest.raises(InputError, match="holds a realnvp, not a ContinuousFlow"):
        ContinuousFlow.from_pretrained(saved[1])


def test_flipped_byte(saved):
    path = saved[1] / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(InputError, match="damaged"):
        Flow.from_pretrained(saved[1])


def test_truncated_weights(saved):
    path = saved[1] / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(InputError, match="damaged"):
        Flow.from_pretrained(saved[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format_version": 99}, "format version 99"),
        ({"format": "other"}, "does not describe"),
        ({"sha256": None}, "damaged"),
        ({"name": "nothing"}, "no flow is called"),
        ({"symmetries": "mirror"}, "symmetries 'mirror': they are a list"),
        ({"symmetries": ["upside down"]}, "symmetries .*: they are a list"),
    ],
)
def test_other_versions_and_formats(saved, change, message):
    path = saved[1] / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InnverseError, match=message):
        Flow.from_pretrained(saved[1])


def test_broken_json_and_missing_files(saved, tmp_path):
    (saved[1] / "config.json").write_text("{")
    with pytest.raises(InputError, match="not valid JSON"):
        Flow.from_pretrained(saved[1])
    (saved[1] / "config.json").unlink()
    with pytest.raises(InputError, match="cannot read"):
        Flow.from_pretrained(saved[1])
    with pytest.raises(InputError, match="no folder"):
        Flow.from_pretrained(tmp_path / "none")


def test_zoo_names_its_models():
    import innverse

    with pytest.raises(UsageError, match="no model is called 'nothing'"):
        innverse.load("nothing")


def test_a_flow_by_hand_of_what_cannot_be_described_says_how_to_save_it(tmp_path):
    net = torch.nn.Linear(1, 4)
    with pytest.raises(InnverseError, match=r"net is of torch.*@innverse.flows.register"):
        Flow(Chain(Coupling(3, net, keep=1)), (3,)).save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())


def by_hand(name: str) -> Flow:
    if name == "vectors":
        made = MADE(4, 5, 8, 1, order=[0, 1, 0, 1], condition=2)
        return Flow(
            Chain(
                Standardize(4),
                Permute(4),
                Coupling(4, MLP(2, 4, 8, 1, condition=2, how="film"), Affine(1.5), swap=True),
                Autoregressive(made, RationalQuadraticSpline(2)),
                Inverse(ActNorm(4)),
                MaskedCoupling(torch.tensor([1, 0, 0, 1]), MLP(4, 8, 8, condition=2)),
            ),
            (4,),
            condition=2,
        )
    if name == "images":
        level = Chain(
            ActNorm(4), Invertible1x1(4), Coupling.build(4, lambda i, o: ConvNet(i, o, 8))
        )
        images = Chain(Logit(0.05), Squeezed(Chain(level, Partial(ActNorm(2), 2))))
        return Flow(images, (1, 4, 4), multiple=2)
    if name == "noise":
        noisy = Chain(ActNorm(3), ConditionalScale(3, 6))
        return Flow(noisy, (3,), noise=(0.1, 1.0), noise_width=6)
    if name == "matching":
        integral = Integral(Velocity(MLP(3, 3, 8, condition=8)))
        return ContinuousFlow(Chain(Standardize(3), integral), (3,)).set_solver("heun", 8)
    return Flow(ActNorm(3), (3,))


@pytest.mark.parametrize("name", ["vectors", "images", "noise", "matching", "one layer"])
def test_a_flow_by_hand_is_saved_with_its_structure(tmp_path, name):
    torch.manual_seed(0)
    flow = by_hand(name).eval()
    for p in flow.parameters():
        p.data.add_(0.1 * torch.randn_like(p))
    flow.save_pretrained(tmp_path)
    torch.manual_seed(1)
    again = Flow.from_pretrained(tmp_path)
    assert type(again) is type(flow) and again.name is None
    x = torch.rand(3, *flow.shape) * 0.8 + 0.1
    c = {"vectors": torch.randn(3, 2), "noise": 0.3}.get(name)
    with torch.no_grad():
        assert torch.equal(again.log_prob(x, c), flow.log_prob(x, c))
    again.save_pretrained(tmp_path / "twice")
    folders = tmp_path, tmp_path / "twice"
    first, second = (json.loads((f / "config.json").read_text()) for f in folders)
    assert first == second


@pytest.mark.parametrize("change", ["replaced", "appended", "twice"])
def test_a_flow_by_hand_that_changed_since_is_not_saved_as_what_it_was(tmp_path, change):
    layer = Permute(3)
    flow = Flow(Chain(ActNorm(3), layer, *[layer] * (change == "twice")), (3,))
    if change == "replaced":
        flow.bijection.layers[1] = Permute(3)
    if change == "appended":
        flow.bijection.layers.append(ActNorm(3))
    with pytest.raises(InnverseError, match="after it was built|twice"):
        flow.save_pretrained(tmp_path)


@pytest.mark.parametrize(
    "arguments",
    [
        {"class": "os.system", "arguments": {"command": "true"}},
        {"class": "bijections.Permute", "arguments": {"channels": 10**12}},
        {"class": "bijections.Permute", "arguments": {"width": 3}},
        {"class": "bijections.check_bijection", "arguments": {}},
        {"class": "nets.MADE", "arguments": {"n": 10**11, "n_params": 2}},
        {"class": "bijections.Permute", "arguments": []},
        {"class": 3},
        {"tensor": "x", "dtype": "float32"},
        "bijections.Permute",
        None,
    ],
)
def test_a_description_is_not_believed(tmp_path, arguments):
    Flow(ActNorm(3), (3,)).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    config["config"]["arguments"]["bijection"] = arguments
    path.write_text(json.dumps(config))
    with pytest.raises(InputError) as error:
        Flow.from_pretrained(tmp_path)
    assert "\n" not in str(error.value)
