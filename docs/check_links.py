"""Walks a built site: every internal link leads somewhere, and nothing is loaded from another host.

python docs/check_links.py docs/_build/html
"""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class _Page(HTMLParser):
    """What a page links to, what it loads, and its anchors."""

    def __init__(self, text: str):
        super().__init__()
        self.links: set[str] = set()
        self.loaded: set[str] = set()
        self.anchors = {"", "top"}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.anchors |= {found[key] for key in ("id", "name") if found.get(key)}
        if found.get("src"):
            self.loaded.add(found["src"])
        if found.get("href"):
            passive = tag == "a" or found.get("rel") in ("next", "prev", "canonical")
            (self.links if passive else self.loaded).add(found["href"])


def mistakes(site: Path) -> list[str]:
    """One line for each dead link and each foreign host, sorted."""
    pages = {
        f: _Page(f.read_text("utf-8"))
        for f in sorted(site.rglob("*.html"))
        if "_static" not in f.parts
    }
    found = set()
    for file, page in pages.items():
        here = file.relative_to(site)
        for url in page.links | page.loaded:
            parts = urlsplit(url)
            if parts.scheme in ("data", "mailto", "javascript"):
                continue
            if parts.netloc:
                if url in page.loaded:
                    found.add(f"{here} loads {url}")
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            if target.is_dir():
                target /= "index.html"
            if not target.exists():
                found.add(f"{here}: no {url}")
            elif target in pages and unquote(parts.fragment) not in pages[target].anchors:
                found.add(f"{here}: no anchor {url}")
    return sorted(found)


if __name__ == "__main__":
    lines = mistakes(Path(sys.argv[1]).resolve())
    print(*lines, sep="\n", end="\n" if lines else "")
    sys.exit(f"{len(lines)} mistakes" if lines else 0)
