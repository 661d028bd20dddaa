"""Folders of models that are damaged, foreign or hostile: exit code 4, one line, at once."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
import struct

import pytest
import torch
from safetensors.torch import load as read_tensors
from safetensors.torch import save as tensor_bytes

import innverse
from innverse import flows, generators
from innverse.cli import main
from innverse.errors import InputError, NotConvergedError

CONFIG, WEIGHTS = "config.json", "model.safetensors"


def edit(**changes):
    """Replace entries of the config; None removes one."""

    def mutate(folder):
        config = json.loads((folder / CONFIG).read_text()) | changes
        config = {key: value for key, value in config.items() if value is not None}
        (folder / CONFIG).write_text(json.dumps(config))

    return mutate


def option(**changes):
    """Replace options of the builder."""

    def mutate(folder):
        config = json.loads((folder / CONFIG).read_text())
        config["config"] |= changes
        (folder / CONFIG).write_text(json.dumps(config))

    return mutate


def text(content):
    """Replace the whole config."""

    def mutate(folder):
        (folder / CONFIG).write_bytes(content if isinstance(content, bytes) else content.encode())

    return mutate


def spliced(old, new):
    """Replace a piece of the config's text."""

    def mutate(folder):
        before = (folder / CONFIG).read_text()
        assert old in before
        (folder / CONFIG).write_text(before.replace(old, new, 1))

    return mutate


def raw(change):
    """Replace the bytes of the weights, with the right checksum in the config."""

    def mutate(folder):
        data = change((folder / WEIGHTS).read_bytes())
        (folder / WEIGHTS).write_bytes(data)
        edit(sha256=hashlib.sha256(data).hexdigest())(folder)

    return mutate


def tensors(change):
    """Replace the tensors, with the right checksum in the config."""

    def renewed(data):
        found = read_tensors(data)
        return tensor_bytes(change(found) or found)

    return raw(renewed)


def first(convert):
    def change(found):
        name = next(k for k, t in found.items() if t.is_floating_point() and t.dim() > 1)
        found[name] = convert(found[name])

    return tensors(change)


def header(change):
    """Replace the header of the weights, with the right checksum in the config."""

    def renewed(data):
        n = struct.unpack("<Q", data[:8])[0]
        made = change(json.loads(data[8 : 8 + n]))
        made = made if isinstance(made, bytes) else json.dumps(made).encode()
        return struct.pack("<Q", len(made)) + made + data[8 + n :]

    return raw(renewed)


def entry(**changes):
    def change(found):
        found[next(name for name in found if name != "__metadata__")] |= changes
        return found

    return header(change)


def nan(t):
    return t.clone().fill_(torch.nan)


def infinite(t):
    t = t.clone()
    t.view(-1)[-1] = torch.inf
    return t


def replaced(name, make):
    """Put something else in the place of a file."""

    def mutate(folder):
        path = folder / name
        path.unlink()
        make(path)

    return mutate


def bind(path):
    here = os.getcwd()
    os.chdir(path.parent)  # names of sockets are short
    try:
        socket.socket(socket.AF_UNIX).bind(path.name)
    finally:
        os.chdir(here)


def sparse(path):
    with open(path, "wb") as file:
        file.truncate(1 << 40)


