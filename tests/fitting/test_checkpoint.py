from __future__ import annotations

import errno
import json
import os

import pytest
import torch

from innverse.errors import InnverseError, InputError
from innverse.fitting.checkpoint import (
    Checkpoint,
    latest_checkpoint,
    load_checkpoint,
    save_checkpoint,
)


def example(step):
    tensors = {"model/w": torch.full((3, 4), float(step)), "model/flag": torch.tensor(True)}
    return Checkpoint(step, tensors, {"seconds": 0.1 + step, "note": "ü"})


def test_round_trip_and_keep(tmp_path):
    for step in (1, 2, 30):
        save_checkpoint(tmp_path, example(step), keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "000000002.json",
        "000000002.safetensors",
        "000000030.json",
        "000000030.safetensors",
    ]
    loaded = load_checkpoint(latest_checkpoint(tmp_path))
    assert loaded.step == 30 and loaded.state == example(30).state
    for name, tensor in example(30).tensors.items():
        assert torch.equal(loaded.tensors[name], tensor)


def flip(path, position):
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        lambda record: flip(record.with_suffix(".safetensors"), -3),
        lambda record: flip(record.with_suffix(".safetensors"), 20),
        lambda record: record.with_suffix(".safetensors").write_bytes(b""),
        lambda record: record.with_suffix(".safetensors").unlink(),
        lambda record: record.write_text(record.read_text()[:-40]),
        lambda record: record.write_text(record.read_text().replace("5.1", "6.1")),
        lambda record: record.write_text("[]"),
        lambda record: record.write_bytes(b"\xff\x00"),
    ],
)
def test_damage_is_noticed_and_the_way_out_works(tmp_path, damage):
    save_checkpoint(tmp_path, example(4))
    record = save_checkpoint(tmp_path, example(5))
    damage(record)
    with pytest.raises(InputError, match=r"delete .*000000005\.json") as error:
        load_checkpoint(latest_checkpoint(tmp_path))
    assert "\n" not in str(error.value)
    record.unlink()  # what the message says
    assert load_checkpoint(latest_checkpoint(tmp_path)).step == 4


def test_another_version_is_refused(tmp_path):
    record = save_checkpoint(tmp_path, example(5))
    content = json.loads(record.read_text()) | {"format": 99}
    record.write_text(json.dumps(content))
    with pytest.raises(InputError, match="format 99.*format 1.*version that wrote it"):
        load_checkpoint(record)


@pytest.mark.parametrize("write", [1, 2])
def test_a_full_disk_leaves_the_old_checkpoint(tmp_path, monkeypatch, write):
    save_checkpoint(tmp_path, example(5))
    sync, calls = os.fsync, []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) >= write:
            raise OSError(errno.ENOSPC, "No space left on device")
        return sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InnverseError, match="disk is full.*checkpoint of step 5 is intact"):
        save_checkpoint(tmp_path, example(6), keep=1)
    monkeypatch.undo()
    assert len(list(tmp_path.iterdir())) == 2, "nothing half-written remains"
    assert load_checkpoint(latest_checkpoint(tmp_path)).step == 5
    save_checkpoint(tmp_path, example(6), keep=1)
    assert load_checkpoint(latest_checkpoint(tmp_path)).step == 6


def test_leftovers_of_a_killed_process_do_not_count(tmp_path):
    save_checkpoint(tmp_path, example(5))
    (tmp_path / "000000006.safetensors").write_bytes(b"half")
    (tmp_path / ".000000006.json.ab12.tmp").write_bytes(b"half")
    assert load_checkpoint(latest_checkpoint(tmp_path)).step == 5
    save_checkpoint(tmp_path, example(7))
    assert not (tmp_path / "000000006.safetensors").exists()
    assert not list(tmp_path.glob(".*.tmp"))
