"""Kernels are compiled once, kept whole, and their absence has the right reason."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from innverse.accelerate.native import Unavailable, build


@pytest.fixture
def cache(monkeypatch, tmp_path):
    """An empty cache, and a compiler that copies a library made before."""
    try:
        ready = Path(build.load("affine")._name)
    except Unavailable as why:
        pytest.skip(f"no C++ kernel here: {why}")
    compiler = tmp_path / "compiler"
    compiler.write_text(
        f"#!{sys.executable}\nimport shutil, sys\n"
        f"shutil.copy({str(ready)!r}, sys.argv[sys.argv.index('-o') + 1])\n"
        f"open({str(tmp_path / 'log')!r}, 'a').write('compiled\\n')\n"
    )
    compiler.chmod(0o700)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.delenv("INNVERSE_NATIVE", raising=False)
    monkeypatch.setattr(build, "_gave_up", {})
    for cached in (build.load, build._announce):
        cached.cache_clear()
    yield tmp_path / "cache" / "innverse"
    build.load.cache_clear()


def compilations(cache):
    log = cache.parents[1] / "log"
    return log.read_text().count("compiled") if log.exists() else 0


def load():
    build.load.cache_clear()
    return Path(build.load("affine")._name)


def script(cache, text):
    path = cache.parents[1] / "other"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o700)
    return str(path)


def test_it_is_compiled_once_and_says_so_once(cache, capfd):
    library = load()
    assert load() == library and compilations(cache) == 1
    said = capfd.readouterr().err
    assert said.count("\n") == 1 and "compiling" in said and "INNVERSE_NATIVE=0" in said
    assert [p.name for p in cache.iterdir()] == [library.name]


@pytest.mark.parametrize(
    "size",
    [4096, *(pytest.param(n, marks=pytest.mark.slow) for n in (0, 1, -1))],
)
def test_half_a_library_is_made_again_and_not_loaded(cache, size):
    """In a process of its own: loading one would end it."""
    library = load()
    content = library.read_bytes()
    library.unlink()  # not over the file that is loaded here
    library.write_bytes(content[:size])
    code = "from innverse.accelerate.native import build; print(build.load('affine')._name)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, str(library))
    assert library.read_bytes() == content


@pytest.mark.slow
def test_several_processes_at_once(cache):
    code = "from innverse.accelerate.native import build; build.load('affine')"
    many = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [p.wait() for p in many] == [0, 0, 0]
    assert len(list(cache.iterdir())) == 1


def test_old_versions_go_and_recent_ones_stay(cache):
    cache.mkdir(parents=True, mode=0o700)
    month = 31 * 24 * 3600
    for i in range(12):
        (cache / f"affine-{i}.so").touch()
        os.utime(cache / f"affine-{i}.so", (time.time() - 60 * (i + 1),) * 2)
    (cache / "affine-old.so").touch()
    os.utime(cache / "affine-old.so", (time.time() - month,) * 2)
    (cache / "spline-0.so").touch()
    (cache / "making-x").mkdir()
    os.utime(cache / "making-x", (time.time() - month,) * 2)
    library = load()
    left = {p.name for p in cache.iterdir()}
    assert left == {library.name, "spline-0.so", *(f"affine-{i}.so" for i in range(7))}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("echo 'x.cpp:1: error: no such thing' >&2; exit 1", "no such thing"),
        ("exit 3", "exit code 3"),
        ("exit 0", "exit code 0"),
        ("kill -SEGV $$", "signal 11"),
        ("echo 'No space left on device' >&2; exit 1", "No space left"),
    ],
)
def test_a_compiler_that_fails_is_the_reason(cache, monkeypatch, text, why):
    monkeypatch.setenv("CXX", script(cache, text))
    with pytest.raises(Unavailable, match=why):
        load()
    assert list(cache.iterdir()) == []


def test_a_compiler_that_hangs_is_given_up_with_all_that_it_started(cache, monkeypatch):
    monkeypatch.setattr(build, "_PATIENCE", 0.5)
    monkeypatch.setenv("CXX", script(cache, "sleep 600 & wait"))
    started = time.monotonic()
    for name in ("affine", "spline"):
        with pytest.raises(Unavailable, match="not done after"):
            build.load(name)
    assert time.monotonic() - started < 60  # not the ten minutes that its child would sleep


def test_other_reasons_are_not_blamed_on_the_compiler(cache, monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(Unavailable, match="no-such-compiler"):
        load()
    monkeypatch.setenv("INNVERSE_NATIVE", "0")
    with pytest.raises(Unavailable, match="turned off"):
        load()
    monkeypatch.delenv("INNVERSE_NATIVE")
    cache.chmod(0o777)
    with pytest.raises(Unavailable, match="written by others"):
        load()
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(Unavailable, match=r"cache folder .* XDG_CACHE_HOME names another"):
        load()

    def full(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    monkeypatch.setattr(build.tempfile, "TemporaryDirectory", full)
    with pytest.raises(Unavailable, match="cache folder .*No space left"):
        load()


def test_a_relative_cache_folder_counts_as_none(cache, monkeypatch, tmp_path):
    """Else code would be loaded from wherever the process runs."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    library = load()
    assert library.parent == tmp_path / "home" / ".cache" / "innverse"
    assert stat.S_IMODE(library.parent.stat().st_mode) == 0o700
    monkeypatch.setenv("HOME", "home")
    with pytest.raises(Unavailable, match="no home folder"):
        load()
    assert not (tmp_path / "here").exists()


def test_temporary_files_of_the_compiler_lie_beside_its_result(cache, monkeypatch):
    monkeypatch.setenv("TMPDIR", "/nonexistent")
    monkeypatch.setenv("CXX", script(cache, 'test -w "$TMPDIR" || exit 9; exit 7'))
    with pytest.raises(Unavailable, match="exit code 7"):
        load()
