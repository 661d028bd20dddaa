"""A report in a single HTML file: no scripts, no links to other files, readable anywhere."""

from __future__ import annotations

import base64
import io
import math
import os
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import PIL.Image
from torch import Tensor

from ..data.atomic import atomic_write
from ..errors import UsageError
from .heat import Heat, as_picture, gradient
from .table import Table

_STYLE = """
:root { color-scheme: light dark; --paper: #fdfdfc; --ink: #1d1d1b; --soft: #66645f;
  --line: #dddad3; --tint: #f3f1ec; --mark: #2f6fb3; --warn: #b3541e; }
@media (prefers-color-scheme: dark) { :root { --paper: #161718; --ink: #e8e6e1; --soft: #a19d95;
  --line: #37383a; --tint: #202224; --mark: #7fb2e5; --warn: #e59a6b; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 17px/1.6 Charter, "Bitstream Charter", Cambria, Georgia, serif; }
main { max-width: 70rem; margin: 0 auto; padding: 2.5rem 1.25rem 5rem; }
h1, h2, h3, table, figcaption, .soft { font-family: system-ui, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 2rem; line-height: 1.2; letter-spacing: -.01em; margin: 0 0 .3rem; }
h2 { font-size: 1.35rem; margin: 3rem 0 .8rem; padding-top: .8rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1.08rem; margin: 2rem 0 .5rem; }
p { margin: .6rem 0; max-width: 42rem; overflow-wrap: anywhere; }
.soft, figcaption { color: var(--soft); font-size: .88rem; line-height: 1.45; }
.note { border-left: 3px solid var(--mark); background: var(--tint); padding: .6rem .9rem;
  border-radius: 0 4px 4px 0; }
.warn { border-left-color: var(--warn); }
.scroll { overflow-x: auto; margin: 1.2rem 0; }
table { border-collapse: collapse; min-width: min(24rem, 100%); font-size: .92rem;
  font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding-bottom: .4rem; }
th, td { padding: .35rem .6rem; text-align: left; max-width: 22rem; }
th:first-child, td:first-child { padding-left: 0; min-width: 8rem; }
th { color: var(--soft); font-weight: 500; border-bottom: 1px solid var(--ink);
  vertical-align: bottom; }
td { border-bottom: 1px solid var(--line); overflow-wrap: break-word; }
.number { text-align: right; }
td.number { white-space: nowrap; }
figure { margin: 1.2rem 0; }
figure img { display: block; max-width: 100%; height: auto; border-radius: 3px; }
figure.labelled { overflow-x: auto; }
figure.labelled img { min-width: min(.8 * var(--width), 67rem); }
figcaption { margin-top: .45rem; }
figcaption b { color: var(--ink); font-weight: 600; }
.plot img { background: #fff; padding: .4rem; }
.pixels img { image-rendering: pixelated; }
.row { display: grid; gap: 1.1rem; margin: 1.2rem 0;
  grid-template-columns: repeat(var(--columns), minmax(0, 1fr)); }
.row figure { margin: 0; min-width: 0; overflow-wrap: anywhere; }
.row.last figure:first-child { grid-column-start: var(--first); }
.row img { width: 100%; }
@media (max-width: 38rem) {
  .row { grid-template-columns: repeat(var(--narrow), minmax(0, 1fr)); }
  .row.last figure:first-child { grid-column-start: auto; }
}
nav { background: var(--tint); border-radius: 4px; padding: .7rem 1rem; margin: 1.4rem 0; }
nav ol { margin: 0; padding-left: 1.4rem; max-width: 52rem; }
nav li { margin: .35rem 0; }
a { color: var(--mark); text-decoration: none; }
a:hover { text-decoration: underline; }
pre { background: var(--tint); padding: .8rem 1rem; border-radius: 4px; overflow-x: auto;
  font-size: .82rem; line-height: 1.5; }
@media print { main { max-width: none; } figure, tr { break-inside: avoid; } }
.scale { display: flex; align-items: center; gap: .4rem; font-size: .8rem; color: var(--soft);
  font-family: system-ui, "Segoe UI", Roboto, sans-serif; margin-top: .35rem; }
.scale i { flex: 1; height: .6rem; border-radius: 2px; print-color-adjust: exact;
  background: GRADIENT; }
""".replace("GRADIENT", gradient())

