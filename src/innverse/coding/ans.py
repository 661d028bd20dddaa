"""Asymmetric numeral systems: a stack of bits on which symbols of any distribution are laid.

A head x in [2^31, 2^63) and words of 32 bits. A symbol with [start, start + freq) of 2^28 goes on by

    x <- (x // freq) 2^28 + x % freq + start,    log2(2^28 / freq) bits more

and comes off by the inverse (rANS; Duda 2013, arXiv 1311.2540). Several heads, the lanes, share the
words (Giesen 2014, arXiv 1402.3392). What comes off an empty stack is borrowed: random words
that the decoder finds at its end, and can check.
"""

from __future__ import annotations

import numpy as np

from .exact import exp

P = 28  # bits of the frequencies
_LOWEST = np.uint64(1 << 31)
_WORD = np.uint64(32)
_ALL = np.uint64((1 << 32) - 1)
_SLOTS = np.uint64((1 << P) - 1)
_P = np.uint64(P)
_ONE = np.uint64(1)
_REACH, _CELL = 32, 64  # of the table of the normal: to 32 deviations, cells of 1/64


class Stack:
    """Bits that a coder lays down and takes up again, last in first out.

    Args:
        lanes: heads that work side by side.
        heads, words: of a stack that was laid down before; without them it is empty.

    Example:
        >>> import numpy as np
        >>> stack = Stack(2)
        >>> stack.push_below(np.array([3, 5, 1]), np.array([7, 7, 7]))
        >>> stack.pop_below(np.array([7, 7, 7])).tolist()
        [3, 5, 1]
    """

    def __init__(self, lanes: int, heads: np.ndarray | None = None, words: list[int] | None = None):
        self.lanes = lanes
        self._lender = np.random.PCG64(0)
        begun = _LOWEST | self._lender.random_raw(lanes) & _LOWEST - _ONE
        self.heads = begun if heads is None else heads
        self.words: list[int] = [] if words is None else words
        self._lent = 0  # words

    @property
    def borrowed(self) -> int:
        """Bits: 31 in each head, and all words that were taken off the empty stack."""
        return 31 * self.lanes + 32 * self._lent

    @property
    def is_as_begun(self) -> bool:
        """Whether nothing is left but what was borrowed: all that was laid down came off rightly."""
        begun = Stack(self.lanes)
        lent = begun._lend(len(self.words))
        return self.words == lent and bool((self.heads == begun.heads).all())

    # ---- numbers below n, all alike ---------------------------------------------------------

    def push_below(self, i: np.ndarray, n: np.ndarray) -> None:
        """Numbers 0 <= i < n <= 2^24 (m,) each, any m."""
        i, n = i.astype(np.uint64), n.astype(np.uint64)
        for first in range(0, len(i), self.lanes):
            self._push_below(i[first : first + self.lanes], n[first : first + self.lanes])

    def pop_below(self, n: np.ndarray) -> np.ndarray:
        """The inverse of `push_below`: int64 (m,)."""
        n = n.astype(np.uint64)
        out = np.empty(len(n), np.uint64)
        for first in reversed(range(0, len(n), self.lanes)):
            out[first : first + self.lanes] = self._pop_below(n[first : first + self.lanes])
        return out.astype(np.int64)

    def scale(self, x: np.ndarray, r: np.ndarray, s: np.ndarray) -> np.ndarray:
        """The whole numbers x (m,) times r / s, bijectively: what rounding takes goes on the stack.

        r x + (a number below r, off the stack) = s z + (a number below s, onto it); the stack grows by
        log2(s / r) bits, which is the log-determinant (iFlow, Zhang et al. 2021, arXiv 2111.00965).
        """
        z, m, lanes = np.empty_like(x), len(x), self.lanes
        below_r, below_s = r.astype(np.uint64), s.astype(np.uint64)
        for first in range(0, m, lanes):
            part = slice(first, first + lanes)
            y = r[part] * x[part] + self._pop_below(below_r[part]).view(np.int64)
            z[part], rest = np.divmod(y, s[part])
            self._push_below(rest.view(np.uint64), below_s[part])
        return z

    def unscale(self, z: np.ndarray, r: np.ndarray, s: np.ndarray) -> np.ndarray:
        """The inverse of `scale`."""
        x, m, lanes = np.empty_like(z), len(z), self.lanes
        below_r, below_s = r.astype(np.uint64), s.astype(np.uint64)
        for first in reversed(range(0, m, lanes)):
            part = slice(first, first + lanes)
            y = s[part] * z[part] + self._pop_below(below_s[part]).view(np.int64)
            x[part], rest = np.divmod(y, r[part])
            self._push_below(rest.view(np.uint64), below_r[part])
        return x

    # ---- standard normal numbers ------------------------------------------------------------

    def push_normal(self, z: np.ndarray, bits: int) -> None:
        """Whole numbers z (m,) in units of 2^-bits, under N(0, 1); bits >= 6."""
        inside = bits - 6  # a cell of 1/64 is taken to be flat
        cell, rest = np.divmod(z, 1 << inside)
        cell = cell + _REACH * _CELL + 1
        last = len(_CUMULATIVE) - 2
        out = (cell <= 0) | (cell >= last)
        if out.any():  # beyond 32 deviations: as they are, in 48 bits
            raw = z[out] + (1 << 47)
            for shift in (0, 16, 32):
                digits = raw >> shift & 0xFFFF
                self.push_below(digits, np.full(len(digits), 1 << 16))
            rest = np.where(out, 0, rest)
        self.push_below(rest, np.full(len(z), 1 << inside))
        cell = np.clip(cell, 0, last)
        for first in range(0, len(z), self.lanes):
            i = cell[first : first + self.lanes]
            self._push(_CUMULATIVE[i], _CUMULATIVE[i + 1] - _CUMULATIVE[i])

    def pop_normal(self, m: int, bits: int) -> np.ndarray:
        """The inverse of `push_normal`: m whole numbers."""
        inside, cell = bits - 6, np.empty(m, np.int64)
        for first in reversed(range(0, m, self.lanes)):
            cell[first : first + self.lanes] = self._pop_normal(min(self.lanes, m - first))
        rest = self.pop_below(np.full(m, 1 << inside))
        z = ((cell - 1 - _REACH * _CELL) << inside) + rest
        out = (cell <= 0) | (cell >= len(_CUMULATIVE) - 2)
        if out.any():
            raw, each = 0, np.full(int(out.sum()), 1 << 16)
            for _ in range(3):
                raw = (raw << 16) + self.pop_below(each)
            z[out] = raw - (1 << 47)
        return z

    # ---- as many symbols as lanes, or fewer ---------------------------------------------------

    def _push_below(self, i: np.ndarray, n: np.ndarray) -> None:
        start = (i << _P) // n
        self._push(start, ((i + _ONE) << _P) // n - start)

    def _pop_below(self, n: np.ndarray) -> np.ndarray:
        head = self.heads[: len(n)]
        slot = head & _SLOTS
        i = ((slot + _ONE) * n - _ONE) >> _P
        start = (i << _P) // n
        self._pop(head, slot, start, ((i + _ONE) << _P) // n - start)
        return i

    def _pop_normal(self, m: int) -> np.ndarray:
        head = self.heads[:m]
        slot = head & _SLOTS
        i = np.searchsorted(_CUMULATIVE, slot, "right") - 1
        self._pop(head, slot, _CUMULATIVE[i], _CUMULATIVE[i + 1] - _CUMULATIVE[i])
        return i

    def _push(self, start: np.ndarray, freq: np.ndarray) -> None:
        head = self.heads[: len(start)]
        full = head >= freq << np.uint64(63 - P)
        if full.any():
            self.words.extend((head[full] & _ALL).tolist())
            head = np.where(full, head >> _WORD, head)
        whole, rest = np.divmod(head, freq)
        self.heads[: len(start)] = (whole << _P) + rest + start

    def _pop(self, head, slot, start, freq) -> None:
        head = freq * (head >> _P) + slot - start
        low = head < _LOWEST
        if low.any():
            head[low] = head[low] << _WORD | self._take(int(low.sum()))
        self.heads[: len(head)] = head

    def _take(self, k: int) -> np.ndarray:
        lacking = k - len(self.words)
        if lacking > 0:
            self.words[:0] = self._lend(lacking)
            self._lent += lacking
        taken = np.array(self.words[-k:], np.uint64)
        del self.words[-k:]
        return taken

    def _lend(self, k: int) -> list[int]:
        """The next k words that are borrowed, the first of them on top."""
        return (self._lender.random_raw(k) & _ALL).tolist()[::-1]


def _normal_table() -> np.ndarray:
    """Where the cells of N(0, 1) begin among 2^28 slots; the first and the last are for all beyond."""
    middle = (np.arange(2 * _REACH * _CELL) + 0.5) / _CELL - _REACH
    density = np.concatenate([[0.0], exp(-0.5 * middle * middle), [0.0]])
    free = (1 << P) - len(density)  # each has a slot of its own
    share = np.floor(density * (free / (_CELL * 2.5066282746310002))).astype(np.int64) + 1
    share[len(share) // 2] += (1 << P) - int(share.sum())
    return np.concatenate([[0], np.cumsum(share)]).astype(np.uint64)


_CUMULATIVE = _normal_table()
