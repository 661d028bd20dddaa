"""Work cut into chunks: done here or by the workers of a Dask cluster, recorded chunk by chunk.

What a chunk gives depends on the chunk alone: it carries its seeds, is as large for one worker as for a
thousand, and is computed by one process with so many threads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..lazy import lazy

if TYPE_CHECKING:
    from .chunks import Chunk as Chunk
    from .chunks import Failure as Failure
    from .chunks import run as run
    from .connect import cluster as cluster
    from .current import active as active
    from .records import digest as digest

__getattr__, __dir__, __all__ = lazy(__name__)
