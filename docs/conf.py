"""The documentation site: `make docs` builds it into docs/_build/html, without a network."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from pygments.lexers.special import TextLexer

import innverse

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import site_pages  # noqa: E402  (beside this file)
import site_reference  # noqa: E402

project = "innverse"
author = "The innverse authors"
copyright = "The innverse authors, Apache-2.0"
version = release = innverse.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build", "lecture"]
templates_path = ["_templates"]
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
suppress_warnings = ["config.cache"]  # the two functions below, which cannot be pickled

# ------------------------------------------------------------------------------------- reference
autosummary_generate = True
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
python_maximum_signature_line_length = 88
default_role = "py:obj"
toc_object_entries = False

# --------------------------------------------------------------------------------------- gallery


def _look(gallery_conf, fname):
    """All pictures in one style."""
    import matplotlib.pyplot as plt

    plt.style.use(HERE / "lecture.mplstyle")


sphinx_gallery_conf = {
    "examples_dirs": "lecture",
    "gallery_dirs": "gallery",
    "filename_pattern": r"/plot_",
    "within_subsection_order": "FileNameSortKey",
    "remove_config_comments": True,
    "plot_gallery": os.environ.get("INNVERSE_DOCS_GALLERY", "1") == "1",
    "matplotlib_animations": (True, "jshtml"),
    "image_scrapers": ("matplotlib",),
    "show_memory": False,
    "show_signature": False,
    "download_all_examples": False,
    "min_reported_time": 1,
    "write_computation_times": False,
    "reset_modules": ("matplotlib", _look),
}

# ------------------------------------------------------------------------------------------ HTML
html_theme = "pydata_sphinx_theme"
html_title = "innverse"
html_static_path = ["_static"]
html_css_files = ["innverse.css"]
html_theme_options = {
    "navbar_end": ["theme-switcher"],
    "header_links_before_dropdown": 8,
    "show_prev_next": True,
    "secondary_sidebar_items": {"[!g]**": ["page-toc"], "g[!a]**": ["page-toc"]},  # not the
    # gallery, whose code is wide
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
html_sidebars = {"index": [], "start/*": []}
mathjax_path = "mathjax/tex-svg.js"  # vendored: no foreign host


def setup(app):
    app.add_lexer("rooms", TextLexer)  # of design.md
    site_pages.write(HERE)
    site_reference.write(HERE / "reference")
    app.connect("source-read", site_pages.relink_source)
    app.connect("html-page-context", site_pages.without_foreign_hosts)
    app.connect("build-finished", site_pages.write_llms_txt)
    app.connect("autodoc-process-docstring", site_reference.escape, priority=100)
