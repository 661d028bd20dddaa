"""What the README and docs/ show runs as a reader would paste it, and every command they show is one.

Python: page by page, from top to bottom, in an empty folder and a namespace of its own, with nothing
given. A block that takes long stands below the line ``<!-- slow -->`` in the page, one of another
library below ``<!-- needs PACKAGE -->``: slow tests run it where the package is installed.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from innverse.cli.entry import VERBS, build_app

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
MADE = ("_build", "gallery", "reference", "benchmarks")  # of the site, by `make docs`
COPIES = ("changelog.md", "contributing.md")
WRITTEN = [
    page
    for page in sorted(DOCS.rglob("*.md"))
    if page.relative_to(DOCS).parts[0] not in MADE and page.name not in COPIES
]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *WRITTEN]
_BLOCK = re.compile(r"^(<!-- (?:slow|needs (\w+)) -->\n+)?```python\n(.*?)^```", re.S | re.M)


def blocks(page: Path) -> list[tuple[str, str]]:
    """(mark, code) of the python blocks, the mark "", "slow" or the package that the block needs.

    Every fence that looks like one must be found.
    """
    text = page.read_text("utf-8")
    found = [
        (package or ("slow" if mark else ""), code) for mark, package, code in _BLOCK.findall(text)
    ]
    assert len(found) == text.count("```py")
    return found


def commands(text: str) -> list[str]:
    """The command lines in fenced blocks, in indented ones, and between single backticks."""
    text = text.replace("\\\n", " ")  # a command may go on in the next line
    fenced = re.findall(r"^```sh\n(.*?)^```", text, re.S | re.M)
    rest = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    indented = re.findall(r"^ {4}\S.*", rest, re.M)
    lines = "\n".join([*fenced, *indented]).splitlines()
    inline = re.findall(r"`([^`]+)`", re.sub(r"\s+", " ", rest))
    return [line.strip() for line in [*lines, *inline]]


SHOWN = sorted({(page.name, line) for page in PAGES for line in commands(page.read_text("utf-8"))})
VERBS_SHOWN = [
    (page, line) for page, line in SHOWN if re.match(r"innverse \w|.* -m innverse ", line)
]


def _name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p)], ids=_name)
def test_python_blocks_run_as_pasted(page, tmp_path, monkeypatch):
    run([code for mark, code in blocks(page) if not mark], page, tmp_path, monkeypatch)


SLOW = [p for p in PAGES if any(mark == "slow" for mark, _ in blocks(p))]


@pytest.mark.slow
@pytest.mark.parametrize("page", SLOW, ids=_name)
def test_slow_python_blocks_run_as_pasted_too(page, tmp_path, monkeypatch):
    run([code for mark, code in blocks(page) if mark in ("", "slow")], page, tmp_path, monkeypatch)


PEERS = sorted({(p, mark) for p in PAGES for mark, _ in blocks(p) if mark not in ("", "slow")})


@pytest.mark.slow
@pytest.mark.parametrize(("page", "package"), PEERS, ids=str)
def test_blocks_of_other_libraries_run_where_these_are_installed(
    page, package, tmp_path, monkeypatch
):
    pytest.importorskip(package)
    code = [code for mark, code in blocks(page) if mark in ("", package)]
    run(code, page, tmp_path, monkeypatch)


def run(code: list[str], page: Path, folder: Path, monkeypatch) -> None:
    from innverse.flows import registry

    registry.FLOWS.names()  # loads what is registered by the package itself
    for name in ("FLOWS", "NETWORKS", "TRANSFORMS"):  # what a page registers is forgotten again
        monkeypatch.setattr(
            getattr(registry, name), "_builders", dict(getattr(registry, name)._builders)
        )
    monkeypatch.chdir(folder)
    scope = {"__name__": "__main__"}
    for block in code:
        exec(compile(block, page.name, "exec"), scope)


def test_the_commands_of_the_pages_are_found():
    verbs = {line.split("innverse ")[1].split()[0] for _, line in VERBS_SHOWN}
    assert verbs == set(VERBS), "every verb is shown, and none that is not there"


@pytest.mark.parametrize(("page", "line"), VERBS_SHOWN, ids=lambda text: text[:50])
def test_shown_commands_have_the_options_that_they_are_shown_with(page, line):
    tokens = shlex.split(line[line.index("innverse") :], comments=True)[1:]
    for token in tokens:
        if token.startswith("configs/"):
            assert (ROOT / token).is_file()
    if len(tokens) == 1 or "..." in tokens:  # the name of a verb in a sentence
        assert tokens[0] in VERBS
    else:
        build_app(tokens[0]).parse_args(tokens, exit_on_error=False, print_error=False)


def test_shown_scripts_and_targets_exist():
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.M)
    for page, line in SHOWN:
        for file in re.findall(r"(?<![\w/])(?:benchmarks|configs|requirements)/[\w/-]+\.\w+", line):
            assert (ROOT / file).is_file(), f"{page}: {line}"
        for target in re.findall(r"^make ([a-z-]+)", line):
            assert target in targets, f"{page}: {line}"


@pytest.mark.slow
def test_the_picture_of_the_readme_is_drawn_by_its_command(monkeypatch, tmp_path, capsys):
    pytest.importorskip("skimage")
    monkeypatch.syspath_prepend(str(DOCS))
    from readme_picture import main

    small = ["--side", "8", "--draws", "8", "--warmup", "4", "--out", str(tmp_path / "bar.png")]
    monkeypatch.setattr("sys.argv", ["readme_picture.py", *small])
    main()
    shares = re.findall(
        r"intervals of 90 % hold (\d+) % of the true pixels", capsys.readouterr().out
    )
    assert len(shares) == 1 and (tmp_path / "bar.png").stat().st_size > 1000
    assert (DOCS / "img" / "error_bar.png").stat().st_size < 150_000


def test_the_badges_say_what_the_project_declares(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    from badges import made

    readme = (ROOT / "README.md").read_text("utf-8")
    for file, text in made().items():
        assert file.read_text("utf-8") == text, "run python docs/badges.py"
        assert f"](docs/img/{file.name})" in readme
    assert not re.search(r"!\[[^]]*\]\(http", readme), "a badge of another host says what it likes"
    assert "Python 3.11, 3.12, 3.13" in readme and "PyTorch 2.11 or newer" in readme


_FACES = (
    "innverse sample faces64 --grid 6x6 --temperature 0.7 --sigma 0.02 --denoise --seed 0 "
    "--out faces.png"
)


@pytest.mark.parametrize(
    "line",
    [
        "innverse doctor",
        pytest.param(_FACES, marks=pytest.mark.slow),
        pytest.param("innverse train configs/digits.toml", marks=pytest.mark.slow),
        pytest.param("innverse compare --data digits", marks=pytest.mark.slow),
    ],
)
def test_commands_that_need_nothing_of_the_reader_run(cli, tmp_path, line):
    assert any(line == shown.split("  #")[0].strip() for _, shown in SHOWN)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    done = cli(*shlex.split(line)[1:], timeout=600)
    assert done.returncode == 0, done.stderr
