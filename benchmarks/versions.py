"""The test suite under other versions of Python and PyTorch, and under other processors.

    make test-matrix                          everything below that this machine can run
    make test-matrix ARGS="--only 3.12"       the rows whose name contains "3.12"
    make test-matrix ARGS="-- tests/physics"  what follows goes to pytest

By hand, not in CI: an hour and 20 GB. Every row is an environment under .venv-matrix, made once.
PyTorch comes from the package index as pip is set up here; on Linux that is the CUDA build, which
runs on the processor once its packages are there. Rows that could not be made are reported and
left out; the others replace their line in results/versions.md.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import harness

ROOT = Path(__file__).parents[1]
ENVIRONMENTS = ROOT / ".venv-matrix"
LOCK = ROOT / "requirements" / "dev.lock"
LOWEST = "2.11.0"  # the oldest torch that pyproject.toml admits
PROBE = """
import json, platform, numpy, torch
print(json.dumps({"python": platform.python_version(), "torch": torch.__version__,
    "numpy": numpy.__version__, "kernels": torch.backends.cpu.get_cpu_capability()}))
"""


@dataclass
class Row:
    """One environment and how the suite runs in it; without ``torch`` that is .venv."""

    name: str
    python: str = ""
    torch: str = ""
    lowest: bool = False  # every direct dependency at the minimum of pyproject.toml
    variables: dict[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()


ROWS = [
    Row("as locked"),
    Row("3.11, all minima", "3.11", f"torch=={LOWEST}", lowest=True),
    Row("3.12, torch 2.11", "3.12", "torch==2.11.*"),
    Row("3.13, newest torch", "3.13", "torch"),
    # other processors, as far as this one can play them
    Row("2 threads", variables={"OMP_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}),
    Row("without the C++ kernels", variables={"INNVERSE_NATIVE": "0"}),
    Row("no vector instructions", variables={"ATEN_CPU_CAPABILITY": "default"}),
    Row(
        "AVX2",
        variables={
            "ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "AVX2",
            "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        },
    ),
    Row("MKL's oldest kernels", variables={"MKL_CBWR": "COMPATIBLE", "ONEDNN_MAX_CPU_ISA": "SSE41"}),
    Row("another rounding", options=("-p", "rounding")),
]  # fmt: skip


class NotHere(Exception):
    """Why a row cannot be run on this machine."""


# ---- environments -------------------------------------------------------------------------------


def find_python(version: str) -> Path:
    """An interpreter of this version, from uv, pyenv or the system."""
    candidates = [shutil.which(f"python{version}"), shutil.which("python3")]
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    candidates += sorted(pyenv.glob(f"{version}.*/bin/python"), reverse=True)
    if uv := find_uv():
        found = subprocess.run([uv, "python", "find", version], capture_output=True, text=True)
        candidates.insert(0, found.stdout.strip())
    code = "import sys; print('{}.{}'.format(*sys.version_info))"
    for candidate in filter(None, candidates):
        done = subprocess.run([str(candidate), "-c", code], capture_output=True, text=True)
        if done.returncode == 0 and done.stdout.strip() == version:
            return Path(candidate)
    raise NotHere(f"no Python {version} from uv, pyenv or the system")


def find_uv() -> str | None:
    own = ROOT / ".venv" / "bin" / "uv"
    return str(own) if own.exists() else shutil.which("uv")


def environment(row: Row) -> Path:
    """The interpreter of the row's environment, which is made unless it is there already."""
    if not row.torch:
        return Path(sys.executable)
    folder = ENVIRONMENTS / row.name.replace(", ", "-").replace(" ", "-")
    python, stamp = folder / "bin" / "python", folder / "ready"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = project["dependencies"], project["optional-dependencies"]
    wanted = f"{row} {declared if row.lowest else LOCK.read_text()}"
    if stamp.exists() and stamp.read_text() == wanted:
        return python
    call(str(find_python(row.python)), "-m", "venv", "--clear", str(folder))
    pip = [str(python), "-m", "pip", "install", "--quiet"]
    packages = folder / "packages.txt"
    packages.write_text(minima(row, python) if row.lowest else locked(row))
    call(*pip, "-r", str(packages))
    call(*pip, "--no-deps", "--no-build-isolation", "-e", str(ROOT))
    stamp.write_text(wanted)
    return python


