"""Pages of the site that are made of other files: benchmarks, changelog, contributing, llms.txt.

Pages are written to be read in the repository; their links to files that are pages of the site too are
turned into links to these.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
RESULTS = ROOT / "benchmarks" / "results"
COPIES = {
    ROOT / "CHANGELOG.md": "about/changelog.md",
    ROOT / "CONTRIBUTING.md": "about/contributing.md",
}
_LINK = re.compile(r"\]\(([^)\s:]+?)(#[^)\s]*)?\)")
_FENCE = re.compile(r"^```.*?^```", re.S | re.M)
_SUMMARY = (
    "Invertible neural networks (normalizing flows) on PyTorch: exact densities of images and "
    "tables, and priors for inverse problems, with error bars."
)


def page_of(file: Path) -> Path:
    """Where a file of the repository stands in the site; itself if it is no page."""
    if file == ROOT / "README.md":
        return DOCS / "index.md"
    if file.parent == RESULTS and file.suffix == ".md":
        return DOCS / "benchmarks" / file.name
    return DOCS / COPIES[file] if file in COPIES else file


def relink(text: str, written_in: Path, read_in: Path) -> str:
    """``text`` of a file in the folder ``written_in``, with the links of a page in ``read_in``."""

    def link(found: re.Match) -> str:
        file = (written_in / found[1]).resolve()
        page = page_of(file)
        if not file.exists() or (page == file and written_in == read_in):
            return found[0]
        return f"]({os.path.relpath(page, read_in)}{found[2] or ''})"

    code = [found.span() for found in _FENCE.finditer(text)]
    return _LINK.sub(lambda m: m[0] if any(a <= m.start() < b for a, b in code) else link(m), text)


def relink_source(app, docname: str, source: list[str]) -> None:
    file = Path(app.env.doc2path(docname))
    if file.suffix == ".md":
        source[0] = relink(source[0], file.parent, file.parent)


def write(docs: Path) -> None:
    """The changelog, how to contribute, and a page for every benchmark."""
    for file, page in COPIES.items():
        _write(docs / page, relink(file.read_text("utf-8"), ROOT, (docs / page).parent))
    folder = docs / "benchmarks"
    names = sorted(
        {f.stem for f in RESULTS.glob("*.json*")} | {f.stem for f in RESULTS.glob("*.md")}
    )
    rows = [_benchmark(name, folder) for name in names if not name.startswith(".")]
    intro = (docs / "about" / "benchmarks.in").read_text("utf-8")
    pages = "\n".join(name for name in names if (RESULTS / f"{name}.md").exists())
    head = "| what was measured | raw numbers | machine |\n|---|---|---|\n"
    toctree = f"```{{toctree}}\n:hidden:\n\n{pages}\n```\n"
    _write(folder / "index.md", f"{intro}\n{head}{''.join(rows)}\n{toctree}")


def _benchmark(name: str, folder: Path) -> str:
    """Writes the page, if there is one, and returns the row of the index."""
    raw = next((f for f in RESULTS.glob(f"{name}.json*")), None)
    link = f"[{raw.name}]({os.path.relpath(raw, folder)})" if raw else ""
    machine = _machine(raw) if raw and raw.suffix == ".json" else ""
    page = RESULTS / f"{name}.md"
    if not page.exists():
        return f"| {name} | {link} | {machine} |\n"
    text = page.read_text("utf-8")
    title = text.partition("\n")[0].lstrip("# ").replace("|", "\\|")
    numbers = f"\n\n---\n\nRaw numbers: {link}. {machine}\n" if raw else ""
    _write(folder / page.name, relink(text, RESULTS, folder) + numbers)
    return f"| [{title}]({page.name}) | {link} | {machine} |\n"


def _machine(raw: Path) -> str:
    found = json.loads(raw.read_text("utf-8"))
    machine: dict[str, Any] = found.get("machine", {}) if isinstance(found, dict) else {}
    if "processor" not in machine:
        return ""
    threads = machine.get("threads", 1)
    words = f"{machine['processor']}, {threads} thread{'s' if threads > 1 else ''}"
    return f"{words}, torch {machine['torch']}" if "torch" in machine else words


def _write(page: Path, text: str) -> None:
    """Unless it is there: what has not changed is not read again."""
    page.parent.mkdir(parents=True, exist_ok=True)
    if not page.exists() or page.read_text("utf-8") != text:
        page.write_text(text, "utf-8")


def without_foreign_hosts(app, pagename, templatename, context, doctree) -> None:
    """Animations of matplotlib ask another host for a font of icons that the theme has itself."""
    foreign = r'<link rel="stylesheet"\s*href="https?://[^"]*font-awesome[^"]*">'
    if "body" in context:
        context["body"] = re.sub(foreign, "", context["body"])


def write_llms_txt(app, exception) -> None:
    """A list of all pages for readers who are programs (llmstxt.org), with their sources in text."""
    if exception or app.builder.format != "html":
        return
    env = app.env
    lines = ["# innverse", "", f"> {_SUMMARY}", ""]
    for section in ("start", "howto", "guide", "gallery", "benchmarks", "reference", "about"):
        names = [n for n in sorted(env.found_docs) if _section(n) == section]
        lines += [f"## {section.capitalize()}", ""]
        for name in names:
            source = f"_sources/{name}{Path(env.doc2path(name)).suffix}.txt"
            lines.append(f"- [{env.titles[name].astext()}]({source})")
        lines.append("")
    Path(app.outdir, "llms.txt").write_text("\n".join(lines), "utf-8")


def _section(name: str) -> str:
    folder, _, rest = name.partition("/")
    if folder == "reference" and rest.count("/"):
        return ""  # a room's page lists its names
    return folder if rest else "guide"
