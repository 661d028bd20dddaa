"""Kernels in C++ where a formula needs too many passes over memory for PyTorch's operations.

Each is compiled at its first use (about a second, kept in the user's cache folder), and each has its
formula in PyTorch, which takes over where there is no compiler, on a GPU and in float64.
INNVERSE_NATIVE=0 turns them off.
"""

from .build import Unavailable as Unavailable
from .build import load as load
