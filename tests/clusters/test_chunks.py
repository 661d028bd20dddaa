"""Chunks of work without a cluster, or with one inside this process."""

from __future__ import annotations

import math
import pickle
import sys
from pathlib import Path

import pytest
import torch

import innverse
from innverse import flows
from innverse.amortized.simulate import pairs, simulate
from innverse.clusters import Chunk, Failure, active, digest, run
from innverse.clusters.packing import pack, unpack
from innverse.errors import InnverseError, InputError, UsageError
from innverse.progress import Progress
from innverse.restoration import restore
from innverse.restoration.jobs import Job
from innverse.restoration.many import _sent


def square(shared, payload, progress):
    progress(1, 2, "half")
    if payload == 3:
        raise InputError("three is no good")
    return {"value": shared + payload**2, "noise": torch.rand(3)}


def numbers(n):
    return [Chunk(f"number {k}", lambda k=k: k) for k in range(n)]


# ---- without ------------------------------------------------------------------------------------


def test_cluster_results_survive_packing():
    value = {
        "a": [1, 2.5, math.inf, None, True, "text", b"", b"bytes"],
        "b": {"t": torch.arange(6.0).reshape(2, 3).T, "s": torch.tensor(True), "e": torch.empty(0)},
    }
    found = unpack(pack(value))
    assert found["a"] == value["a"]
    for name, tensor in value["b"].items():
        assert torch.equal(found["b"][name], tensor) and found["b"][name].dtype == tensor.dtype
    assert math.isnan(unpack(pack(math.nan)))
    for wrong in ({1: 2}, object(), {"a": {1}}):
        with pytest.raises(TypeError):
            pack(wrong)
    whole = pack(value)
    for broken in (b"", b"{}", whole[:20], whole[:-1], b"x" * 100):
        with pytest.raises(ValueError):
            unpack(broken)


def test_cluster_digests_tell_apart_what_differs():
    flow = flows.build("realnvp", (2,))
    values = [
        None, 0, False, "0", b"0", [0], [[0]], {"a": 0}, {"b": 0}, torch.zeros(2), torch.zeros(2, 1),
        torch.zeros(2).double(), flow, flow.state_dict(), ["ab", "c"], ["a", "bc"], square,
    ]  # fmt: skip
    found = [digest(v) for v in values]
    assert len(set(found)) == len(values) and found == [digest(v) for v in values]
    before = digest(flow)
    with torch.no_grad():
        next(p for p in flow.parameters() if p.numel()).view(-1)[0] += 1
    assert digest(flow) != before


def test_cluster_chunks_that_are_recorded_are_not_done_again(tmp_path):
    records, log = tmp_path / "records", tmp_path / "log"

    def work(shared, payload, progress):
        with open(log, "a") as file:
            file.write(str(payload))
        return torch.full((2,), float(shared + payload))

    first = {}
    for k, found in run(work, numbers(5), 1, records=records):
        first[k] = found
        if len(first) == 3:  # interrupted
            break
    files = sorted(records.iterdir())
    assert log.read_text() == "012" and len(files) == 3
    files[0].write_bytes(files[0].read_bytes()[:-1])  # half a file counts for none
    again = dict(run(work, numbers(5), 1, records=records))
    assert log.read_text() == "012034"
    assert all(torch.equal(again[k], torch.full((2,), 1.0 + k)) for k in range(5))
    dict(run(work, numbers(5), 2, records=records))  # of other work they say nothing
    dict(run(lambda *given: torch.zeros(2), numbers(5), 1, records=records))
    assert len(log.read_text()) == 11 and len(list(records.iterdir())) == 15


def test_cluster_failures_are_named_and_the_rest_is_done():
    found = dict(run(square, numbers(5), 10))
    assert isinstance(found[3], Failure) and found[3].name == "number 3"
    assert found[3].error.exit_code == 4 and str(found[3].error) == "three is no good"
    assert [found[k]["value"] for k in (0, 1, 2, 4)] == [10, 11, 14, 26]


