"""Sphinx configuration. Build with ``python3 dev.py docs``."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

project = "MatEnsemble"
author = "The MatEnsemble developers"
copyright = author
release = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
version = release

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_click",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]

myst_enable_extensions = ["colon_fence", "deflist", "fieldlist"]
myst_heading_anchors = 3

# Docstrings are NumPy style; `name` in them is a Python object where there is one.
default_role = "py:obj"
napoleon_google_docstring = False
napoleon_use_rtype = False
autodoc_default_options = {"members": True}
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_preserve_defaults = True

toc_object_entries_show_parents = "hide"

html_theme = "pydata_sphinx_theme"
html_static_path = ["_static"]
html_css_files = ["custom.css"]
html_title = f"MatEnsemble {release}"
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "navbar_align": "left",
}

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


def keep_prose(app, what, name, obj, options, lines):
    """Mend the docstrings of attributes before napoleon reads them.

    It takes what stands before a colon in the first line for a type; here that line is prose, so
    an empty comment goes before it. What a named tuple says of a field by itself says nothing.
    """
    if what not in ("attribute", "property", "data"):
        return
    if lines and lines[0].startswith("Alias for field number"):
        lines.clear()
    else:
        lines[:0] = ["..", ""]


def setup(app):
    """Connect what this configuration adds to Sphinx."""
    app.connect("autodoc-process-docstring", keep_prose, priority=400)
