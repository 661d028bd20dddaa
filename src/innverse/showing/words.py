"""Texts of anybody's, fit to be shown."""

from __future__ import annotations


def words(text: object, most: int = 300) -> str:
    """On one line, printable and not too long.

    Example:
        >>> words("a\\n b\\x1b[31m", 5)
        'a b …'
    """
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)[: 4 * most]).split())
    return line if len(line) <= most else line[: most - 1] + "…"
