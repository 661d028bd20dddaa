"""What a release consists of, in dist/: built, checked, summed up. Nothing is uploaded.

    make release                             in each supported Python that is here
    make release SIGN=KEY                    SHA256SUMS signed by gpg; KEY as for gpg --local-user
    make release ARGS="--python 3.11"        checked in this one alone

The wheel made of the sdist must be the one made of the checkout. Each check is a fresh environment with
the CPU build of torch and what pip installs beside the wheel, used without and with innverse-faces.
Where no CPU build of torch is in reach, pip brings what it brings every user: on Linux the newest CUDA
build, 5 GB for the time of the check.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

from versions import NotHere, find_python  # noqa: E402  (beside the matrix of versions)

FACES = ROOT / "release" / "faces"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PYTHONS = [c.split()[-1] for c in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", c)]
TORCH = re.search(r"^torch==\S+", (ROOT / "requirements" / "torch.txt").read_text(), re.M)[0]
TORCH_INDEX = os.environ.get("INNVERSE_TORCH_INDEX", "https://download.pytorch.org/whl/cpu")
SUMS = "SHA256SUMS"

# What users are told first, and a picture repaired with the small models
WITHOUT_FACES = """
import sys, innverse
assert innverse.__version__ == sys.argv[1], innverse.__version__
try:
    innverse.load("faces64")
except innverse.errors.UsageError as error:
    assert "pip install innverse-faces" in str(error), error
else:
    sys.exit("faces64 is here without its package")
