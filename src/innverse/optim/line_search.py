"""The strong Wolfe line search of one item, as a conversation about scalars.

The optimiser evaluates many items at once; each item owns one `LineSearch`, asks it for the next
`step` and tells it the value and slope found there.
"""

from __future__ import annotations

import math

ARMIJO = 1e-4
CURVATURE = 0.9
MAX_TRIALS = 25


class LineSearch:
    """Find t with phi(t) <= phi(0) + c1 t phi'(0) and |phi'(t)| <= c2 |phi'(0)|.

    Bracketing and zooming after Nocedal & Wright, Numerical Optimization, section 3.5, with
    safeguarded cubic interpolation. Near a minimum differences of phi drown in rounding; a step
    is then judged by its slope alone (approximate Wolfe conditions, Hager & Zhang 2005).

    Args:
        value, slope: phi(0) and phi'(0) < 0.
        step: the first trial, > 0.
        rounding: differences of phi below this mean nothing.
    """

    def __init__(self, value: float, slope: float, step: float, rounding: float):
        self.value0, self.slope0, self.rounding = value, slope, rounding
        self.step = step
        self.trials = 0
        self.finite_trials = 0
        self.contradicted = False
        # lo: the best point so far; hi: the other end of the bracket, None while expanding
        self.lo = (0.0, value, slope)
        self.hi: tuple[float, float, float] | None = None

    def tell(self, value: float, slope: float) -> str:
        """Judge the trial at `step`.

        Returns:
            "accept": this trial is the new point.
            "better": it is not, but it is the best so far (`lo`); evaluate the new `step`.
            "again": evaluate the new `step`.
            "settle": no trials left; `lo` is lower than the start, take it.
            "fail": no trials left and nothing lower was found.
        """
        t, verdict = self.step, "again"
        self.trials += 1
        finite = math.isfinite(value) and math.isfinite(slope)
        if finite:
            self.finite_trials += 1
            # higher, and yet the slope says that it was downhill all the way
            rose = value - self.value0 > 10 * self.rounding
            self.contradicted |= rose and slope < 0.5 * self.slope0
        if finite and self._accepts(t, value, slope):
            return "accept"
        if not finite:
            self.hi = (t, math.inf, math.nan)
        elif not self._decreases(t, value) or value >= self.lo[1] + self.rounding:
            self.hi = (t, value, slope)
        else:
            ahead = 1.0 if self.hi is None else self.hi[0] - self.lo[0]
            if slope * ahead >= 0:
                self.hi = self.lo
            before, self.lo, verdict = self.lo, (t, value, slope), "better"
            if self.hi is None:
                self.step = _extrapolate(before, self.lo)
        if self.hi is not None:
            self.step = self._interpolate(self.hi)
        width = math.inf if self.hi is None else abs(self.hi[0] - self.lo[0])
        hopeless = -self.slope0 * max(self.step, self.lo[0] + width) <= 0.1 * self.rounding
        if self.trials >= MAX_TRIALS or hopeless or width <= 1e-12 * max(self.lo[0], t):
            if not self.lo[1] < self.value0:
                return "fail"
            return "accept" if verdict == "better" else "settle"
        return verdict

    def at_rounding(self) -> bool:
        """Whether a failed search only says that nothing lower than rounding is left.

        A gradient that contradicts the values, or a neighbourhood of NaN, says something else.
        """
        return self.finite_trials > 0 and not self.contradicted

    def _decreases(self, t, value):
        sufficient = value <= self.value0 + ARMIJO * t * self.slope0
        return sufficient or value <= self.value0 + self.rounding

    def _accepts(self, t, value, slope):
        if value <= self.value0 + ARMIJO * t * self.slope0:
            return abs(slope) <= -CURVATURE * self.slope0
        flat = CURVATURE * self.slope0 <= slope <= (2 * ARMIJO - 1) * self.slope0
        return value <= self.value0 + self.rounding and flat

    def _interpolate(self, hi: tuple[float, float, float]) -> float:
        (a, fa, da), (b, fb, db) = self.lo, hi
        if not math.isfinite(fb):
            # outside the domain: only the side is known
            return a + 0.1 * (b - a) if self.trials > 1 else a + 0.25 * (b - a)
        if abs(fa - fb) <= self.rounding and da * db < 0:
            t = a - da * (b - a) / (db - da)
        else:
            t = _cubic(a, fa, da, b, fb, db)
        near, far = a + 0.1 * (b - a), a + 0.9 * (b - a)
        return min(max(t, min(near, far)), max(near, far))


def _cubic(a, fa, da, b, fb, db) -> float:
    """Minimiser of the cubic through two values and slopes; the middle if it has none."""
    if a == b:
        return a
    d1 = da + db - 3 * (fa - fb) / (a - b)
    square = d1 * d1 - da * db
    if not square >= 0:
        return 0.5 * (a + b)
    d2 = math.copysign(math.sqrt(square), b - a)
    denominator = db - da + 2 * d2
    if denominator == 0:
        return 0.5 * (a + b)
    return b - (b - a) * (db + d2 - d1) / denominator


def _extrapolate(before, here) -> float:
    """The next, longer step while the function still falls."""
    t = _cubic(*before, *here)
    low, high = here[0] + 0.5 * (here[0] - before[0]), 10 * here[0]
    return min(max(t, low), high) if t > here[0] else high