def test_cluster_progress_is_that_of_all_chunks_and_skips_what_was_there(tmp_path):
    chunks = [Chunk("a", lambda: 1, 1), Chunk("b", lambda: 2, 3)]
    told = []
    dict(run(square, chunks, 0, records=tmp_path, progress=lambda *now: told.append(now[:2])))
    assert told == [(0.5, 4), (1.0, 4), (2.5, 4), (4.0, 4)]
    bar = Progress("x", quiet=True)
    dict(run(square, chunks, 0, records=tmp_path, progress=bar))
    assert bar.fraction == 1 and bar.left is None  # nothing was done, so there is no pace


def test_cluster_without_dask_names_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(InnverseError, match=r'pip install "innverse\[cluster\]"'),
        innverse.cluster("local:2"),
    ):
        pass


# ---- with one -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "options", "words"),
    [
        ("local", {}, "local:4"),
        ("local:0", {}, "local:4"),
        ("tcp://127.0.0.1:1x", {}, "local:4"),
        ("tcp://127.0.0.1:99999", {}, "local:4"),
        ("local:many", {}, "local:4"),
        ("scheduler", {}, "tcp://host:8786"),
        ("http://scheduler:8787", {}, "tcp://host:8786"),
        ("local:2", {"security": True}, "without TLS"),
        ("local:2", {"memory": "much"}, "4 GB"),
        ("tcp://scheduler:8786", {"memory": "1 GB"}, "local workers"),
    ],
)
def test_cluster_addresses_that_are_none(address, options, words):
    pytest.importorskip("distributed")
    with pytest.raises(UsageError, match=words), innverse.cluster(address, **options):
        pass


def test_cluster_that_nobody_answers_for():
    pytest.importorskip("distributed")
    with (
        pytest.raises(InnverseError, match="no scheduler answers at tcp://127.0.0.1:9"),
        innverse.cluster("tcp://127.0.0.1:9", wait=0),
    ):
        pass


def test_cluster_workers_of_other_versions_are_refused(inside, monkeypatch):
    monkeypatch.setattr(
        inside, "run", lambda f: {"tcp://a": f(), "tcp://b": f() | {"torch": "1.0"}}
    )
    words = r"1 of 2 workers have other versions, tcp://b: torch 1.0 \(here \d"
    with pytest.raises(InnverseError, match=words), innverse.cluster(inside):
        pass


def test_cluster_gives_what_is_computed_here(inside):
    here = dict(run(square, numbers(9), 10))
    with innverse.cluster(inside) as workers:
        assert workers.workers == 2 and active() is workers
        there = dict(run(square, numbers(9), 10))
    assert active() is None and inside.status == "running"  # a client that is given is not closed
    assert str(there[3].error) == str(here[3].error) and there[3].error.exit_code == 4
    for k in set(here) - {3}:
        assert there[k]["value"] == here[k]["value"]
        assert torch.equal(there[k]["noise"], here[k]["noise"])


def test_cluster_gives_up_a_chunk_that_raises_again_and_again(inside):
    def broken(shared, payload, progress):
        if payload == 1:
            raise ZeroDivisionError("one cannot be divided")
        return payload

    with innverse.cluster(inside, retries=1):
        found = dict(run(broken, numbers(3)))
    assert found[0] == 0 and found[2] == 2
    words = "number 1: ZeroDivisionError: one cannot be divided (tried 2 times)"
    assert str(found[1].error) == words


