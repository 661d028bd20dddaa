"""Lossless compression of pictures by an exact density: its code length, bit for bit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy

if TYPE_CHECKING:
    from .ans import Stack as Stack
    from .exact import Network as Network
    from .integer_flow import IntegerFlow as IntegerFlow
    from .stream import Code as Code
    from .stream import compress as compress
    from .stream import decompress as decompress
    from .stream import describe as describe

__getattr__, __dir__, __all__ = lazy(__name__)
