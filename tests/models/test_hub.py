"""The hub, played by a folder: what is pushed comes back, pinned or not; what is untold stays here."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import shutil
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace

import pytest
import torch

import innverse
from innverse import zoo
from innverse.errors import InnverseError, InputError, UsageError
from innverse.flows import Flow
from innverse.models.cards import lacks
from innverse.models.hub import push

ABOUT = {
    "data": "2000 draws of two moons; 200 held out",
    "license": "CC0-1.0",
    "command": "python moons.py",
    "metrics": {"nats a row, held out": 1.25},
}


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """Repositories as folders of commits, the newest last; answers what huggingface_hub would."""
    home, made = tmp_path / "hub", {}

    def snapshot_download(repo_id, *, revision=None, allow_patterns):
        commits = made.get(repo_id, {}).get("commits")
        if not commits or revision not in (None, *commits):
            raise FileNotFoundError(f"404 {repo_id} {revision}\nmore")
        folder = home / repo_id / (revision or commits[-1])
        assert {p.name for p in folder.iterdir()} <= {*allow_patterns, "samples.png"}
        return str(folder)

    class HfApi:
        def create_repo(self, repo_id, *, private, exist_ok):
            made.setdefault(repo_id, {"private": private, "commits": []})

        def create_commit(self, repo_id, operations, *, commit_message):
            content = {
                name: data if isinstance(data, bytes) else Path(data).read_bytes()
                for name, data in operations
            }
            oid = hashlib.sha1(repr(content).encode()).hexdigest()
            for name, data in content.items():
                path = home / repo_id / oid / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            made[repo_id]["commits"].append(oid)
            return SimpleNamespace(oid=oid)

    fake = SimpleNamespace(
        snapshot_download=snapshot_download, HfApi=HfApi, CommitOperationAdd=lambda a, b: (a, b)
    )
    monkeypatch.setitem(sys.modules, "huggingface_hub", fake)
    return made


def moons(seed: int = 0) -> Flow:
    torch.manual_seed(seed)
    flow = innverse.flows.build("realnvp", (2,), layers=2, width=8)
    for p in flow.parameters():  # which start at the same density
        p.data.add_(0.3 * torch.randn_like(p))
    return flow


def test_a_pinned_revision_stays_what_it_was(hub):
    first, second = moons(0), moons(1)
    old = first.push_to_hub("me/moons", **ABOUT).revision
    new = second.push_to_hub("me/moons", **ABOUT).revision
    x = torch.randn(5, 2)
    assert not torch.equal(first.log_prob(x), second.log_prob(x))
    for pinned in (
        innverse.load("me/moons", revision=old),
        innverse.load(f"me/moons@{old}"),
        Flow.from_pretrained("me/moons", revision=old),
    ):
        assert torch.equal(pinned.log_prob(x), first.log_prob(x))
    with pytest.warns(UserWarning, match=f"me/moons@{new}"):
        newest = innverse.load("me/moons")
    assert torch.equal(newest.log_prob(x), second.log_prob(x))
    assert hub["me/moons"]["private"]


def test_the_card_on_the_hub_says_how_to_load_it_from_there(hub, tmp_path):
    done = moons().push_to_hub("me/moons", private=False, **ABOUT)
    assert done.lacks == [] and not hub["me/moons"]["private"]
    card = (tmp_path / "hub/me/moons" / done.revision / "README.md").read_text()
    assert 'innverse.load("me/moons")' in card and "# moons\n" in card
    for told in ("two moons", "CC0-1.0", "python moons.py", "| 1.2500 |", "layers = 2"):
        assert told in card
    assert done.files["README.md"] == len(card.encode())


def test_a_dry_run_sends_nothing_and_needs_no_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    plan = moons().push_to_hub("me/moons", dry_run=True, data="two moons")
    assert plan.revision is None and plan.lacks == ["license", "command", "metrics"]
    assert plan.files["model.safetensors"] > 1000
    with pytest.raises(InnverseError, match=r"innverse\[hub\]"):
        moons().push_to_hub("me/moons", **ABOUT)
    with pytest.raises(InputError, match=r"innverse\[hub\]"):
        innverse.load("me/moons")


@pytest.mark.parametrize("left", ABOUT)
def test_nothing_is_pushed_whose_card_does_not_tell_all(hub, left):
    what = {"data": "data", "license": "license", "command": "command", "metrics": "metrics"}[left]
    with pytest.raises(UsageError, match=f"does not tell its {what}: save_pretrained"):
        moons().push_to_hub("me/moons", **{k: v for k, v in ABOUT.items() if k != left})
    assert hub == {}


@pytest.mark.parametrize("name", ["moons", "a/b/c", "me/..", "../moons", "me/mo ons", ""])
def test_names_that_are_none(hub, name, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(UsageError, match="USER/NAME"):
        moons().push_to_hub(name, **ABOUT)
    assert not list(tmp_path.iterdir())  # "me/.." is no folder to write into


def test_what_the_hub_refuses_is_one_line(hub):
    with pytest.raises(InputError, match=r"cannot fetch 'me/none' from the hub: 404 me/none None$"):
        innverse.load("me/none")
    with pytest.raises(UsageError, match="names a revision already"):
        innverse.load("me/none@abc", revision="def")
    with pytest.raises(InputError, match="no folder with a saved model"):
        innverse.load("../me/none")


def test_a_folder_has_no_revisions(tmp_path):
    moons().save_pretrained(tmp_path)
    with pytest.raises(UsageError, match="for models of the hub"):
        innverse.load(tmp_path, revision="main")


def test_a_card_stays_with_its_weights_and_no_longer(tmp_path):
    moons().save_pretrained(tmp_path / "a", **ABOUT)
    flow = innverse.load(tmp_path / "a", trainable=True)
    flow.save_pretrained(tmp_path / "b")
    assert zoo.card(tmp_path / "b") == zoo.card(tmp_path / "a")
    with torch.no_grad():
        next(flow.parameters()).add_(1.0)
    flow.save_pretrained(tmp_path / "c")
    assert lacks(zoo.card(tmp_path / "c")) == ["data", "license", "command", "metrics"]


def test_pictures_of_the_card_go_with_it_and_nothing_else(hub, tmp_path):
    folder = tmp_path / "run" / "model"
    moons().save_pretrained(folder, **ABOUT)
    with (folder / "README.md").open("a") as card:
        card.write("\n![samples](samples.png)\n![no](../secret.png)\n")
    (folder / "samples.png").write_bytes(b"picture")
    (folder / "secret.txt").write_text("mine")
    assert push(folder, "me/moons").files.keys() == {
        "README.md", "config.json", "model.safetensors", "samples.png",
    }  # fmt: skip


@pytest.mark.parametrize("name", zoo.names())
def test_the_shipped_cards_tell_all(name):
    assert lacks(zoo.card(name)) == []


def test_the_card_of_a_training_tells_all_but_where_it_ran(tmp_path):
    from innverse.train import load_config, train

    small = {"levels": 1, "steps": 1, "hidden": 8}
    settings = {f"model.{k}": v for k, v in small.items()}
    settings |= {"data.path": "digits", "data.license": "CC BY 4.0", "train.steps": 2}
    config = load_config(overrides=settings | {"train.eval_images": 8})
    command = "innverse train --data=/home/me/patients/digits --out /home/me/runs/x --seed 1"
    outcome = train(config, tmp_path / "run", quiet=True, command=command)
    card = zoo.card(outcome.model)
    assert lacks(card) == [] and "/home" not in card
    assert "Command: `innverse train --data=digits --out x --seed 1`" in card


def test_on_the_command_line(hub, tmp_path, monkeypatch, capsys):
    from innverse.cli import main

    moons().save_pretrained(tmp_path / "run" / "model", **ABOUT)
    shutil.copy(tmp_path / "run" / "model" / "config.json", tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    assert main(["push", "run", "me/moons", "--dry-run"]) == 0 and hub == {}
    assert "me/moons/model.safetensors" in capsys.readouterr().out
    assert main(["push", "run", "me/moons"]) == 0
    (commit,) = hub["me/moons"]["commits"]
    assert f'innverse.load("me/moons", revision="{commit}")' in capsys.readouterr().out
    assert main(["push", "run", "moons"]) == 2


def test_the_package_takes_what_is_asked_of_it():
    """That the fake above is like the real one, where that is installed."""
    real = pytest.importorskip("huggingface_hub")
    wanted = {
        real.snapshot_download: {"revision", "allow_patterns"},
        real.HfApi.create_repo: {"repo_id", "private", "exist_ok"},
        real.HfApi.create_commit: {"repo_id", "operations", "commit_message"},
    }
    for function, names in wanted.items():
        assert names <= inspect.signature(function).parameters.keys()
    operation = real.CommitOperationAdd("README.md", b"text")
    assert operation.path_in_repo == "README.md" and operation.path_or_fileobj == b"text"
    assert "oid" in real.CommitInfo.__dataclass_fields__


@pytest.mark.slow
def test_the_real_package_fetches_what_is_pinned(tmp_path):
    """From a server on this machine that answers as the hub does; then without it, from the cache."""
    pytest.importorskip("huggingface_hub")
    commits = {}
    for seed, commit in enumerate(("a" * 40, "b" * 40)):
        moons(seed).save_pretrained(tmp_path / commit)
        commits[commit] = {p.name: p.read_bytes() for p in (tmp_path / commit).iterdir()}
    newest = "b" * 40

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self):
            self.do_GET()

        def do_GET(self):
            path = self.path.split("?")[0]
            at = path.split("/")[6 if path.startswith("/api") else 4] if path.count("/") > 4 else ""
            at, name = newest if at in ("main", "") else at, path.split("/")[-1]
            found = commits.get(at, {})
            if path.startswith("/api/models/me/moons/revision/") and found:
                siblings = [{"rfilename": name} for name in found]
                body = json.dumps({"id": "me/moons", "sha": at, "siblings": siblings}).encode()
            elif path.startswith("/api/models/me/moons/tree/") and found:
                tree = [
                    {"type": "file", "path": n, "size": len(b), "oid": n} for n, b in found.items()
                ]
                body = json.dumps(tree).encode()
            else:
                body = found.get(name, b"")
            self.send_response(200 if body else 404)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("X-Repo-Commit", at)
            self.send_header("ETag", f'"{hashlib.sha1(body).hexdigest()}"')
            self.end_headers()
            self.wfile.write(body if self.command == "GET" else b"")

        def log_message(self, *words):
            pass

    code = """
import sys, warnings, torch, innverse
warnings.simplefilter("ignore")
for name in sys.argv[1:]:
    print(innverse.load(name).log_prob(torch.ones(1, 2)).item())
"""

    def loaded(*names, **variables) -> list[float]:
        variables |= {"HF_HOME": str(tmp_path / "cache"), "INNVERSE_NATIVE": "0"}
        done = subprocess.run(
            [sys.executable, "-c", code, *names],
            env=os.environ | variables, capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return [float(line) for line in done.stdout.split()]

    first, second = (moons(seed).log_prob(torch.ones(1, 2)).item() for seed in (0, 1))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        here = f"http://127.0.0.1:{server.server_port}"
        found = loaded("me/moons", f"me/moons@{'a' * 40}", HF_ENDPOINT=here)
    finally:
        server.shutdown()
        server.server_close()
    assert found == pytest.approx([second, first], rel=1e-5) and first != second
    again = loaded(f"me/moons@{'a' * 40}", HF_ENDPOINT=here, HF_HUB_OFFLINE="1")
    assert again == found[1:]
