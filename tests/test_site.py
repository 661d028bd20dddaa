"""The documentation site: its links, the pages that are made, and the scripts of its gallery."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import innverse

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
LECTURE = sorted((DOCS / "lecture").glob("plot_*.py"))


@pytest.fixture
def docs(monkeypatch):
    """The modules beside conf.py can be imported."""
    monkeypatch.syspath_prepend(str(DOCS))


# ---- links --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("html", "said"),
    [
        ('<a href="other.html#here">', None),
        ('<a href="https://elsewhere.org">', None),
        ('<a href="gone.html">', "no gone.html"),
        ('<a href="other.html#gone">', "no anchor other.html#gone"),
        ('<script src="https://cdn.org/x.js">', "loads https://cdn.org/x.js"),
        ('<link rel="stylesheet" href="//cdn.org/x.css">', "loads //cdn.org/x.css"),
        ('<img src="gone.png">', "no gone.png"),
    ],
)
def test_dead_links_and_foreign_hosts_are_found(docs, tmp_path, html, said):
    from check_links import mistakes

    (tmp_path / "index.html").write_text(html, "utf-8")
    (tmp_path / "other.html").write_text('<p id="here">', "utf-8")
    found = mistakes(tmp_path)
    assert (len(found) == 0) if said is None else (len(found) == 1 and said in found[0])


def test_links_to_files_of_the_repository_become_links_to_their_pages(docs):
    from site_pages import relink

    text = "[a](../benchmarks/results/toys.md#x) [b](../CONTRIBUTING.md) [c](flows.md)\n"
    code = "```python\nlayers[0](../CONTRIBUTING.md)\n```\n"
    made = relink(text + code, DOCS, DOCS)
    assert made == ("[a](benchmarks/toys.md#x) [b](about/contributing.md) [c](flows.md)\n" + code)
    here = relink("[d](docs/flows.md) [e](README.md)", ROOT, DOCS / "about")
    assert here == "[d](../flows.md) [e](../index.md)"


# ---- reference ----------------------------------------------------------------------------------


def test_the_reference_has_every_room_and_every_public_name(docs):
    import site_reference

    from test_doctests import ROOMS, public

    assert set(ROOMS) <= set(site_reference.ROOMS)
    for room in ROOMS:
        assert set(public(room)) <= set(site_reference.public(room))


def test_mathematics_in_docstrings_is_no_markup(docs):
    from site_reference import escape

    lines = ["log|det| of ``a|b`` and x*", ">>> f(*args) | g"]
    escape(None, "", "", None, None, lines)
    assert lines == ["log\\|det\\| of ``a|b`` and x\\*", ">>> f(*args) | g"]


# ---- gallery ------------------------------------------------------------------------------------


def test_the_lecture_has_its_scripts_and_each_says_what_it_shows():
    assert 15 <= len(LECTURE) <= 20
    for script in LECTURE:
        title, line = ast.get_docstring(ast.parse(script.read_text("utf-8"))).split("\n")[:2]
        assert line == "=" * len(title), script.name


def test_pages_link_to_scripts_that_exist():
    names = {script.stem for script in LECTURE}
    pages = [page.read_text("utf-8") for page in DOCS.rglob("*.md")]
    linked = set(re.findall(r"gallery/(plot_\w+)\.rst", "\n".join(pages)))
    assert len(linked) > 10 and linked <= names


@pytest.mark.slow
@pytest.mark.parametrize("script", LECTURE, ids=lambda f: f.stem)
def test_scripts_of_the_lecture_run(script, tmp_path):
    for package in ("skimage", "matplotlib", "sklearn"):
        if find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    environment = {**os.environ, "MPLBACKEND": "agg", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


# ---- citation -----------------------------------------------------------------------------------


def test_what_is_cited_is_this_version():
    assert f"version: {innverse.__version__}\n" in (ROOT / "CITATION.cff").read_text("utf-8")
    assert f"{{{innverse.__version__}}}" in (DOCS / "about" / "cite.md").read_text("utf-8")
