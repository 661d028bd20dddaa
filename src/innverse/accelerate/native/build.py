"""Compile a C++ file of this folder once, and load it.

The result lies in the user's cache as NAME-FINGERPRINT-HASH.so: the fingerprint says what it was made
from, the hash what is in it. Loading half a library would end the process, so a file whose hash is
wrong is made again.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

# No -ffast-math: it would change the rounding mode of the whole process and the meaning of NaN.
_FLAGS = (
    "-std=c++17", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math",
    "-ffp-contract=fast", "-fPIC", "-shared",
)  # fmt: skip
_PATIENCE = 180  # seconds that a compiler may take
_STALE = 30 * 24 * 3600  # seconds after which what nobody used is removed
_MOST = 8  # versions of a kernel that are kept
_MAKING = "making-"  # folders in which compilers work


class Unavailable(Exception):
    """Why a kernel cannot be used; its text is for `innverse doctor`."""


@functools.cache
def load(name: str) -> ctypes.CDLL:
    """The library made from ``name``.cpp; the first time, a line on stderr says that it compiles.

    CXX names another compiler; INNVERSE_NATIVE_FLAGS adds flags, -fsanitize=address for example.

    Raises:
        Unavailable: turned off by INNVERSE_NATIVE=0, no compiler, one that fails or takes longer
            than three minutes, or a cache folder that cannot be written or trusted.
    """
    if os.environ.get("INNVERSE_NATIVE") == "0":
        raise Unavailable("turned off by INNVERSE_NATIVE=0")
    compiler = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++")
    if not compiler:
        raise Unavailable("no C++ compiler found")
    command = shlex.split(compiler) + shlex.split(os.environ.get("INNVERSE_NATIVE_FLAGS", ""))
    source = Path(__file__).parent / f"{name}.cpp"
    openmp = _openmp()
    stem = f"{name}-{_fingerprint(source, command, openmp)}"
    folder = _folder()
    try:
        library = _find(folder, stem) or _make(command, source, folder, stem, openmp)
        return ctypes.CDLL(str(library))
    except OSError as error:
        reason = error.strerror or str(error).splitlines()[0]
        raise Unavailable(
            f"the cache folder {folder} cannot be used ({reason}): XDG_CACHE_HOME names another"
        ) from None


def functions(name: str, arguments: Mapping[str, Sequence[Any]]) -> ctypes.CDLL | None:
    """The library ``name`` with the types of what its functions ``NAME_FUNCTION`` take; None where
    there is none."""
    try:
        library = load(name)
    except Unavailable:
        return None
    for function, types in arguments.items():
        getattr(library, f"{name}_{function}").argtypes = types
    return library


def fields(**of_types: str) -> list[tuple[str, Any]]:
    """Those of a struct, in order: ``int64="items positions"`` are two."""
    types = {t: getattr(ctypes, f"c_{t}") for t in of_types}
    return [(name, types[t]) for t, names in of_types.items() for name in names.split()]


def _find(folder: Path, stem: str) -> Path | None:
    """The library in the cache, if it is whole; one that is not is removed."""
    for path in folder.glob(f"{stem}-*.so"):
        if path.is_file() and path == _named(folder, stem, path.read_bytes()):
            with contextlib.suppress(OSError):  # a cache may be read-only
                path.touch()
            return path
        with contextlib.suppress(OSError):
            path.unlink()
    return None


def _named(folder: Path, stem: str, content: bytes) -> Path:
    return folder / f"{stem}-{hashlib.sha256(content).hexdigest()[:32]}.so"


def _make(command: list[str], source: Path, folder: Path, stem: str, openmp: list[str]) -> Path:
    with tempfile.TemporaryDirectory(dir=folder, prefix=_MAKING) as work:
        _announce()
        made = Path(work) / "made.so"
        flags = [*_FLAGS, *openmp[:1]]
        _compile([*command, *flags, str(source), "-o", str(made), *openmp[1:]], work)
        content = made.read_bytes()
        library = _named(folder, stem, content)
        with open(made, "rb") as file:
            os.fsync(file.fileno())  # else after a crash the name may be there, and not the content
        made.replace(library)  # several processes may get here at once
    _remove_old(folder, source.stem)
    return library


@functools.cache
def _announce() -> None:
    print(
        "innverse: compiling its C++ kernels for this processor, which happens once and takes "
        "seconds, or a minute on a busy machine (INNVERSE_NATIVE=0 does without them)",
        file=sys.stderr,
        flush=True,
    )


_gave_up: dict[str, str] = {}  # compilers that took too long: three kernels shall not wait for one


def _compile(command: list[str], work: str) -> None:
    """Run the compiler, with its temporary files in ``work``."""
    if command[0] in _gave_up:
        raise Unavailable(_gave_up[command[0]])
    try:
        code, text = _run(command, {**os.environ, "TMPDIR": work})
    except subprocess.TimeoutExpired:
        _gave_up[command[0]] = f"{command[0]}: not done after {_PATIENCE} s"
        raise Unavailable(_gave_up[command[0]]) from None
    except OSError as error:
        raise Unavailable(f"{command[0]}: {error.strerror or error}") from None
    if code or not Path(work, "made.so").exists():
        lines = [line for line in text.splitlines() if line.strip()]
        how = f"ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        why = next((line for line in lines if "error" in line), lines[0] if lines else how)
        raise Unavailable(f"{command[0]}: {why.strip()[:200]}")


def _run(command: list[str], environment: dict[str, str]) -> tuple[int, str]:
    """Exit code and stderr. In a session of its own, so that what it started ends with it."""
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        env=environment,
        start_new_session=True,
    ) as process:
        try:
            text = process.communicate(timeout=_PATIENCE)[1]
        except BaseException:
            if hasattr(os, "killpg"):
                os.killpg(process.pid, signal.SIGKILL)
            process.kill()
            raise
    return process.returncode, text


def _remove_old(folder: Path, name: str) -> None:
    """What earlier releases, compilers and processors left and nobody used for long."""
    now = time.time()
    with contextlib.suppress(OSError):
        used = sorted(((p.stat().st_mtime, p) for p in folder.glob(f"{name}-*.so")), reverse=True)
        for i, (when, path) in enumerate(used):
            if i >= _MOST or now - when > _STALE:
                path.unlink(missing_ok=True)
        for path in folder.glob(f"{_MAKING}*"):  # of a process that was killed
            if now - path.stat().st_mtime > 3600:
                shutil.rmtree(path, ignore_errors=True)


def _openmp() -> list[str]:
    """Compile with OpenMP only against the library that PyTorch has loaded: two would fight."""
    found = sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*"))
    return ["-fopenmp", str(found[0])] if found else []


def _folder() -> Path:
    """Private to the user, since what lies there is run."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or "")
    if not base.is_absolute():  # as if it were not set, says the XDG specification
        base = Path(os.path.expanduser("~")) / ".cache"
    if not base.is_absolute():
        raise Unavailable("no home folder for the compiled kernels: set XDG_CACHE_HOME")
    folder = base / "innverse"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.stat()
    except OSError as error:
        raise Unavailable(
            f"the cache folder {folder} cannot be made ({error.strerror}): "
            "XDG_CACHE_HOME names another"
        ) from None
    if hasattr(os, "getuid") and (status.st_uid != os.getuid() or status.st_mode & 0o022):
        raise Unavailable(f"{folder} can be written by others")
    return folder


def _fingerprint(source: Path, command: list[str], openmp: list[str]) -> str:
    """Of the text, its headers, the compiler, its flags, and the processor that -march=native means."""
    try:
        with open("/proc/cpuinfo") as file:
            processor = "".join(sorted({line for line in file if line.startswith("flags")}))
    except OSError:
        processor = platform.processor()
    texts = [path.read_text() for path in (source, *sorted(source.parent.glob("*.h")))]
    parts = (*texts, *command, *_FLAGS, *openmp, platform.machine(), processor)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]
