"""innverse: invertible neural networks as exact densities and as priors for inverse problems.

The public names below are loaded on first use, so that ``import innverse`` stays cheap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .lazy import lazy

__version__ = "0.1.0"

if TYPE_CHECKING:
    from . import amortized as amortized
    from . import bijections as bijections
    from . import coding as coding
    from . import data as data
    from . import flows as flows
    from . import generators as generators
    from . import metrics as metrics
    from . import nets as nets
    from . import physics as physics
    from . import protocols as protocols
    from . import solvers as solvers
    from . import train as train
    from . import zoo as zoo
    from .clusters.connect import cluster as cluster
    from .fitting.fit import fit as fit
    from .flows.flow import Flow as Flow
    from .restoration.run import restore as restore
    from .solvers.reconstruction import Reconstruction as Reconstruction
    from .solvers.solve import solve as solve
    from .zoo import load as load

__getattr__, __dir__, __all__ = lazy(__name__)
__all__ += ["__version__"]
