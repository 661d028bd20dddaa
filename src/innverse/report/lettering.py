"""Words and enlarged pixels, by Pillow alone."""

from __future__ import annotations

import unicodedata

import PIL.Image
import PIL.ImageFont

# The font inside Pillow has little beyond ASCII; these are written out.
_SPELLED = {
    "σ": "sigma", "γ": "gamma", "λ": "lambda", "μ": "mu", "µ": "u", "×": "x", "–": "-", "—": "-",
    "−": "-", "→": "->", "²": "^2", "’": "'", "“": '"', "”": '"', "∞": "inf", "≥": ">=", "≤": "<=",
}  # fmt: skip


def enlarge(picture: PIL.Image.Image, cell: int) -> PIL.Image.Image:
    """By a whole factor, without smoothing, towards ``cell`` pixels in width."""
    factor = max(1, cell // picture.width)
    return picture.resize(
        (picture.width * factor, picture.height * factor), PIL.Image.Resampling.NEAREST
    )


def font(size: int) -> PIL.ImageFont.FreeTypeFont | PIL.ImageFont.ImageFont:
    return PIL.ImageFont.load_default(size)


def fit(text: str, size: int, width: int, ink: str) -> tuple:
    """(text, ink, font) with which it is no wider than ``width``."""
    text = _spell(text)
    for smaller in (size, round(0.9 * size), round(0.8 * size)):
        letters = font(smaller)
        if letters.getlength(text) <= width:
            return text, ink, letters
    while text and letters.getlength(text + "...") > width:
        text = text[:-1]
    return text.rstrip() + "...", ink, letters


def _spell(text: str) -> str:
    """The text in the letters that Pillow's own font has."""
    text = "".join(_SPELLED.get(letter, letter) for letter in " ".join(text.split()))
    plain = unicodedata.normalize("NFKD", text)
    return "".join(
        c if c.isascii() or c in "±·" else "?" for c in plain if not unicodedata.combining(c)
    )
