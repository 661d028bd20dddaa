"""Flows on disk: same numbers back, and one clear line for everything that can be broken."""

from __future__ import annotations

import json

import pytest
import torch

from innverse import flows
from innverse.errors import InnverseError, InputError, UsageError
from innverse.flows import Flow


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


def test_a_hand_made_flow_says_how_to_save_it(tmp_path):
    from innverse.bijections import ActNorm

    with pytest.raises(InnverseError, match="state_dict"):
        Flow(ActNorm(3), (3,)).save_pretrained(tmp_path)