"""
WITH_TORCH = """
import torch, innverse
flow = innverse.load("natural-gray").at(0.05)
x = flow.sample(1, temperature=0.5, generator=torch.Generator().manual_seed(0))[..., :32, :32]
assert (flow.decode(flow.encode(x)) - x).abs().max() < 1e-3
mask = (torch.rand(1, 1, 32, 32, generator=torch.Generator().manual_seed(0)) > 0.3).float()
found = innverse.solve(mask * x, innverse.physics.Inpainting(mask), prior="natural-gray")
assert (found.x - x).square().mean() < (mask * x - x).square().mean(), "nothing was repaired"
print(torch.__version__)
"""


class Failed(Exception):
    """Why there is no release, in one line."""


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def call(*command: str | Path, cwd: Path = ROOT, **variables: str) -> str:
    """What a command prints.

    Raises:
        Failed: it fails; the last line that it wrote.
    """
    words = [str(word) for word in command]
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(words, cwd=cwd, env=clean | variables, capture_output=True, text=True)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no output"]
        raise Failed(f"{Path(words[0]).name} {' '.join(words[1:4])} failed: {lines[-1]}")
    return done.stdout.strip()


# ---- what it is called, and what is new ---------------------------------------------------------


def version() -> str:
    """That of `innverse.__version__`, with which CITATION.cff must agree.

    Raises:
        Failed: it does not.
    """
    text = (ROOT / "src" / "innverse" / "__init__.py").read_text()
    found = re.search(r'^__version__ = "(.+)"$', text, re.M)[1]
    cited = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.M)
    if cited is None or cited[1] != found:
        raise Failed(f"CITATION.cff names another version than {found}, that of the package")
    return found


def notes(changelog: str, version: str) -> tuple[str, bool]:
    """What the changelog says of a version, and whether it has a section of its own; otherwise what is
    unreleased.

    Raises:
        Failed: it has neither, or an empty one.
    """
    parts = re.split(r"^## (.+)\n", changelog, flags=re.M)
    sections = {title.split()[0].strip("[]"): body for title, body in zip(parts[1::2], parts[2::2])}
    own = version in sections
    text = sections.get(version if own else "Unreleased", "").strip()
    if not text:
        raise Failed(f"CHANGELOG.md has nothing about {version}, and nothing unreleased")
    return f"# innverse {version}\n\n{text}\n", own


def reminders(tag: str, own_notes: bool, signed: bool, left_out: list[str]) -> list[str]:
    """What to see to before these files are published."""
    found = []
    if call("git", "status", "--porcelain"):
        found.append("the checkout has changes that are not committed")
    if tag not in call("git", "tag", "--points-at", "HEAD").split():
        found.append(f"this commit is not tagged {tag}")
    if not own_notes:
        found.append("the notes are those of 'Unreleased': give that section its version and date")
    if not signed:
        found.append(f"{SUMS} is not signed: make release SIGN=KEY")
    return found + left_out


# ---- files --------------------------------------------------------------------------------------


def build(out: Path) -> tuple[Path, Path, Path]:
    """(sdist, wheel, wheel of the faces), the same bytes whenever they are made of the same commit.

    Raises:
        Failed: a build fails, or the sdist makes another wheel than the checkout.
    """
    epoch = {"SOURCE_DATE_EPOCH": call("git", "log", "-1", "--format=%ct")}

    def hatch(folder: Path, target: str, to: Path) -> Path:
        before = {*to.iterdir()}
        call(
            sys.executable, "-m", "hatchling", "build", "-t", target, "-d", to, cwd=folder, **epoch
        )
        (made,) = {*to.iterdir()} - before
        return made

    sdist, wheel = hatch(ROOT, "sdist", out), hatch(ROOT, "wheel", out)
    faces = hatch(FACES, "wheel", out)
    with tempfile.TemporaryDirectory() as place:
        with tarfile.open(sdist) as archive:
            archive.extractall(place, filter="data")
        (tree,) = Path(place).iterdir()
        again = hatch(tree, "wheel", Path(place))
        if again.read_bytes() != wheel.read_bytes():
            raise Failed("the sdist makes another wheel than the checkout")
    return sdist, wheel, faces


def write_sums(out: Path) -> Path:
    """SHA256SUMS of all files, as `sha256sum -c` reads them."""
    files = sorted(p for p in out.iterdir() if not p.name.startswith(SUMS))
    lines = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.name}\n" for p in files]
    (out / SUMS).write_text("".join(lines))
    return out / SUMS


def sign(sums: Path, key: str) -> Path:
    """SHA256SUMS.asc, by gpg; verified at once.

    Raises:
        Failed: no gpg, or no such key.
    """
    if shutil.which("gpg") is None:
        raise Failed("gpg, which signs, is not installed")
    signature = sums.with_name(f"{SUMS}.asc")
    call("gpg", "--batch", "--yes", "--armor", "--local-user", key, "--output", signature,
         "--detach-sign", sums)  # fmt: skip
    call("gpg", "--batch", "--verify", signature, sums)
    return signature


# ---- clean environments -------------------------------------------------------------------------


def check(python: Path, wheel: Path, faces: Path, version: str) -> str:
    """Install and use the wheels in a fresh environment, down to the demo; in words, with what.

    Raises:
        Failed: something of it fails.
    """
    with tempfile.TemporaryDirectory(prefix="innverse-release-") as place:
        home = Path(place)
        call(python, "-m", "venv", home / "env")
        own = home / "env" / "bin" / "python"
        pip = (own, "-m", "pip", "install", "--quiet", "--no-compile")
        install_torch(pip)
        call(*pip, wheel)
        (package,) = (home / "env").glob("lib/*/site-packages/innverse")
        call(own, "-m", "compileall", "-q", package, cwd=home)
        call(own, "-c", WITHOUT_FACES, version, cwd=home)
        command = home / "env" / "bin" / "innverse"
        if version not in call(command, "--version", cwd=home):
            raise Failed("innverse --version names another")
        call(command, "--help", cwd=home)
        call(*pip, "--no-deps", faces)
        call(own, "-c", "import innverse; assert not innverse.zoo.missing()", cwd=home)
        built = call(own, "-c", WITH_TORCH, cwd=home)
        call(command, "doctor", cwd=home, INNVERSE_NATIVE="0")
        call(own, "-m", "pip", "check", cwd=home)
        call(*pip, f"{wheel}[demo]")
        call(command, "demo", "--quick", cwd=home)
        return f"all is well with torch {built}"


def install_torch(pip: tuple[str | Path, ...]) -> None:
    """The CPU build, from the configured index or PyTorch's own, if either has it for this Python."""
    for index in ((), ("--index-url", TORCH_INDEX)):
        try:
            call(*pip, *index, "--no-deps", TORCH if sys.platform == "darwin" else f"{TORCH}+cpu")
            return
        except Failed:
            continue


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "dist")
    parser.add_argument("--python", action="append", choices=PYTHONS, help="repeat for several")
    parser.add_argument("--sign", default="", metavar="KEY")
    arguments = parser.parse_args()
    out: Path = arguments.out.resolve()
    try:
        number = version()
        text, own_notes = notes((ROOT / "CHANGELOG.md").read_text(), number)
        out.mkdir(parents=True, exist_ok=True)
        for old in (*out.glob("innverse*"), *out.glob(f"{SUMS}*"), *out.glob("NOTES.md")):
            old.unlink()
        say(f"innverse {number}: building")
        _, wheel, faces = build(out)
        left_out = []
        for name in arguments.python or PYTHONS:
            try:
                say(f"Python {name}: {check(find_python(name), wheel, faces, number)}")
            except NotHere as why:
                left_out.append(f"not checked in Python {name}: {why}")
            except Failed as why:
                raise Failed(f"Python {name}: {why}") from None
        (out / "NOTES.md").write_text(text)
        sums = write_sums(out)
        if arguments.sign:
            sign(sums, arguments.sign)
        todo = reminders(f"v{number}", own_notes, bool(arguments.sign), left_out)
    except Failed as why:
        say(f"release: {why}")
        return 1
    for path in sorted(out.iterdir()):
        say(f"{path.stat().st_size / 1e6:8.2f} MB  {path.relative_to(out.parent)}")
    say("before these are published:" if todo else "ready to be published (nothing was uploaded)")
    for line in todo:
        say(f"  {line}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