def locked(row: Row) -> str:
    """The locked pins, but what torch needs in the version that this torch needs."""
    own = re.compile("(filelock|fsspec|jinja2|networkx|setuptools|sympy|typing-extensions)==")
    # without hashes, since pip asks all or none for them, and torch has none
    pins = re.findall(r"^[^\s#][^\\\n]*==[^\\\n]*", LOCK.read_text(), re.MULTILINE)
    return "\n".join([row.torch, *(pin for pin in pins if not own.match(pin))])


def minima(row: Row, python: Path) -> str:
    """The pins with every direct dependency as old as pyproject.toml admits."""
    uv = find_uv()
    if not uv:
        raise NotHere("uv, which alone resolves to the oldest versions, is not here")
    constraint = python.parents[1] / "torch.txt"
    constraint.write_text(row.torch)
    return call(
        uv, "pip", "compile", "--quiet", "--resolution", "lowest-direct", "--no-annotate",
        "--python", str(python), "--constraint", str(constraint), "--extra", "dev",
        "--index-strategy", "unsafe-best-match", str(ROOT / "pyproject.toml"),
    )  # fmt: skip


def call(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no output"]
        raise NotHere(f"{Path(command[0]).name} failed: {lines[-1]}")
    return done.stdout


# ---- the suite ----------------------------------------------------------------------------------


def run(row: Row, python: Path, jobs: int, more: list[str]) -> dict:
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", **row.variables}
    variables["PYTHONPATH"] = str(ROOT / "src")
    found = json.loads(call(str(python), "-c", PROBE))
    with tempfile.TemporaryDirectory() as folder:
        report, begin = Path(folder) / "report.xml", time.monotonic()
        command = [str(python), "-m", "pytest", "-q", f"--junitxml={report}", *row.options]
        command += ["-n", str(jobs)] if jobs > 1 else []
        done = subprocess.run([*command, *more], env=variables, cwd=ROOT)
        if not report.exists():
            raise NotHere(f"pytest ended with exit code {done.returncode}")
        suite = next(ElementTree.parse(report).iter("testsuite"))
    count = {k: int(suite.get(k) or 0) for k in ("tests", "failures", "errors", "skipped")}
    failed = count["failures"] + count["errors"]
    return found | {
        "name": row.name,
        "variables": " ".join(f"{k}={v}" for k, v in row.variables.items())
        or " ".join(row.options),
        "passed": count["tests"] - failed - count["skipped"],
        "failed": failed,
        "skipped": count["skipped"],
        "seconds": round(time.monotonic() - begin),
        "what": " ".join(more) or "all",
        "commit": call("git", "rev-parse", "--short", "HEAD").strip(),
        "processor": harness.machine((), 1)["processor"],
    }


def write(rows: list[dict]) -> None:
    """Replace the lines of these rows in results/versions.md and .json."""
    path = harness.RESULTS / "versions.json"
    kept = {r["name"]: r for r in json.loads(path.read_text())["rows"]} if path.exists() else {}
    kept |= {r["name"]: r for r in rows}
    order = [row.name for row in ROWS]
    rows = sorted(kept.values(), key=lambda r: order.index(r["name"]) if r["name"] in order else 99)
    columns = (
        "name python torch numpy passed failed skipped seconds what commit variables processor"
    )
    header = ["row", *columns.split()[1:]]
    lines = [[str(r[c]) for c in columns.split()] for r in rows]
    text = f"# The test suite, version by version\n\n{harness.table(header, lines)}\n\n{NOTE}"
    harness.write("versions", text, {"rows": rows})


NOTE = """Made by `make test-matrix` (benchmarks/versions.py), a run for each line. "what" says which
tests; "variables" how another processor was played. "all minima" has every direct dependency
at the oldest version that pyproject.toml admits. Seconds may include waiting for a busy machine.
"""


def main() -> int:
    own = sys.argv[1:]
    own, more = (own[: own.index("--")], own[own.index("--") + 1 :]) if "--" in own else (own, [])
    parser = harness.Arguments(__doc__, quick=False, out=False)
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--jobs", type=int, default=1, help="processes of pytest")
    arguments = parser.parse_args(own)
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # ignored in the background, and tested
    ENVIRONMENTS.mkdir(exist_ok=True)
    bad = False
    for row in (r for r in ROWS if arguments.only in r.name):
        print(f"--- {row.name}", file=sys.stderr, flush=True)
        try:
            found = run(row, environment(row), arguments.jobs, more)
        except NotHere as why:
            print(f"{row.name}: left out: {why}", file=sys.stderr)
            continue
        bad |= bool(found["failed"])
        write([found])
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
