"""How pictures were measured, as a user describes it: an operator, noise, a scale."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..catalog import METHODS, OPERATORS, Operator
from ..options import OptionError, as_number
from ..physics import GaussianNoise, LinearPhysics, NoNoise, Scan
from ..physics.foreign_noise import as_noise
from ..solvers.measurement import operator_for
from ..solvers.scale import checked_range
from ..solvers.solve import AUTO, COUNTS, checked


@dataclass
class Setting:
    """``operator`` is a declaration with its options, or an operator that a user made.

    Attributes:
        noise: standard deviation, "auto" or "counts" for an estimate, or None for what the operator
            says.
        image_shape: (C, H, W) behind measurements that are no pictures.
        x_range: the values of black and white, where they are not 0 and 1.
    """

    name: str
    operator: Any
    noise: Any = None
    simulate: bool = False
    seed: int = 0
    image_shape: tuple[int, int, int] | None = None
    x_range: tuple[float, float] | None = None

    @classmethod
    def of(cls, physics: Any, options: Mapping[str, Any], **more: Any) -> Setting:
        """``physics`` is a name with ``options``, or any operator that `solve` takes.

        Raises:
            UsageError: an unknown name or option, or something that is missing.
        """
        if not isinstance(physics, str):
            name = getattr(physics, "name", None) or type(physics).__name__
            setting = cls(name, physics, **more)
        else:
            name = OPERATORS.real_name(physics)
            kind = OPERATORS[name]
            seed = {"seed": more.get("seed", 0)} if "seed" in kind.declared else {}
            setting = cls(name, kind(**options, **seed), **more)
            setting._check_complete(options)
        setting.noise = _level(setting.noise)
        setting.x_range = checked_range(setting.x_range)
        for option, given in (("noise", setting.estimates_noise), ("x_range", setting.x_range)):
            if setting.simulate and given:
                raise OptionError(
                    option, " is for real measurements: with ", "simulate", " give a number"
                )
        return setting

    def _check_complete(self, options: Mapping[str, Any]) -> None:
        what = f" {self.name} needs "
        if self.operator.needs_noise and self.noise is None:
            words = ": its standard deviation on the scale of 0 to 1, 25/255 for grainy, or auto"
            raise OptionError("physics", what, "noise", words)
        for key, option in self.operator.declared.items():
            if option.required and options.get(key) is None and not self.simulate:
                raise OptionError("physics", what, key, f": {option.required}")

    @property
    def estimates_noise(self) -> bool:
        return isinstance(self.noise, str)

    @property
    def measures_images(self) -> bool:
        """Whether a measurement is a picture."""
        own = self.operator.operator if isinstance(self.operator, Operator) else self.operator
        return bool(getattr(own, "measures_images", False))

    @property
    def reads(self) -> tuple[str, ...]:
        """Suffixes of files that `scan` reads; none in a simulation, whose files are pictures."""
        scans = isinstance(self.operator, Operator) and not self.simulate
        return self.operator.reads if scans else ()

    def scan(self, path: Path) -> Scan:
        """The measurement in the file of a scanner."""
        scan = self.operator.scan(path)
        if self.noise is not None and not self.estimates_noise:
            scan.physics.noise = as_noise(self.noise)
        return scan

    @property
    def complex_channels(self) -> bool:
        return isinstance(self.operator, Operator) and self.operator.complex_channels

    def behind(self, measured: tuple[int, int, int]) -> tuple[int, int, int]:
        """The shape of the image behind a picture of the shape ``measured``."""
        if isinstance(self.operator, Operator):
            return self.operator.image_shape(measured)
        return getattr(self.operator, "image_shape", None) or measured

    def physics(self, shape: tuple[int, int, int]) -> LinearPhysics:
        """The operator for images of ``shape``, with its noise."""
        level = None if self.estimates_noise else self.noise
        if isinstance(self.operator, Operator):
            physics = self.operator.build(shape)
            given = NoNoise() if level is None else GaussianNoise(level)
            physics.noise = physics.noise.with_level(given)
            return physics
        physics = operator_for(self.operator, None, None, shape)
        return physics if level is None else physics._copy(noise=as_noise(level))

    def describe(self) -> dict[str, Any]:
        """For result.json: the operator with the options in force."""
        options = {}
        if isinstance(self.operator, Operator):
            options = {k: v for k, v in self.operator.in_force().items() if k != "seed"}
        noise = (
            self.noise if self.noise is None or isinstance(self.noise, (str, float)) else "given"
        )
        return {"name": self.name, **options, "noise": noise}


def split_options(physics: Any, method: str, given: Mapping[str, Any]) -> tuple[dict, dict]:
    """The options of the operator, and those of the method; what both know is the operator's.

    Raises:
        UsageError: an option that neither knows, or a value that makes no sense.
    """
    checked(method, {})  # is there such a method?
    given = {name: value for name, value in given.items() if value is not None}
    known = OPERATORS[physics].declared if isinstance(physics, str) else {}
    own = {name: value for name, value in given.items() if name in known}
    rest = {name: value for name, value in given.items() if name not in known}
    right = METHODS[method].declared if method in METHODS else {}
    for name in rest:
        if name in right or (method == AUTO and any(name in METHODS[m].declared for m in METHODS)):
            continue
        if any(name in METHODS[m].declared for m in METHODS) and method in METHODS:
            raise OptionError(name, " means nothing to ", "method", f" {method}")
        if not isinstance(physics, str):
            raise OptionError(name, f" means nothing to method {method}")
        parts = [part for key, o in known.items() if o.flag for part in (key, ", ")][:-1]
        words = f" {physics}; its own options: "
        raise OptionError(name, " has no meaning for ", "physics", words, *(parts or ["", "none"]))
    return own, checked(method, rest)


def _level(noise: Any) -> Any:
    if noise is None or (isinstance(noise, str) and noise in (AUTO, COUNTS)):
        return noise
    number = as_number(noise)
    if number is None and isinstance(noise, str):
        raise OptionError(
            "noise", f" {noise}: give a number, a fraction like 25/255, auto or counts"
        )
    if number is None:  # a noise model, or a map
        return noise
    if not 0 <= number < float("inf"):
        raise OptionError("noise", f" {number:g}: must be finite and >= 0")
    return number
