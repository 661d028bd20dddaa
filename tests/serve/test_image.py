"""The Dockerfile says what docs/serve.md promises: pinned, without rights, healthy when it answers."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from innverse.cli.entry import VERBS, build_app

ROOT = Path(__file__).parents[2]
FILE = ROOT / "Dockerfile"

if not FILE.exists():
    pytest.skip("the Dockerfile is not in the sdist", allow_module_level=True)


def instructions() -> list[tuple[str, str]]:
    """(INSTRUCTION, words) in order, with lines joined and comments left out."""
    lines = [line for line in FILE.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    found = [line.split(maxsplit=1) for line in joined.splitlines() if line.strip()]
    return [(name, words.strip()) for name, words in found]


def last_stage() -> dict[str, list[str]]:
    stage: dict[str, list[str]] = {}
    for name, words in instructions():
        stage = {} if name == "FROM" else stage
        stage.setdefault(name, []).append(words)
    return stage


def test_every_base_is_pinned_to_its_digest():
    bases = [words.split()[0] for name, words in instructions() if name == "FROM"]
    assert len(bases) == 2 and len(set(bases)) == 1
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+@sha256:[0-9a-f]{64}", bases[0])


def test_it_runs_as_a_user_that_is_not_root_and_owns_nothing():
    stage = last_stage()
    (user,) = stage["USER"]
    assert int(user.split(":")[0]) >= 1000
    assert f"--uid {user.split(':')[0]} " in stage["RUN"][0]
    assert "sudo" not in FILE.read_text()
    assert all("--chown" not in words for words in stage["COPY"])
    assert stage["WORKDIR"] == ["/tmp"], "the one place that is writable under --read-only"


def test_it_starts_the_server_on_the_port_that_it_names_and_asks_for_health_there():
    stage = last_stage()
    (start,) = map(json.loads, stage["ENTRYPOINT"])
    assert start[:2] == ["innverse", "serve"] and "serve" in VERBS
    app = build_app("serve")
    _, bound, _ = app.parse_args(start[1:], print_error=False, exit_on_error=False)
    assert bound.arguments["host"] == "0.0.0.0"
    (port,) = stage["EXPOSE"]
    assert bound.arguments["port"] == int(port)
    (health,) = stage["HEALTHCHECK"]
    assert f"127.0.0.1:{port}/health" in health and " CMD [" in health
    compile(json.loads(health.partition("CMD ")[2])[2], "health", "exec")


def test_packages_come_with_hashes_and_torch_as_in_the_set_up():
    installs = [w for n, w in instructions() if n == "RUN" and "pip install" in w]
    torch, locked, own = installs
    assert "torch.txt" in torch and "+cpu" in torch
    assert "--require-hashes -r requirements/serve.lock" in locked
    assert all("--no-deps" in line for line in installs) and "./release/faces" in own


def test_what_is_copied_is_there_and_not_ignored():
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    kept = [line[1:] for line in ignore if line.startswith("!")]
    assert "*" in ignore, "nothing comes in but what is named"
    for name, words in instructions():
        if name != "COPY" or "--from" in words:
            continue
        for source in shlex.split(words)[:-1]:
            assert (ROOT / source).exists(), source
            assert any(source == k or source.startswith(f"{k}/") for k in kept), source


def test_the_token_may_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("INNVERSE_TOKEN", "from the environment")
    app = build_app("serve")
    _, bound, _ = app.parse_args(["serve"], print_error=False, exit_on_error=False)
    assert bound.arguments["token"] == "from the environment"
