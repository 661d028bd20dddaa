"""The models in use, each loaded once."""

from __future__ import annotations

from typing import Any

import torch

from ..errors import UsageError
from ..options import OptionError
from ..solvers import EachChannel
from ..zoo import load, names
from .jobs import Measured

_GRAY, _COLOR = "natural-gray", "natural-color"


class Priors:
    """What a user names as a prior: a model, its name, or nothing, which takes a shipped one.

    Attributes:
        loaded: {name: model}.
        own: names of those that were loaded here, and are nobody else's.
    """

    def __init__(self, prior: Any, device: torch.device, used: bool = True):
        self.given, self.device, self.used = prior, device, used
        self.loaded: dict[str, Any] = {}
        self.own: set[str] = set()

    def choose(self, channels: int) -> tuple[str, int]:
        """(name, channels) of the prior for images of this many channels.

        Raises:
            UsageError: no such model, or one of other things than images.
        """
        if not self.used:
            return "", channels
        if self.given is None or isinstance(self.given, str):
            name = self.given or self._default(channels)
            if name not in self.loaded:
                self.loaded[name] = load(name).to(self.device)
                self.own.add(name)
        else:
            name = getattr(self.given, "name", None) or type(self.given).__name__
            self.loaded[name] = self.given
        shape = tuple(self.loaded[name].shape)
        if len(shape) != 3:
            raise OptionError("prior", f" {name} is no model of images; choose another")
        return name, shape[0]

    def of(self, measured: Measured) -> Any:
        """The model for a measurement: one of gray images for every channel, where images have several
        that are solved together, as the parts of complex numbers are. None without priors."""
        model, shape = self.loaded.get(measured.prior), measured.physics.image_shape
        if model is None or shape is None or model.shape[0] != 1 or shape[0] == 1:
            return model
        return EachChannel(model, shape[0])

    def _default(self, channels: int) -> str:
        for name in (_COLOR, _GRAY) if channels == 3 else (_GRAY,):
            if name in names():
                return name
        raise UsageError("no prior is shipped with this installation; give one")
