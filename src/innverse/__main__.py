"""``python -m innverse`` and ``torchrun -m innverse``."""

from __future__ import annotations

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
