"""The entry point: help, errors, exit codes."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

import innverse.cli.info
from innverse.cli.entry import VERBS, main
from innverse.errors import InputError


def test_help_lists_all_verbs(run):
    code, out, _ = run("--help")
    assert code == 0
    assert all(f" {verb} " in out for verb in VERBS)
    assert run()[1] == out  # without arguments too


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("slove",), "did you mean solve"),
        (("xyzzy",), "choose"),
        (("info", "--jsn"), "--jsn"),
        (("solve", "a.png"), "--physics"),
        (("solve", "a.png", "--physics", "blur", "--out", "r", "--steps", "many"), "many"),
        (("solve", "a.png", "--physics", "blur", "--out", "r", "--boundary", "soft"), "soft"),
    ],
)
def test_usage_errors_are_one_line(run, argv, words):
    code, out, err = run(*argv)
    assert code == 2 and out == ""
    assert err.startswith("innverse: ") and err.count("\n") == 1 and words in err


@pytest.mark.parametrize(
    ("error", "expected", "words"),
    [
        (InputError("the photo\nis torn"), 4, "innverse: the photo is torn\n"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (ZeroDivisionError("oh"), 1, "unexpected ZeroDivisionError: oh (-v shows"),
        (MemoryError(), 1, "out of memory"),
    ],
)
def test_errors_inside_a_verb(run, monkeypatch, error, expected, words):
    def fail(json):
        raise error

    monkeypatch.setattr(innverse.cli.info, "_overview", fail)
    code, _, err = run("info")
    assert code == expected and words in err and err.count("\n") == 1
    if isinstance(error, Exception):
        code, _, err = run("info", "-v")
        assert code == expected and "Traceback" in err


def test_module_and_closed_pipe(tmp_path):
    """A reader that leaves early is no error worth a message."""
    command = [sys.executable, "-m", "innverse", "info", "glow"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path
    )
    process.stdout.close()
    _, err = process.communicate(timeout=120)
    assert err == b"" and process.returncode == 141


def test_unknown_configuration_key(run, tmp_path):
    config = tmp_path / "c.toml"
    config.write_text('[data]\npath = "digits"\n[train]\nstesp = 3\n')
    code, _, err = run("train", config, "--out", tmp_path / "r")
    assert code == 2 and "steps" in err and err.count("\n") == 1


def test_main_takes_arguments_of_the_process(monkeypatch, capfd):
    monkeypatch.setattr(sys, "argv", ["innverse", "--version"])
    assert main() == 0
    assert capfd.readouterr().out.strip() == innverse.__version__


@pytest.mark.parametrize("verb", [*VERBS, "eval denoise", "eval inpaint", "reproduce asim2020"])
def test_help_flows_and_has_an_example(verb, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "3000")
    assert main([*verb.split(), "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"Usage: innverse {verb}")
    if verb not in ("eval", "reproduce"):
        assert f"\ninnverse {verb}" in shown, "an example to copy"
    inside = [line.strip("│ ").strip("* ") for line in shown.splitlines() if line.startswith("│")]
    assert all(re.match(r"--|[A-Z]+ |\w+  ", line) for line in inside), (
        "no line breaks in sentences"
    )
    assert "default: False" not in shown and "default: None" not in shown and "[[" not in shown
