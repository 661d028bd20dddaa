"""release/release.py: what is published is what was built, summed up, signed, and told truly."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest

import innverse

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "release" / "release.py"

if not SCRIPT.exists():
    pytest.skip("the release is made in a checkout", allow_module_level=True)


@pytest.fixture(scope="module")
def release():
    spec = importlib.util.spec_from_file_location("release_script", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    spec.loader.exec_module(module)
    sys.path[:] = before
    return module


def test_the_version_is_one(release, tmp_path, monkeypatch):
    assert release.version() == innverse.__version__
    for name in ("src/innverse/__init__.py", "CITATION.cff"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text((ROOT / name).read_text())
    cited = tmp_path / "CITATION.cff"
    cited.write_text(cited.read_text().replace(f"version: {innverse.__version__}", "version: 9.9"))
    monkeypatch.setattr(release, "ROOT", tmp_path)
    with pytest.raises(release.Failed, match=r"CITATION.cff names another version"):
        release.version()


CHANGES = """# Changelog

Prose.

## Unreleased

{}
## [1.1.0] - 2026-01-01

### Added
- b

## 1.0.0
- a
"""


def test_notes_are_the_section_of_the_version(release):
    notes, own = release.notes(CHANGES.format(""), "1.1.0")
    assert own and notes == "# innverse 1.1.0\n\n### Added\n- b\n"
    assert release.notes(CHANGES.format(""), "1.0.0") == ("# innverse 1.0.0\n\n- a\n", True)


def test_notes_of_what_has_no_section_yet(release):
    assert release.notes(CHANGES.format("- c\n"), "2.0.0") == ("# innverse 2.0.0\n\n- c\n", False)
    with pytest.raises(release.Failed, match=r"nothing about 2\.0\.0"):
        release.notes(CHANGES.format(""), "2.0.0")


def test_there_is_something_to_tell_of_this_version(release):
    notes, _ = release.notes((ROOT / "CHANGELOG.md").read_text(), release.version())
    assert "### Added" in notes and "## Unreleased" not in notes


def test_the_pythons_are_those_that_the_package_promises(release):
    lowest = release.PROJECT["requires-python"].removeprefix(">=")
    assert release.PYTHONS[0] == lowest and len(release.PYTHONS) >= 3


def test_before_publishing_it_says_what_is_left(release, monkeypatch):
    answers = {"status": " M README.md", "tag": "v0.9"}
    monkeypatch.setattr(release, "call", lambda *words: answers[words[1]])
    assert len(release.reminders("v1.0", False, False, ["Python 3.13: none"])) == 5
    answers = {"status": "", "tag": "v1.0\nlatest"}
    assert release.reminders("v1.0", True, True, []) == []


@pytest.fixture
def dist(release, tmp_path):
    (tmp_path / "innverse-1.0.tar.gz").write_bytes(b"source")
    (tmp_path / "NOTES.md").write_text("new")
    return release.write_sums(tmp_path)


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs sha256sum")
def test_sums_find_what_was_changed(dist):
    check = ["sha256sum", "--check", "--strict", dist.name]
    done = subprocess.run(check, cwd=dist.parent, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.count(": OK") == 2
    (dist.parent / "NOTES.md").write_text("news")
    assert subprocess.run(check, cwd=dist.parent, capture_output=True).returncode != 0


@pytest.mark.skipif(shutil.which("gpg") is None, reason="needs gpg")
def test_a_signature_is_of_the_key_and_of_these_sums(release, dist, monkeypatch):
    with tempfile.TemporaryDirectory(prefix="g") as home:  # short: a socket lies in it
        monkeypatch.setenv("GNUPGHOME", home)
        os.chmod(home, 0o700)
        new = ["gpg", "--batch", "--passphrase", "", "--quick-generate-key", "t@example.org"]
        subprocess.run([*new, "ed25519"], check=True, capture_output=True)
        try:
            with pytest.raises(release.Failed, match=r"gpg .* failed"):
                release.sign(dist, "nobody@example.org")
            signature = release.sign(dist, "t@example.org")
            assert signature.read_text().startswith("-----BEGIN PGP SIGNATURE-----")
            dist.write_text(dist.read_text().upper())
            verify = ["gpg", "--batch", "--verify", str(signature), str(dist)]
            assert subprocess.run(verify, capture_output=True).returncode != 0
        finally:
            subprocess.run(["gpgconf", "--kill", "all"], capture_output=True)


@pytest.mark.slow
def test_the_sdist_makes_the_wheel_and_has_no_faces(release, tmp_path):
    sdist, wheel, faces = release.build(tmp_path)
    assert {sdist, wheel, faces} == {*tmp_path.iterdir()}
    with tarfile.open(sdist) as archive:
        names = archive.getnames()
    assert any(name.endswith("/src/innverse/py.typed") for name in names)
    assert not any("innverse_faces" in name for name in names)
    assert max(p.stat().st_size for p in (sdist, wheel)) < 10 * 2**20
