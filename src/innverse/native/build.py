"""Compile a C++ file of this folder once, and load it."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch

# No -ffast-math: it would change the rounding mode of the whole process and the meaning of NaN.
_FLAGS = (
    "-std=c++17", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math",
    "-ffp-contract=fast", "-fPIC", "-shared",
)  # fmt: skip


class Unavailable(Exception):
    """Why a kernel cannot be used; its text is for `innverse doctor`."""


@functools.cache
def load(name: str) -> ctypes.CDLL:
    """The library made from ``name``.cpp.

    Raises:
        Unavailable: turned off, no compiler, or a compiler that fails.
    """
    if os.environ.get("INNVERSE_NATIVE") == "0":
        raise Unavailable("turned off by INNVERSE_NATIVE=0")
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
    if not compiler:
        raise Unavailable("no C++ compiler found")
    source = Path(__file__).parent / f"{name}.cpp"
    openmp = _openmp()
    try:
        library = _folder() / f"{name}-{_fingerprint(source, compiler, openmp)}.so"
        if not library.exists():
            _compile(compiler, source, library, openmp)
        return ctypes.CDLL(str(library))
    except (OSError, subprocess.SubprocessError) as error:
        detail = getattr(error, "stderr", None) or str(error)
        raise Unavailable(f"{compiler}: {detail.strip().splitlines()[0][:200]}") from None


def _compile(compiler: str, source: Path, library: Path, openmp: list[str]) -> None:
    # beside the target, then renamed: two processes may compile at once
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        made = Path(folder) / library.name
        command = [compiler, *_FLAGS, *openmp[:1], str(source), "-o", str(made), *openmp[1:]]
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
        made.replace(library)


def _openmp() -> list[str]:
    """Compile with OpenMP only against the library that PyTorch has loaded: two would fight."""
    found = sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*"))
    return ["-fopenmp", str(found[0])] if found else []


def _folder() -> Path:
    """Private to the user, since what lies there is run."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "innverse"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = folder.stat()
    if hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & 0o022):
        raise Unavailable(f"{folder} can be written by others")
    return folder


def _fingerprint(source: Path, compiler: str, openmp: list[str]) -> str:
    """Of the text, its headers, the compiler, its flags, and the processor that -march=native means."""
    try:
        with open("/proc/cpuinfo") as file:
            processor = "".join(sorted({line for line in file if line.startswith("flags")}))
    except OSError:
        processor = platform.processor()
    texts = [path.read_text() for path in (source, *sorted(source.parent.glob("*.h")))]
    parts = (*texts, compiler, *_FLAGS, *openmp, platform.machine(), processor)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
