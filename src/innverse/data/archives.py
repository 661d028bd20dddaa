"""Images inside tar archives, read in place: nothing is extracted to disk."""

from __future__ import annotations

import io
import lzma
import posixpath
import tarfile
import zlib
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from ..errors import InputError
from ..reading import read_error
from .expansion import check_expansion, file_size
from .image_io import is_image_name

_BROKEN = (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError, ValueError)


def is_tar(path: Path) -> bool:
    try:
        return tarfile.is_tarfile(path)
    except Exception:  # damaged compressed files raise much more than TarError
        return False


def tar_images(
    path: Path, subset: str | None = None
) -> tuple[list[tuple[str, Callable[[], bytes]]], list[tuple[str, str]]]:
    """The image members of an archive, sorted: [(name, function that reads its bytes)], [failures].

    Members of a plain tar are read from their offset when asked for; those of a compressed one,
    which cannot be entered in the middle, are kept in memory as they are (still JPEG or PNG).

    Raises:
        InputError: no images, or no such folder in the archive.
    """
    found: dict[str, Callable[[], bytes]] = {}
    failures: list[tuple[str, str]] = []
    with tarfile.open(path) as archive:
        plain = isinstance(archive.fileobj, io.BufferedReader)  # not a decompressor around it
        stored, expanded = file_size(path), 0
        try:
            for member in archive:
                # also what is passed over has to be unpacked
                expanded += member.size
                check_expansion(str(path), expanded, stored)
                name = posixpath.normpath(member.name)
                if not member.isfile() or not is_image_name(name):
                    continue
                if plain and not member.issparse():
                    found[name] = partial(_slice, path, member.offset_data, member.size)
                else:
                    inside = archive.extractfile(member)
                    found[name] = partial(bytes, b"" if inside is None else inside.read())
        except InputError:
            raise
        except _BROKEN as error:
            failures.append((path.name, f"{path}: the archive is cut off or damaged ({error})"))
    if not found:
        broken = "; it is cut off or damaged" if failures else ""
        raise InputError(f"{path} has no image files{broken}; give an archive of PNG, JPEG, ...")
    if subset is None:
        return sorted(found.items(), key=lambda item: item[0]), failures
    prefix = posixpath.normpath(subset) + "/"
    chosen = sorted((name, read) for name, read in found.items() if name.startswith(prefix))
    if not chosen:
        folders = {posixpath.dirname(name) for name in found} - {""}
        raise InputError(f"{path} has no folder {subset!r} with images; {listing(folders)}")
    return chosen, failures


def listing(names: Iterable[str]) -> str:
    """ "it has: a, b, c" for the end of an error."""
    names = sorted(names)
    if not names:
        return "it has none"
    return "it has: " + ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")


def _slice(path: Path, offset: int, size: int) -> bytes:
    try:
        with open(path, "rb") as file:
            file.seek(offset)
            return file.read(size)
    except OSError as error:
        raise read_error(path, error) from error
