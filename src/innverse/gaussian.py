"""The constant of every normal density: log N(x; 0, 1) = -x^2 / 2 - HALF_LOG_2PI."""

from __future__ import annotations

import math

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
