"""What is seen of an object, said twice: in plain words, and as a piece of HTML.

The HTML needs nothing around it and loads nothing: no script, no other host, its own style. It takes
the colours of the page that it stands in (text inherits them, lines are half transparent), and is
legible wherever that page is, light or dark.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Protocol

import PIL.Image
from torch import Tensor

from ..report.heat import Heat, gradient
from ..report.html import png_uri, scale_html, table_html
from ..report.table import Table
from .words import words

_STYLE = """
.innverse { color: inherit; font: 14px/1.45 system-ui, "Segoe UI", Roboto, sans-serif; max-width:
  60rem; text-align: left; }
.innverse p { margin: .25rem 0; overflow-wrap: anywhere; }
.innverse .soft, .innverse figcaption, .innverse th { opacity: .72; }
.innverse .note { border-left: 3px solid #c8553d; padding-left: .6rem; }
.innverse .ok::before { content: "✓ "; color: #2e9e5b; font-weight: 700; }
.innverse .bad::before { content: "✗ "; color: #d9603f; font-weight: 700; }
.innverse .facts { display: grid; grid-template-columns: max-content 1fr; gap: .1rem .9rem;
  margin: .4rem 0; overflow-wrap: anywhere; }
.innverse .facts i { font-style: normal; opacity: .72; }
.innverse .scroll { overflow-x: auto; margin: .5rem 0; }
.innverse table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums;
  margin: 0; }
.innverse tr, .innverse th, .innverse td { background: none !important; color: inherit !important;
  text-align: left !important; border: 0; border-bottom: 1px solid rgba(128, 128, 128, .35);
  padding: .2rem .7rem .2rem 0; max-width: none; white-space: nowrap; vertical-align: middle; }
.innverse td:last-child { white-space: normal; min-width: 12rem; }
.innverse th { font-weight: 500; }
.innverse .number { text-align: right !important; }
.innverse .pictures { display: flex; flex-wrap: wrap; gap: .8rem; margin: .5rem 0; }
.innverse figure { margin: 0; }
.innverse img { display: block; image-rendering: pixelated; max-width: 100%; margin: 0;
  border-radius: 2px; }
.innverse figcaption { font-size: 12px; text-align: left; }
.innverse .scale { display: flex; gap: .35rem; align-items: center; font-size: 12px; }
.innverse .scale i { flex: 1; height: .55rem; border-radius: 2px; background: GRADIENT; }
.innverse details { margin-left: 1.1rem; }
.innverse summary, .innverse .leaf { display: flex; gap: .8rem; padding: .06rem 0; font-size:
  13px; border-bottom: 1px solid rgba(128, 128, 128, .18); }
.innverse summary { cursor: pointer; list-style: none; margin-left: -1.1rem; }
.innverse summary::-webkit-details-marker { display: none; }
.innverse summary::before { content: "▸"; flex: none; width: .3rem; }
.innverse details[open] > summary::before { content: "▾"; }
.innverse .leaf { margin-left: 0; }
.innverse .what { flex: 1; overflow-wrap: anywhere; }
.innverse .shape, .innverse .size { flex: none; width: 7rem; text-align: right; opacity: .72;
  font-variant-numeric: tabular-nums; }
.innverse svg { display: block; max-width: 100%; height: auto; overflow: visible; }
.innverse svg text { fill: currentColor; font: 11px system-ui, sans-serif; }
""".replace("GRADIENT", gradient())


class Block(Protocol):
    """A part of a card."""

    def text(self) -> str:
        """Lines without a last break; none where only eyes have something of it."""
        ...

    def html(self) -> str: ...


@dataclass
class Facts:
    """Names and their values, one a line."""

    facts: dict[str, str]

    def text(self) -> str:
        facts = {words(name): words(value) for name, value in self.facts.items()}
        width = max(map(len, facts), default=0)
        return "\n".join(f"  {name:<{width}}  {value}" for name, value in facts.items())

    def html(self) -> str:
        pairs = (
            f"<i>{escape(words(k))}</i><span>{escape(words(v))}</span>"
            for k, v in self.facts.items()
        )
        return f'<div class="facts">{"".join(pairs)}</div>'


@dataclass
class Note:
    """A sentence that should not be missed."""

    words: str

    def text(self) -> str:
        return f"  ! {words(self.words)}"

    def html(self) -> str:
        return f'<p class="note">{escape(words(self.words))}</p>'


@dataclass
class Soft:
    """A sentence for those who read on."""

    words: str

    def text(self) -> str:
        return f"  {words(self.words)}"

    def html(self) -> str:
        return f'<p class="soft">{escape(words(self.words))}</p>'


@dataclass
class Rows:
    """A table."""

    table: Table

    def text(self) -> str:
        return "\n".join(f"  {line}" for line in self.table.markdown().splitlines())

    def html(self) -> str:
        return table_html(self.table)


@dataclass
class Pictures:
    """Pictures side by side, (title, picture, caption); words have nothing of them."""

    pictures: Sequence[tuple[str, PIL.Image.Image | Heat, str]]
    width: int = 0
    """In CSS pixels, to which small ones are enlarged."""

    def text(self) -> str:
        return ""

    def html(self) -> str:
        return f'<div class="pictures">{"".join(self._figure(*p) for p in self.pictures)}</div>'

    def _figure(self, title: str, picture: PIL.Image.Image | Heat, caption: str) -> str:
        image = picture.image() if isinstance(picture, Heat) else picture
        width = image.width * max(1, round(self.width / image.width))
        below = escape(words(title)) + (f"<br>{escape(words(caption))}" if caption else "")
        return (
            f'<figure style="width:{width}px"><img src="{png_uri(image)}" alt="{escape(words(title))}" '
            f'width="{width}">{scale_html(picture)}<figcaption>{below}</figcaption></figure>'
        )


@dataclass
class Card:
    """All of it: what it is, how it ended where it can fail, and its parts.

    Example:
        >>> card = Card("Lamp", "60 watts", True, "bright", [Facts({"colour": "<white>"})])
        >>> print(card.text())
        Lamp: 60 watts, bright
          colour  <white>
        >>> "<span>&lt;white&gt;</span>" in card.html()
        True
    """

    title: str
    words: str = ""
    good: bool | None = None
    verdict: str = ""
    blocks: list[Block] = field(default_factory=list)

    def text(self) -> str:
        first = ", ".join(words(w) for w in (self.words, self.verdict) if w)
        below = [text for block in self.blocks if (text := block.text())]
        return "\n".join([f"{words(self.title)}: {first}" if first else words(self.title), *below])

    def html(self) -> str:
        verdict = ""
        if self.verdict:
            kind = "ok" if self.good else "bad"
            verdict = f' <span class="{kind}">{escape(words(self.verdict))}</span>'
        title, said = escape(words(self.title)), escape(words(self.words))
        head = f'<p><b>{title}</b> <span class="soft">{said}</span>{verdict}</p>'
        parts = [f"<style>{_STYLE}</style>", head, *(block.html() for block in self.blocks)]
        return '<div class="innverse">\n' + "\n".join(parts) + "\n</div>"


def shape_of(t: Tensor | Sequence[int]) -> str:
    """A shape as one reads it."""
    return " × ".join(map(str, t.shape if isinstance(t, Tensor) else t))


def number(value: float, digits: int = 3) -> str:
    """So many significant digits."""
    return f"{float(value):.{digits}g}"
