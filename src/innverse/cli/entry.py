"""The entry point: finds the verb, runs it, and turns every error into one line and an exit code.

Exit codes: 0 ok, 1 failed, 2 usage, 3 not converged, 4 bad input, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import difflib
import importlib
import io
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Sequence

from .. import __version__
from ..errors import InnverseError, UsageError, is_out_of_memory

# verb: (function or app, one line for the list of verbs)
VERBS = {
    "demo": ("demo:demo", "Reconstruct real photographs and write a report."),
    "solve": ("solve:solve", "Reconstruct images from degraded measurements."),
    "train": ("train:train", "Train a model of images; continues an interrupted run."),
    "amortize": ("amortize:amortize", "Learn p(parameters given measurement) from simulations."),
    "sample": ("sample:sample", "Draw images from a model."),
    "interpolate": ("interpolate:interpolate", "Pictures between two pictures."),
    "attribute": ("attribute:attribute", "Change an attribute of a picture, such as a smile."),
    "compress": (
        "compress:compress",
        "Pictures as one lossless file, as short as their density says.",
    ),
    "decompress": ("compress:decompress", "The pictures of such a file, bit for bit."),
    "logprob": ("logprob:logprob", "The exact log-density of images under a model."),
    "eval": ("eval:app", "Measure a model on a test set."),
    "reproduce": ("reproduce:app", "Run a published study again."),
    "compare": ("compare:compare", "INN, VAE and GAN on the same images, claim by claim."),
    "push": ("push:push", "Bring a model to the hub of Hugging Face."),
    "serve": ("serve:serve", "A page to try it all on in the browser."),
    "info": ("info:info", "Show what a model is made of, or list the models."),
    "doctor": ("doctor:doctor", "Check that this installation works."),
}

_PURPOSE = "Invertible neural networks as exact densities and as priors for inverse problems."
_MORE = """\
innverse VERB --help tells more, with examples. With every verb, -v shows logs and tracebacks,
and --import MODULE imports a module of your own first, with the flows and layers that it registers.

Exit codes: 0 ok, 1 failed, 2 wrong usage, 3 not converged, 4 bad input, 130 interrupted."""

_python_format = warnings.formatwarning
_BROKEN_PIPE = 141  # what a shell reports for a program that SIGPIPE ended


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv`` (default: that of the process); returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    verbose = _take_verbose(arguments)
    for stream in (sys.stdout, sys.stderr):  # a terminal without these letters gets "?"
        with contextlib.suppress(ValueError):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")
    logging.basicConfig(
        level=logging.INFO if verbose else logging.WARNING,
        format="%(name)s: %(message)s",
        stream=sys.stderr,
    )
    if not verbose:
        warnings.formatwarning = _one_line  # ty: ignore[invalid-assignment]  # as Python documents
    try:
        _import_modules(arguments)
        code = _run(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # the reader (head, less) has left; what is still buffered must not complain at exit
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except KeyboardInterrupt:
        complain("interrupted")
        return 130
    except InnverseError as error:
        if verbose:
            traceback.print_exc()
        complain(error)
        return error.exit_code
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except Exception as error:
        if verbose:
            traceback.print_exc()
        complain(_unexpected(error) + ("" if verbose else " (-v shows the traceback)"))
        return 1
    finally:
        warnings.formatwarning = _python_format


def complain(message: object) -> None:
    """One line on stderr."""
    with contextlib.suppress(OSError, ValueError):  # stderr may be closed
        print(_line(message), file=sys.stderr, flush=True)


def _line(message: object) -> str:
    return f"innverse: {' '.join(str(message).split())}"


def _one_line(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    line: str | None = None,
) -> str:
    """A warning of ours without the line of code that gave it, of which a user knows nothing."""
    if issubclass(category, UserWarning):
        return f"{_line(message)}\n"
    return _python_format(message, category, filename, lineno, line)


def build_app(active: str | None = None):
    """The cyclopts app. Help of a verb comes from its docstring, so only the ``active`` one is
    imported; the others are represented by their line in `VERBS`.
    """
    from cyclopts import App, Parameter

    app = App(
        name="innverse",
        help=_PURPOSE,
        help_epilogue=None if active else _MORE,
        help_format="plaintext",
        version=__version__,
        help_formatter=_Help(),
        default_parameter=Parameter(negative=(), show_default=_default),
        suppress_keyboard_interrupt=False,
    )
    for place, (verb, (target, line)) in enumerate(VERBS.items()):
        app.command(
            f"innverse.cli.{target}",
            name=verb,
            help=None if verb == active else line,
            sort_key=place,
        )
    return app


class _Help:
    """Help without the line breaks that a docstring has in the middle of a sentence.

    Its parent is made when help is shown: rich is not needed before.
    """

    def __call__(self, console, options, panel) -> None:
        from rich.text import Text

        for entry in panel.entries:
            text = getattr(entry.description, "primary_renderable", None)
            if isinstance(text, Text):
                text.plain = " ".join(text.plain.split())
        self._usual()(console, options, panel)

    def render_usage(self, console, options, usage) -> None:
        self._usual().render_usage(console, options, usage)

    def render_description(self, console, options, description) -> None:
        self._usual().render_description(console, options, description)

    def _usual(self):
        from cyclopts.help import DefaultFormatter

        return DefaultFormatter()


def _default(value: object) -> str | None:
    """A default as one would type it; none of a flag, which is off."""
    if value is None or isinstance(value, bool):
        return None
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _run(arguments: list[str]) -> int:
    from cyclopts import CycloptsError

    verb = arguments[0] if arguments else None
    if verb is not None and not verb.startswith("-") and verb not in VERBS:
        near = difflib.get_close_matches(verb, VERBS, 1)
        hint = f"did you mean {near[0]}?" if near else f"choose {', '.join(VERBS)}"
        raise UsageError(f"no verb {verb!r}: {hint}")
    app = build_app(verb if verb in VERBS else None)
    try:
        result = app(
            arguments, exit_on_error=False, print_error=False, result_action="return_value"
        )
    except CycloptsError as error:
        help_ = f"innverse {verb} --help" if verb in VERBS else "innverse --help"
        raise UsageError(f"{str(error).strip()} (see {help_})") from None
    return result if isinstance(result, int) else 0


def _take_verbose(arguments: list[str]) -> bool:
    """Remove -v and --verbose, which every verb has, from the options."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    kept = [a for a in arguments[:end] if a not in ("-v", "--verbose")]
    found = len(kept) < end
    arguments[:end] = kept
    return found


def _import_modules(arguments: list[str]) -> None:
    """Take every ``--import MODULE``, which every verb has, from the options, and import it: layers,
    transforms, networks and flows of one's own register themselves so.

    Raises:
        UsageError: no module follows, or it cannot be imported.
    """
    while "--import" in (arguments[: arguments.index("--")] if "--" in arguments else arguments):
        place = arguments.index("--import")
        name = "".join(arguments[place + 1 : place + 2])
        del arguments[place : place + 2]
        if not all(map(str.isidentifier, name.split("."))):
            raise UsageError("--import takes the name of a Python module: --import my_module")
        sys.path.insert(0, os.getcwd())
        try:
            importlib.import_module(name)
        except Exception as error:
            raise UsageError(f"--import {name}: {type(error).__name__}: {error}") from error
        finally:
            sys.path.remove(os.getcwd())


def _unexpected(error: Exception) -> str:
    if is_out_of_memory(error):
        return "out of memory: give smaller or fewer images, or --tile 256 to solve"
    lines = [line for line in str(error).splitlines() if line.strip()]
    return f"unexpected {type(error).__name__}: {lines[0] if lines else 'no message'}"
