"""Flags that several verbs share, and what they mean."""

from __future__ import annotations

import sys
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter, validators

from ..errors import UsageError

if TYPE_CHECKING:
    import torch

Device = Annotated[str, Parameter(help="auto, cpu or cuda.")]
Seed = Annotated[
    int, Parameter(help="Seed of everything random.", validator=validators.Number(gte=0, lt=2**63))
]
Json = Annotated[bool, Parameter(help="Print the result as JSON on stdout.")]
Quiet = Annotated[bool, Parameter(name=["--quiet", "-q"], help="No progress and no notes.")]
Cluster = Annotated[
    str | None,
    Parameter(
        help="Share the work out among processes of this machine (local:4) or the workers of a Dask "
        "scheduler (tcp://host:8786, tls://..., or its scheduler file)."
    ),
]


def start(device: str = "auto") -> torch.device:
    """Prepare this process for computing and return the device.

    Raises:
        UsageError: an unknown device, or one that this machine does not have.
    """
    from ..device import choose_device
    from ..train.allocator import keep_buffers

    keep_buffers()
    return choose_device(device)


def on_cluster(cluster: str | None, quiet: bool = False) -> AbstractContextManager:
    """Within it the workers of the cluster work, if one is given.

    Raises:
        UsageError: no address of a cluster. InnverseError: nobody is there.
    """
    if cluster is None:
        return nullcontext()
    from ..clusters import cluster as workers_of
    from ..progress import Progress

    @contextmanager
    def connected():
        with ExitStack() as stack:
            with Progress(f"waiting for {cluster}", quiet=quiet):
                stack.enter_context(workers_of(cluster))
            yield

    return connected()


def load_model(name: str, device: torch.device):
    """A model by name or folder, on the device."""
    from ..zoo import load

    return load(name).to(device)


def noise_level(flow, sigma: float | None, default: float = 0.0) -> float | None:
    """The noise level at which to use a flow; None where it knows none.

    Without ``sigma`` it is the ``default``, or the nearest level that the flow knows.

    Raises:
        UsageError: a level that the flow does not know.
    """
    if flow.noise_range is None:
        if sigma is not None:
            raise UsageError(
                "--sigma: this model is not conditioned on a noise level; leave it out"
            )
        return None
    low, high = flow.noise_range
    if sigma is None:
        return min(max(low, default), high)
    if not low <= sigma <= high:
        raise UsageError(
            f"--sigma {sigma:g}: this model knows noise levels from {low:g} to {high:g}"
        )
    return sigma


def parse_number(text: str, option: str) -> float:
    """A number or a fraction such as 25/255.

    Raises:
        UsageError: neither, or not finite.
    """
    import math

    try:
        top, slash, bottom = text.partition("/")
        value = float(top) / float(bottom) if slash else float(text)
    except (ValueError, ZeroDivisionError):
        raise UsageError(f"{option} {text}: give a number, or a fraction like 25/255") from None
    if not math.isfinite(value):
        raise UsageError(f"{option} {text}: give a finite number")
    return value


def parse_range(text: str) -> tuple[float, float]:
    """(low, high) from LOW:HIGH.

    Raises:
        UsageError: something else.
    """
    low, colon, high = text.partition(":")
    if colon:
        values = parse_number(low, "--range"), parse_number(high, "--range")
        if values[0] < values[1]:
            return values
    raise UsageError(f"--range {text}: give the values of black and white as LOW:HIGH, 0:255")


def parse_size(
    text: str, option: str = "--size", want: str = "HEIGHTxWIDTH in pixels, such as 128x192"
) -> tuple[int, int]:
    """(height, width) from HxW or one number; ``want`` says in the error what would be right.

    Raises:
        UsageError: something else.
    """
    parts = text.lower().split("x")
    if len(parts) <= 2 and all(part.isascii() and part.isdigit() for part in parts):
        height, width = int(parts[0]), int(parts[-1])
        if height > 0 and width > 0:
            return height, width
    raise UsageError(f"{option} {text}: give {want}")


def check_memory(numbers: int, option: str) -> None:
    """Raise UsageError where so many float32 numbers exceed the memory of this machine."""
    import os

    try:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return
    if 4 * numbers > memory:
        raise UsageError(
            f"{option}: {4 * numbers / 2**30:.3g} GB of results, this machine has "
            f"{memory / 2**30:.3g} GB: ask for less"
        )


def check_writable(folder: Path) -> None:
    """Raise InnverseError unless files can be made in ``folder``, which need not exist yet.

    Called before a computation starts, so that its result cannot be lost at the end.
    """
    import tempfile

    from ..data.atomic import check_name, write_error

    check_name(folder)
    try:
        place = folder.absolute()
        while not place.exists() and place != place.parent:
            place = place.parent
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise write_error(folder, error) from None


def print_json(value: Any) -> None:
    """JSON on stdout; NaN and infinities become null."""
    from ..data.atomic import dumps

    print(dumps(value, indent=2))


def note(text: str, quiet: bool = False) -> None:
    """A line for the person who watches, on stderr."""
    if not quiet:
        print(text, file=sys.stderr, flush=True)


def same_command() -> str:
    """The command line that continues this run."""
    import os
    import shlex

    arguments = [a for a in sys.argv[1:] if a != "--no-resume"]
    size = int(os.environ.get("LOCAL_WORLD_SIZE", "0"))
    if size:
        launch = f"torchrun --nproc-per-node {size} -m innverse"
    elif Path(sys.argv[0]).name == "__main__.py":
        launch = "python -m innverse"
    else:
        launch = Path(sys.argv[0]).name
    return f"{launch} {shlex.join(arguments)}"