DEEP = "[" * 100_000 + "]" * 100_000
MUTATIONS = {
    # the config as text
    "empty": text(""),
    "half": text('{"format": "innverse-flow", "format_ver'),
    "not utf-8": text(b'{"format": "\xff\xfe\xfa"}'),
    "zeros": text(bytes(1000)),
    "a list": text("[]"),
    "a number": text("3"),
    "null": text("null"),
    "deep": text(DEEP),
    "deep inside": spliced('"name"', f'"more": {DEEP}, "name"'),
    "twice": spliced('"name"', '"name": "maf", "name"'),
    "nan": spliced('"name"', '"more": NaN, "name"'),
    "infinite": spliced('"name"', '"more": 1e999, "name"'),
    "digits": spliced('"name"', f'"more": {"9" * 10_000}, "name"'),
    # the entries of the config
    **{f"no {key}": edit(**{key: None}) for key in ("format", "format_version", "name", "shape",
                                                    "config", "sha256")},
    "format a list": edit(format=["innverse-flow"]),
    "format a table": edit(format={}),
    "another format": edit(format="innverse-posterior"),
    "the future": edit(format_version=2),
    "version as text": edit(format_version="1"),
    "version true": edit(format_version=True),
    "unknown name": edit(name="glow2"),
    "name a number": edit(name=7),
    "name a path": edit(name="../../etc/passwd"),
    "shape a number": edit(shape=3),
    "shape empty": edit(shape=[]),
    "shape of text": edit(shape=["3"]),
    "shape negative": edit(shape=[-3]),
    "shape zero": edit(shape=[0]),
    "shape of floats": edit(shape=[3.0]),
    "shape true": edit(shape=[True]),
    "shape giant": edit(shape=[10**9]),
    "shape beyond": edit(shape=[10**30]),
    "shape of images": edit(shape=[1, 8, 8]),
    "another shape": edit(shape=[4]),
    "config a list": edit(config=[]),
    "config as text": edit(config="layers=2"),
    "hash a number": edit(sha256=12),
    "hash wrong": edit(sha256="0" * 64),
    "dtype unknown": edit(dtype="int4"),
    "dtype another": edit(dtype="float64"),
    "symmetries as text": edit(symmetries="mirror"),
    # the options
    "unknown option": option(colour="red"),
    "option as text": option(layers="2"),
    "option a float": option(layers=2.5),
    "option true": option(layers=True),
    "option a list": option(width=[8]),
    "option null": option(width=None),
    "bound as text": option(bound="two"),
    "negative": option(width=-8),
    "zero": option(width=0),
    "another width": option(width=9),
    "fewer layers": option(layers=1),
    "unknown activation": option(activation="exec"),
    "giant width": option(width=10**9),
    "huge width": option(width=10**18),
    "beyond 64 bits": option(width=10**40),
    "large width": option(width=30_000),
    "giant depth": option(depth=10**6),
    "giant layers": option(layers=10**7),
    # the weights, with the right checksum
    "no bytes": raw(lambda data: b""),
    "seven bytes": raw(lambda data: data[:7]),
    "cut in the header": raw(lambda data: data[:60]),
    "cut in the data": raw(lambda data: data[:-4]),
    "one byte more": raw(lambda data: data + b"\0"),
    "noise": raw(lambda data: bytes(range(256)) * 4),
    "pickle": raw(lambda data: b"\x80\x02cos\nsystem\n(S'true'\ntR."),
    "header giant": raw(lambda data: struct.pack("<Q", 2**63) + data[8:]),
    "header past the end": raw(lambda data: struct.pack("<Q", len(data)) + data[8:]),
    "header no json": header(lambda found: b"{" * 40),
    "header deep": header(lambda found: DEEP.encode()),
    "header a list": header(lambda found: []),
    "header no utf-8": header(lambda found: b'{"\xff": 1}'),
    "entry no table": header(lambda found: found | {"x": 3}),
    "unknown dtype": entry(dtype="F8_E4M3"),
    "dtype a list": entry(dtype=[]),
    "shape in header": entry(shape=[10**12]),
    "shape overflows": entry(shape=[2**62, 2**62]),
    "shape of texts": entry(shape=["3"]),
    "negative offsets": entry(data_offsets=[-8, 8]),
    "offsets of text": entry(data_offsets=["0", "4"]),
    "one offset": entry(data_offsets=[0]),
    "no tensors": tensors(lambda found: {"x": torch.zeros(0)}),
    "one missing": tensors(lambda found: {k: found[k] for k in list(found)[1:]}),
    "one more": tensors(lambda found: found | {"extra": torch.zeros(3)}),
    "renamed": tensors(lambda found: {k.replace("weight", "wait"): t for k, t in found.items()}),
    "another model": tensors(lambda found: {"conv.weight": torch.zeros(8, 8, 3, 3)}),
    "transposed": first(lambda t: torch.zeros(t.shape[1] + 1, t.shape[0])),
    "flattened": first(lambda t: t.reshape(-1)),
    "int8": first(lambda t: t.to(torch.int8)),
    "float64": first(lambda t: t.double()),
    "float16": first(lambda t: t.half()),
    "bfloat16": first(lambda t: t.bfloat16()),
    "all in float64": tensors(lambda found: {
        k: t.double() if t.is_floating_point() else t for k, t in found.items()}),
    "NaN": first(nan),
    "infinity": first(infinite),
    # other things in the places of files
    "config missing": replaced(CONFIG, lambda path: None),
    "weights missing": replaced(WEIGHTS, lambda path: None),
    "config a folder": replaced(CONFIG, os.mkdir),
    "weights a folder": replaced(WEIGHTS, os.mkdir),
    "config a pipe": replaced(CONFIG, os.mkfifo),
    "weights a pipe": replaced(WEIGHTS, os.mkfifo),
    "config a socket": replaced(CONFIG, bind),
    "weights a socket": replaced(WEIGHTS, bind),
    "config a circle": replaced(CONFIG, lambda path: path.symlink_to(path.name)),
    "weights a circle": replaced(WEIGHTS, lambda path: path.symlink_to(path.name)),
    "config /dev/zero": replaced(CONFIG, lambda path: path.symlink_to("/dev/zero")),
    "weights /dev/zero": replaced(WEIGHTS, lambda path: path.symlink_to("/dev/zero")),
    "config a terabyte": replaced(CONFIG, sparse),
    "weights a terabyte": replaced(WEIGHTS, sparse),
    "weights elsewhere": replaced(WEIGHTS, lambda path: path.symlink_to("/etc/passwd")),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _no_waiting():
    """A pipe would be waited for without end, 10^7 layers be built for an hour: fail instead."""
    signal.alarm(60)
    yield
    signal.alarm(0)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "whole"
    flows.build("realnvp", (3,), layers=2, width=8, depth=1).save_pretrained(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def folder(whole, tmp_path):
    (tmp_path / "model").mkdir()
    for name, data in whole.items():
        (tmp_path / "model" / name).write_bytes(data)
    return tmp_path / "model"


@pytest.mark.parametrize("mutate", MUTATIONS.values(), ids=MUTATIONS)
def test_refused_in_one_line_and_at_once(folder, mutate, capfd):
    import resource

    mutate(folder)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert main(["info", str(folder)]) == 4
    out, err = capfd.readouterr()
    assert out == "" and err.count("\n") == 1 and str(folder) in err
    assert "unexpected" not in err and len(err) < 1000
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before  # kB
    assert grown < 300_000


@pytest.mark.parametrize("verb", [
    ("sample", "MODEL", "--out", "x.npy"), ("logprob", "MODEL", "a.png"), ("info", "MODEL"),
    ("solve", "a.png", "--physics", "denoising", "--noise", "0.1", "--prior", "MODEL",
     "--out", "r"),
    ("eval", "denoise", "--data", "skimage", "--sigma", "25", "--model", "MODEL"),
    ("interpolate", "a.png", "a.png", "--model", "MODEL"),
    ("attribute", "--with", "a.png", "--without", "a.png", "--model", "MODEL", "--save", "a.st"),
])  # fmt: skip
@pytest.mark.parametrize("damage", ["deep", "giant width", "one missing", "weights a pipe"])
def test_every_verb_refuses_alike(folder, verb, damage, capfd, monkeypatch, tmp_path):
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    Image.new("L", (16, 16), 99).save("a.png")
    MUTATIONS[damage](folder)
    assert main([str(folder) if word == "MODEL" else word for word in verb]) == 4
    err = capfd.readouterr().err
    assert err.count("\n") == 1 and "unexpected" not in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "model"]


@pytest.mark.parametrize("name", ["config", "weights"])
def test_a_byte_order_mark_and_links_are_no_damage(folder, name):
    """What a text editor or a store of models does to a folder is welcome."""
    if name == "config":
        text(b"\xef\xbb\xbf" + (folder / CONFIG).read_bytes())(folder)
    else:
        (folder / WEIGHTS).rename(folder.parent / "blob")
        (folder / WEIGHTS).symlink_to(folder.parent / "blob")
    assert innverse.load(folder).shape == (3,)


@pytest.mark.parametrize("name", ["glow", "vae", "gan"])
@pytest.mark.parametrize(
    "mutate",
    [edit(shape=[1, 10**6, 10**6]), option(levels=10**6, latent=10**9),
     edit(format="innverse-flow", name="vae"), first(nan), first(lambda t: t.bfloat16())],
    ids=["shape", "size", "room", "nan", "bfloat16"],
)  # fmt: skip
def test_images_vae_and_gan(tmp_path, name, mutate):
    room, options = generators, {"latent": 4, "width": 4}
    if name == "glow":
        room, options = flows, {"levels": 1, "steps": 1, "hidden": 4}
    room.build(name, (1, 16, 16), **options).save_pretrained(tmp_path / "m")
    innverse.load(tmp_path / "m")
    mutate(tmp_path / "m")
    with pytest.raises(InputError) as error:
        innverse.load(tmp_path / "m")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("options", [{"levels": 10**6}, {"steps": 10**6}, {"hidden": 10**9}])
def test_giant_image_flows_are_not_built(tmp_path, options):
    small = {"levels": 1, "steps": 1, "hidden": 4}
    flows.build("glow", (1, 16, 16), **small).save_pretrained(tmp_path / "m")
    option(**options)(tmp_path / "m")
    with pytest.raises(InputError):
        innverse.load(tmp_path / "m")


@pytest.mark.parametrize("name", flows.names())
def test_the_budget_admits_every_architecture(tmp_path, name):
    shape = (1, 8, 8) if name in ("glow", "tarflow", "patches") else (3,)
    torch.manual_seed(0)
    flow = flows.build(name, shape)
    flow.save_pretrained(tmp_path / "m")
    again = innverse.load(tmp_path / "m").state_dict()
    assert all(torch.equal(again[k], t) for k, t in flow.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_no_digit_is_lost_on_the_way(tmp_path, dtype):
    options = {"bound": 0.1 + 0.2, "layers": 2, "width": 8}
    flow = flows.build("realnvp", (3,), **options).to(dtype)
    for p in flow.parameters():
        p.data.add_(torch.rand(p.shape, dtype=torch.float64).to(dtype))
    flow.save_pretrained(tmp_path)
    again = innverse.load(tmp_path)
    assert again.config == options
    for k, t in flow.state_dict().items():
        assert again.state_dict()[k].dtype == t.dtype and torch.equal(again.state_dict()[k], t)


def test_nan_is_not_saved_over_a_good_model(folder):
    flow = innverse.load(folder, trainable=True)
    before = (folder / WEIGHTS).read_bytes()
    next(flow.parameters()).data.fill_(torch.nan)
    with pytest.raises(NotConvergedError, match="not finite"):
        flow.save_pretrained(folder)
    assert (folder / WEIGHTS).read_bytes() == before


@pytest.mark.parametrize("call", range(3))
def test_a_full_disk_leaves_the_old_model(folder, monkeypatch, call):
    flow = innverse.load(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    sync, calls = os.fsync, []

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == call + 1:
            raise OSError(28, "No space left on device")
        return sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(innverse.errors.InnverseError, match="disk is full"):
        flow.save_pretrained(folder, card="# another\n")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