def test_cluster_restores_pictures_into_the_same_files(inside, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    g = torch.Generator().manual_seed(0)
    for k in range(3):
        innverse.data.write_image(f"in/{k}.png", torch.rand(1, 1, 12, 12 + k, generator=g))
    Path("in/broken.png").write_text("no picture")
    mask = torch.ones(1, 1, 12, 12)
    mask[..., 3:6, 3:6] = 0
    innverse.data.write_image("mask.png", mask)
    options = {"mask": "mask.png", "method": "tv", "keep_failures": True}
    here = restore("in", "inpainting", out="here", **options)
    monkeypatch.setattr("innverse.restoration.many._INPUTS", 2)
    with innverse.cluster(inside):
        there = restore("in", "inpainting", out="there", **options)
    assert [str(r.error) for r in there] == [str(r.error) for r in here]
    assert (
        "12x12" in there[1].status and "no picture" not in there[0].status
    )  # the wrong mask's size
    assert there[0].converged and torch.equal(there[0].image, here[0].image)
    assert there[0].summary["physics"]["mask"] == "mask.png"
    names = sorted(f.relative_to("here") for f in Path("here").rglob("*") if f.is_file())
    assert names == sorted(f.relative_to("there") for f in Path("there").rglob("*") if f.is_file())
    assert all(Path("there", n).read_bytes() == Path("here", n).read_bytes()
               for n in names if n.suffix == ".png")  # fmt: skip
    with pytest.raises(InputError), innverse.cluster(inside):
        restore("in", "inpainting", mask="mask.png", method="tv")


def test_cluster_pictures_that_are_views_travel_without_the_others():
    batch = torch.rand(100, 1, 8, 8)
    assert len(pickle.dumps(_sent(Job(batch[3], "array-4", "array-4")))) < 2000 < batch.nbytes


def test_cluster_options_of_the_user_are_refused_as_they_are_here(inside):
    pictures = [torch.rand(1, 8, 8) for _ in range(2)]
    with innverse.cluster(inside):
        with pytest.raises(UsageError, match="lam"):
            restore(pictures, "denoising", noise=0.1, method="tv", lam=-1)
        with pytest.raises(UsageError, match="checkpoint"):
            flow = flows.build("glow", (1, 8, 8), levels=1, steps=1, hidden=4)
            given = {"prior": flow, "method": "posterior", "checkpoint": "c"}
            restore(pictures, "denoising", noise=0.1, **given)


def test_cluster_simulations_follow_the_seed_alone(inside):
    def simulator(theta):
        return theta + torch.randn_like(theta)

    theta = torch.rand(600, 2)

    def simulated(seed):
        torch.manual_seed(seed)
        return simulate(simulator, theta)

    here = pairs("two_moons", 1500, 7)
    with innverse.cluster(inside):
        first, again, other = simulated(1), simulated(1), simulated(2)
        there = pairs("two_moons", 1500, 7)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert all(torch.equal(a, b) for a, b in zip(here, there))
    assert len(first.unique(dim=0)) == 600  # no two chunks share their noise
    noise = first - theta
    assert noise.mean().abs() < 0.15 and (noise.std() - 1).abs() < 0.15


def test_cluster_simulators_that_raise_say_so(inside):
    def simulator(theta):
        raise RuntimeError("the rocket is out of fuel")

    with innverse.cluster(inside), pytest.raises(InputError, match="out of fuel"):
        simulate(simulator, torch.rand(3, 2))


def test_cluster_shares_out_the_chains_of_a_posterior(inside):
    flow = flows.build("glow", (1, 4, 4), levels=1, steps=1, hidden=4)
    y = torch.rand(2, 1, 4, 4)
    physics = innverse.physics.Denoising(noise=0.3)
    options = {"draws": 20, "chains": 5, "warmup": 10, "steps": 3, "init": y, "space": "image"}
    with innverse.cluster(inside):
        r = innverse.solve(y, physics, flow, "posterior", **options)
    assert r.samples.shape == (20, 2, 1, 4, 4)
    chains = r.by_chain
    assert len(chains) == 5 and len(chains[:, -1].flatten(1).unique(dim=0)) == 5
    assert torch.allclose(r.x, r.samples.mean(0)) and torch.allclose(r.std, r.samples.std(0))
    assert r.diagnostics["log_p"].shape == (2, 5, 4) and r.diagnostics["acceptance"].shape == (2,)
    assert (r.diagnostics["acceptance"] > 0.2).all()
