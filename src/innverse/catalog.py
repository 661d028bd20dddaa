"""Operators and methods by name, and the file that declares each.

A new one is a file with a subclass of `Operator` or `Method`, and a line here, or a call of
``register``. What a declaration says is read without running its file, since the command line must
show help before torch is loaded.
"""

from __future__ import annotations
import __future__

import ast
import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from . import options as _options
from .errors import UsageError
from .options import Options

if TYPE_CHECKING:
    from .physics.base import LinearPhysics
    from .physics.scan import Scan
    from .solvers.problem import Problem
    from .solvers.reconstruction import Reconstruction


class Operator(Options):
    """A measurement operator by name; attributes are its options.

    Attributes:
        operator: the class of what `build` makes.
        needs_noise: whether it measures nothing without a noise level.
        rounds: whether what it makes has noise of its own, of rounding.
        complex_channels: whether complex measurements (C, ...) are kept as 2 C real channels.
        reads: suffixes of the files of scanners that `scan` reads.
    """

    operator: ClassVar[type[LinearPhysics]]
    needs_noise: ClassVar[bool] = False
    rounds: ClassVar[bool] = False
    complex_channels: ClassVar[bool] = False
    reads: ClassVar[tuple[str, ...]] = ()

    def build(self, shape: tuple[int, ...]) -> LinearPhysics:
        """The operator for images of ``shape`` (C, H, W)."""
        raise NotImplementedError

    def scan(self, path: Path) -> Scan:
        """The measurement that a file holds, with the operator behind it."""
        raise NotImplementedError

    def image_shape(self, measured: tuple[int, int, int]) -> tuple[int, int, int]:
        """The shape of the image behind a measurement that is a picture of the shape ``measured``."""
        return measured


class Method(Options):
    """A way to solve; attributes are its options.

    Attributes:
        needs: what it asks of the prior, in words.
        uses_prior: whether it uses one.
        latent_init: whether ``init`` are latents instead of images.
        any_operator: whether it takes operators that are not linear.
    """

    needs: ClassVar[str] = "a flow"
    uses_prior: ClassVar[bool] = True
    latent_init: ClassVar[bool] = False
    any_operator: ClassVar[bool] = False

    def solve(self, problem: Problem, prior: Any) -> Reconstruction:
        """Images for all items of the problem."""
        raise NotImplementedError


T = TypeVar("T", bound=Options)


class Catalog(Mapping[str, type[T]], Generic[T]):
    """{name: declaration}; indexing imports its file, `declared` only reads it."""

    def __init__(self, kind: str, base: type[T], package: str, places: dict[str, str],
                 aliases: dict[str, str] | None = None):  # fmt: skip
        self.kind, self.base, self.package, self.aliases = kind, base, package, aliases or {}
        self._places: dict[str, str | type[T]] = dict(places)
        self._read: dict[str, type[T]] = {}

    def register(self, name: str, declaration: type[T]) -> type[T]:
        """Make a declaration known under a name: to `build` or `solve`, and the command line."""
        self._places[name] = declaration
        return declaration

    def unregister(self, name: str) -> None:
        del self._places[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and (name in self._places or name in self.aliases)

    def real_name(self, name: str) -> str:
        """The name behind an alias.

        Raises:
            UsageError: an unknown name.
        """
        if name not in self:
            raise UsageError(f"unknown {self.kind} {name!r}: choose {', '.join(self)}")
        return self.aliases.get(name, name)

    def __getitem__(self, name: str) -> type[T]:
        place = self._places[self.real_name(name)]
        if not isinstance(place, str):
            return place
        file, _, kind = place.partition(":")
        return getattr(importlib.import_module(f".{file}", self.package), kind)

    def declared(self, name: str) -> type[T]:
        """The declaration without what it does: its options, its words, its flags."""
        place = self._places[name := self.real_name(name)]
        if not isinstance(place, str):
            return place
        if name not in self._read:
            for before in self._places:  # of which it may be a subclass
                if before == name:
                    break
                self.declared(before)
            file, _, kind = place.partition(":")
            folder = Path(__file__).parent / self.package.rpartition(".")[2]
            source = folder.joinpath(*file.split(".")).with_suffix(".py")
            known: dict[str, type] = {"Operator": Operator, "Method": Method}
            known |= {c.__name__: c for c in self._read.values()}
            try:
                self._read[name] = read_declaration(source.read_text("utf-8"), kind, known)
            except (OSError, NameError):  # no source, or a declaration of other things
                return self[name]
        return self._read[name]


def read_declaration(source: str, name: str, known: dict[str, type]) -> Any:
    """The class ``name`` of a source text with nothing but its options and constants.

    Names that it may use are those of `options`, of ``known``, and constants of the same text.
    """
    tree = ast.parse(source)
    (node,) = (n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name)
    node.body = [part for part in node.body if _is_data(part)] or [ast.Pass()]
    constants = [n for n in tree.body if isinstance(n, ast.Assign) and _is_literal(n.value)]
    space = vars(_options) | known
    flags = __future__.annotations.compiler_flag
    exec(compile(ast.Module([*constants, node], []), name, "exec", flags), space)
    return space[name]


def _is_data(part: ast.stmt) -> bool:
    if isinstance(part, ast.AnnAssign):
        specifiers = {s.__name__ for s in _options.SPECIFIERS}
        call = part.value.func if isinstance(part.value, ast.Call) else None
        return isinstance(call, ast.Name) and call.id in specifiers
    return isinstance(part, (ast.Expr, ast.Assign)) and _is_literal(part.value)


def _is_literal(value: ast.expr) -> bool:
    try:
        ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError):
        return False
    return True


OPERATORS: Catalog[Operator] = Catalog(
    "physics",
    Operator,
    "innverse.physics",
    {
        "denoising": "denoising:NamedDenoising",
        "inpainting": "inpainting:NamedInpainting",
        "blur": "blur:NamedBlur",
        "downsampling": "downsampling:NamedDownsampling",
        "compressed_sensing": "compressed:NamedCompressedSensing",
        "fourier": "fourier:NamedFourier",
        "tomography": "tomography:NamedTomography",
        "mri": "mri:NamedMRI",
        "grayscale": "channels:NamedGrayscale",
        "phase_retrieval": "phase:NamedPhaseRetrieval",
        "quantisation": "quantised:NamedQuantisation",
        "jpeg": "jpeg:NamedJPEG",
    },
    {
        "colorisation": "grayscale",
        "superresolution": "downsampling",
        "deblurring": "blur",
        "ct": "tomography",
    },
)

METHODS: Catalog[Method] = Catalog(
    "method",
    Method,
    "innverse.solvers",
    {
        "pnp": "pnp:PlugAndPlay",
        "latent": "latent:Latent",
        "map": "map:MAP",
        "posterior": "posterior.solve:PosteriorDraws",
        "exchange": "posterior.modes.exchange:ReplicaExchange",
        "smc": "posterior.modes.smc:TemperedSMC",
        "amortised": "posterior.approximate.amortised:Amortised",
        "langevin": "posterior.approximate.langevin:Langevin",
        "variational": "posterior.approximate.variational:Variational",
        "constrained": "constrained:Constrained",
        "adaptive": "baselines.adaptive:Adaptive",
        "deep_decoder": "baselines.deep_decoder:UntrainedDecoder",
        "lasso": "baselines.methods:Lasso",
        "tv": "baselines.methods:TotalVariation",
    },
)