_MOST_IN_A_ROW = 4
_PIXELS_OF_AN_INCH = 96  # in CSS
_CONTENTS = "<!-- contents -->"  # stands for them until all headings are known


class Report:
    """Builds the page from top to bottom; every method appends one block and returns the report.

    All text is escaped: it is shown as it was given, whatever it contains.

    Example:
        >>> page = Report("Half of the pixels missing", "cameraman, seed 0")
        >>> _ = page.heading("Result").text("Total variation against the flow.")
        >>> page.save("report.html").name
        'report.html'
    """

    def __init__(self, title: str, subtitle: str = ""):
        self.title = title
        self._headings: list[tuple[str, str, str]] = []  # (anchor, text, summary) of level 2
        self._blocks = [f"<h1>{escape(title)}</h1>"]
        if subtitle:
            self._blocks.append(f'<p class="soft">{escape(subtitle)}</p>')

    def heading(self, text: str, level: int = 2, summary: str = "") -> Report:
        """A heading of level 2 or 3; ``summary`` stands beside it in the table of contents."""
        if level not in (2, 3):
            raise UsageError(f"heading level {level} is not 2 or 3")
        if level == 3:
            return self._add(f"<h3>{escape(text)}</h3>")
        anchor = f"s{len(self._headings) + 1}"
        self._headings.append((anchor, text, summary))
        return self._add(f'<h2 id="{anchor}">{escape(text)}</h2>')

    def contents(self) -> Report:
        """Links to all headings of level 2, also those that come later."""
        return self._add(_CONTENTS)

    def text(self, text: str) -> Report:
        """A paragraph; blank lines start new ones."""
        for paragraph in text.split("\n\n"):
            self._add(f"<p>{escape(paragraph)}</p>")
        return self

    def note(self, text: str, warning: bool = False) -> Report:
        """A paragraph that is set apart."""
        return self._add(f'<p class="note{" warn" if warning else ""}">{escape(text)}</p>')

    def code(self, text: str) -> Report:
        """Preformatted text, such as a command or a configuration."""
        return self._add(f"<pre>{escape(text)}</pre>")

    def table(self, table: Table) -> Report:
        """A table; it scrolls sideways on a narrow screen."""
        return self._add(table_html(table))

    def image(
        self,
        image: Tensor | PIL.Image.Image | Heat,
        title: str = "",
        caption: str = "",
        pixels: bool = False,
        labelled: bool = False,
    ) -> Report:
        """One image: a tensor (C, H, W) in [0, 1], a Pillow image, or a `Heat`, which brings its
        scale; ``pixels`` keeps enlarged pixels sharp. On a narrow screen one with words in it
        (``labelled``) scrolls sideways instead of shrinking."""
        picture = as_picture(image)
        width = picture.width if labelled else None
        kind = "pixels" if pixels else ""
        return self._add(_figure(png_uri(picture), title, caption, kind, width, scale_html(image)))

    def animation(self, gif: bytes, title: str = "", caption: str = "") -> Report:
        """An animated GIF, pixel by pixel."""
        return self._add(_figure(_uri("gif", gif), title, caption, "pixels"))

    def images(
        self,
        images: Sequence[tuple[str, str, Tensor | PIL.Image.Image | Heat]],
        pixels: bool = False,
        columns: int | None = None,
    ) -> Report:
        """Several images (title, subtitle, image) side by side, up to four in a row.

        No image is left alone in a row: more than four are cut into rows of about one length, and
        on a narrow screen stand two in a row, or one if their number is odd. With ``columns`` more
        than there are images they fill the last of so many, below those of a longer row.
        """
        kind, n = "pixels" if pixels else "", len(images)
        columns = columns or math.ceil(n / math.ceil(n / _MOST_IN_A_ROW))
        style = f"--columns: {columns}; --narrow: {1 if n % 2 else 2}; --first: {columns - n + 1}"
        figures = [
            _figure(png_uri(as_picture(i)), title, text, kind, scale=scale_html(i))
            for title, text, i in images
        ]
        row = "row last" if columns > n else "row"
        return self._add(f'<div class="{row}" style="{style}">\n' + "\n".join(figures) + "\n</div>")

    def figure(self, figure: Any, title: str = "", caption: str = "") -> Report:
        """A matplotlib figure, embedded as a vector drawing; wide ones scroll on a narrow screen."""
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
        width = round(_PIXELS_OF_AN_INCH * figure.get_size_inches()[0])
        uri = _uri("svg+xml", buffer.getvalue())
        return self._add(_figure(uri, title, caption, "plot", width))

    def html(self) -> str:
        """The whole page."""
        return (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{escape(self.title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n"
            + "\n".join(self._contents() if b == _CONTENTS else b for b in self._blocks)
            + "\n</main>\n</body>\n</html>\n"
        )

    def save(self, path: str | os.PathLike) -> Path:
        """Write the page atomically.

        Raises:
            InnverseError: the place cannot be written to.
        """
        return atomic_write(path, self.html())

    def _contents(self) -> str:
        lines = [
            f'<li><a href="#{anchor}">{escape(text)}</a>'
            + (f'<br><span class="soft">{escape(summary)}</span>' if summary else "")
            + "</li>"
            for anchor, text, summary in self._headings
        ]
        return "<nav><ol>\n" + "\n".join(lines) + "\n</ol></nav>"

    def _add(self, block: str) -> Report:
        self._blocks.append(block)
        return self


def table_html(table: Table) -> str:
    """A table in a frame within which it scrolls."""
    columns = range(len(table.headers))
    kind = [' class="number"' if table.is_numeric(c) else "" for c in columns]
    lines = ['<div class="scroll"><table>']
    if table.title:
        lines.append(f"<caption>{escape(table.title)}</caption>")
    cells = [f"<th{kind[c]}>{escape(str(table.headers[c]))}</th>" for c in columns]
    lines.append("<thead><tr>" + "".join(cells) + "</tr></thead><tbody>")
    for r, row in enumerate(table.rows):
        cells = []
        for c, value in enumerate(row):
            text = escape(table.text(value)).replace("-&gt;", "→")  # never cut in two
            text = f"<b>{text}</b>" if table.is_best(r, c) else text
            cells.append(f"<td{kind[c]}>{text}</td>")
        lines.append("<tr>" + "".join(cells) + "</tr>")
    return "\n".join([*lines, "</tbody></table></div>"])


def _figure(
    uri: str, title: str, caption: str, kind: str, width: int | None = None, scale: str = ""
) -> str:
    """``width`` in pixels is that below which the image should not shrink."""
    words = [f"<b>{escape(title)}</b>"] if title else []
    words += [escape(caption)] if caption else []
    below = f"<figcaption>{'<br>'.join(words)}</figcaption>" if words else ""
    alt = escape(": ".join(part for part in (title, caption) if part))
    kind, style = (kind, "") if width is None else (f"{kind} labelled", f"--width: {width}px")
    image = f'<img src="{uri}" alt="{alt}">{scale}'
    return f'<figure class="{kind.strip()}" style="{style}">{image}{below}</figure>'


def scale_html(image: Any) -> str:
    """What the colours of a map mean."""
    if not isinstance(image, Heat):
        return ""
    low, high = image.ends
    return f'<div class="scale"><span>{low}</span><i></i><span>{high}</span></div>'


def png_uri(picture: PIL.Image.Image) -> str:
    """A picture within its page."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return _uri("png", buffer.getvalue())


def _uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
